package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// decide implements §6.3.9.6 and §5.2: it returns the stage of a stream.
func (m *model) decide(sid smmuv3.StreamID) bridge.GuestStage {
	if !m.enabled() {
		if m.reg[0x44]>>20&1 != 0 {
			return bridge.GuestStage{Disabled: true}
		}
		return bridge.GuestStage{Disabled: true, Disposition: bridge.Bypass}
	}
	ste, otherwise := m.lookup(sid)
	if ste == nil {
		return otherwise
	}
	return m.stageOf(ste)
}

// lookup implements §3.3.1 for 16 bits of StreamID and 44 of address. It returns the STE, or the
// stage of a stream without an STE.
func (m *model) lookup(sid smmuv3.StreamID) (ste []uint64, otherwise bridge.GuestStage) {
	var noSTE bridge.GuestStage
	if m.reg[0x2c]&2 != 0 { // CR2.RECINVSID
		noSTE.Cause = 0x02
	}
	cfg := uint64(m.reg[0x88])
	base := m.reg64(0x80) & 0x0000_0fff_ffff_ffc0
	log2 := cfg & 63
	index := uint64(sid)
	if index>>min(log2, 16) != 0 {
		return nil, noSTE
	}
	align := log2 + 6
	if cfg>>16&3 == 1 { // two levels
		split := cfg >> 6 & 31
		if split != 6 && split != 8 && split != 10 {
			split = 6
		}
		align = 6
		if log2 > split+3 {
			align = log2 - split + 3
		}
		l1 := base>>align<<align + 8*(index>>split)
		if m.tableBroken {
			return nil, bridge.GuestStage{Cause: 0x03, FetchAddr: guestmem.GPA(l1)}
		}
		l1std := m.mem.Words(guestmem.GPA(l1), 1)[0]
		span := l1std & 31
		index &= 1<<split - 1
		if span == 0 || span > split+1 || index >= 1<<(span-1) {
			return nil, noSTE
		}
		base, align = l1std&0x0000_0fff_ffff_ffc0, span-1+6
	}
	at := base>>align<<align + 64*index
	if m.tableBroken {
		return nil, bridge.GuestStage{Cause: 0x03, FetchAddr: guestmem.GPA(at)}
	}
	return m.mem.Words(guestmem.GPA(at), 4), noSTE
}

// stageOf implements §5.2 for an SMMUv3.0 with 10 bits of SubstreamID and 44 of address.
func (m *model) stageOf(ste []uint64) bridge.GuestStage {
	bad := bridge.GuestStage{Cause: 0x04}
	config := ste[0] >> 1 & 7
	stage1, stage2 := config&1 != 0, config&2 != 0
	switch {
	case ste[0]&1 == 0: // V
		return bad
	case config < 4:
		return bridge.GuestStage{}
	case config == 4:
		return bridge.GuestStage{Disposition: bridge.Bypass}
	case stage1 && m.noS1, stage2 && !m.s2:
		return bad
	}
	s := bridge.GuestStage{Disposition: map[uint64]bridge.Disposition{5: bridge.Translate, 6: bridge.TranslateS2, 7: bridge.TranslateNested}[config]}
	if m.s2 {
		s.S2VMID = smmuv3.VMID(ste[2])
		if s.S2VMID>>8 != 0 && !m.vmid16 {
			return bad
		}
	}
	if m.pri { // and so ATS
		switch ste[1] >> 28 & 3 {
		case 1:
			s.EATS = 1
		case 2:
			return bad
		}
	}
	if stage1 && !m.stage1(ste, &s) || stage2 && !m.stage2(ste, &s) {
		return bad
	}
	return s
}

// stage1 handles the fields with the prefix S1. It returns false if they are ILLEGAL.
func (m *model) stage1(ste []uint64, s *bridge.GuestStage) (legal bool) {
	s.S1ContextPtr = guestmem.GPA(ste[0] & 0x00ff_ffff_ffff_ffc0)
	s.S1CDMax = uint8(ste[0] >> 59)
	s.S1CIR = uint8(ste[1] >> 2 & 3)
	s.S1COR = uint8(ste[1] >> 4 & 3)
	if csh := uint8(ste[1] >> 6 & 3); csh != 1 { // 01 is reserved and behaves as 00
		s.S1CSH = csh
	}
	s.S1STALLD = ste[1]>>27&1 != 0
	if s.S1CDMax != 0 {
		if f := ste[0] >> 4 & 3; f != 3 {
			s.S1Fmt = smmuv3.S1Fmt(f)
		}
		if d := ste[1] & 3; d != 3 {
			s.S1DSS = smmuv3.S1DSS(d)
		}
	}
	return !(s.S1STALLD && !m.stalls) && s.S1CDMax <= 10 && s.S1ContextPtr>>44 == 0
}

// stage2 handles the fields with the prefix S2, for a stage 2 of AArch64 tables and all granules,
// of either endianness, without HTTU, STT, FWB and DS. It returns false if they are ILLEGAL.
func (m *model) stage2(ste []uint64, s *bridge.GuestStage) (legal bool) {
	field := func(lo, width int) uint8 { return uint8(ste[2] >> lo & (1<<width - 1)) }
	flag := func(at int) bool { return ste[2]>>at&1 != 0 }
	s.S2 = smmuv3.Stage2{
		T0SZ: field(32, 6), SL0: field(38, 2), IR0: field(40, 2), OR0: field(42, 2), SH0: field(44, 2), TG: field(46, 2), PS: field(48, 3),
		AA64: flag(51), ENDI: flag(52), AFFD: flag(53), S: flag(57), R: flag(58),
		PTW: flag(54) && s.Disposition == bridge.TranslateNested,
		TTB: ste[3] & 0x0000_ffff_ffff_fff0, // [51:48] came with SMMUv3.1
	}
	if s.S2.SH0 == 1 { // reserved: behaves as 00
		s.S2.SH0 = 0
	}
	if !s.S2.AA64 || flag(55) || flag(56) || s.S2.S && !m.stalls { // S2HD, S2HA
		return false
	}
	if s.S2.TTB>>min(44, []int{32, 36, 40, 42, 44, 48, 48, 48}[s.S2.PS]) != 0 {
		return false
	}
	// The page's log2, and the level at which the walk begins according to S2SL0.
	walk, known := map[[2]uint8][2]int{
		{0b00, 0}: {12, 2}, {0b00, 1}: {12, 1}, {0b00, 2}: {12, 0},
		{0b10, 0}: {14, 3}, {0b10, 1}: {14, 2}, {0b10, 2}: {14, 1},
		{0b01, 0}: {16, 3}, {0b01, 1}: {16, 2}, {0b01, 2}: {16, 1},
	}[[2]uint8{s.S2.TG, s.S2.SL0}]
	// The first table is of at least two entries and at most 16 tables side by side.
	page, level := walk[0], walk[1]
	table := page - 3
	bits := 64 - int(s.S2.T0SZ)
	least := page + table*(3-level) + 1
	return known && bits >= least && bits <= least+table-1+4 && s.S2.T0SZ >= 64-44 && s.S2.T0SZ <= 39
}
