package smmuv3

// Stage2 is a stage 2 as an STE describes it: its fields with the prefix S2, but
// for S2VMID, which stage 1 has too (§5.2). Those without a comment have the
// STE's encodings.
//
//	dw1  S2FWB [25]
//	dw2  S2T0SZ [37:32]  S2SL0 [39:38]  S2IR0 [41:40]  S2OR0 [43:42]  S2SH0 [45:44]
//	     S2TG [47:46]  S2PS [50:48]  S2AA64 [51]  S2ENDI [52]  S2AFFD [53]  S2PTW [54]
//	     S2HD [55]  S2HA [56]  S2S [57]  S2R [58]  S2HAFT [59]
//	dw3  S2SL0_2 [2]  S2DS [3]  S2TTB [51:4]
type Stage2 struct {
	TTB           uint64 // not yet aligned to the table's size
	T0SZ          uint8
	SL0           uint8 // S2SL0_2 is bit 2
	TG            uint8
	PS            uint8
	IR0, OR0, SH0 uint8
	AA64          bool
	DS            bool
	ENDI          bool
	FWB           bool
	PTW           bool
	AFFD          bool
	HA, HD, HAFT  bool
	S, R          bool
}

// Stage2 is the STE's stage 2, whether Config has it translate or not.
func (s *STE) Stage2() Stage2 {
	return Stage2{
		FWB:  bit(s[1], 25),
		T0SZ: uint8(bits(s[2], 32, 6)),
		SL0:  uint8(bits(s[2], 38, 2) | bits(s[3], 2, 1)<<2),
		IR0:  uint8(bits(s[2], 40, 2)),
		OR0:  uint8(bits(s[2], 42, 2)),
		SH0:  uint8(bits(s[2], 44, 2)),
		TG:   uint8(bits(s[2], 46, 2)),
		PS:   uint8(bits(s[2], 48, 3)),
		AA64: bit(s[2], 51),
		ENDI: bit(s[2], 52),
		AFFD: bit(s[2], 53),
		PTW:  bit(s[2], 54),
		HD:   bit(s[2], 55),
		HA:   bit(s[2], 56),
		S:    bit(s[2], 57),
		R:    bit(s[2], 58),
		HAFT: bit(s[2], 59),
		DS:   bit(s[3], 3),
		TTB:  s[3] & (1<<52 - 1) &^ 0xf,
	}
}

// SetStage2 writes the fields of a stage 2 into the STE.
func (s *STE) SetStage2(t Stage2) {
	s[1] = setBit(s[1], 25, t.FWB)
	d := setBits(s[2], 32, 6, uint64(t.T0SZ))
	d = setBits(d, 38, 2, uint64(t.SL0))
	d = setBits(d, 40, 2, uint64(t.IR0))
	d = setBits(d, 42, 2, uint64(t.OR0))
	d = setBits(d, 44, 2, uint64(t.SH0))
	d = setBits(d, 46, 2, uint64(t.TG))
	d = setBits(d, 48, 3, uint64(t.PS))
	d = setBit(d, 51, t.AA64)
	d = setBit(d, 52, t.ENDI)
	d = setBit(d, 53, t.AFFD)
	d = setBit(d, 54, t.PTW)
	d = setBit(d, 55, t.HD)
	d = setBit(d, 56, t.HA)
	d = setBit(d, 57, t.S)
	d = setBit(d, 58, t.R)
	s[2] = setBit(d, 59, t.HAFT)
	s[3] = setBits(s[3], 2, 1, uint64(t.SL0)>>2)
	s[3] = setBit(s[3], 3, t.DS)
	s[3] = setBits(s[3], 4, 48, t.TTB>>4)
}

// Effective is the stage 2 as an SMMU with these ID registers has it: with what
// is RES0 or IGNORED there as zero, so that stages which mean the same are equal.
// nested says that stage 1 translates as well.
func (t Stage2) Effective(ids *IDRegs, nested bool) Stage2 {
	t.TTB &= ids.tableMask()
	t.DS = t.wide(ids)
	if !t.DS || t.Granule() != Granule4K {
		t.SL0 &= 0b11 // S2SL0_2 comes with S2DS and 4 KiB
	}
	t.FWB = t.FWB && ids.Has(FWB)
	t.PTW = t.PTW && nested
	t.HD = t.HD && t.HA // HD alone behaves as neither
	t.AFFD = t.AFFD && !t.HA
	t.HAFT = t.HAFT && ids.Get(HTTU) == 0b11
	return t
}

// wide is the effective S2DS: RES0 without IDR5.DS, and with 64 KiB.
func (t *Stage2) wide(ids *IDRegs) bool {
	return t.DS && ids.Has(DS) && t.Granule() != Granule64K
}

// Granule is S2TG, or 0 for the reserved encoding.
func (t *Stage2) Granule() Granule {
	return [4]Granule{0b00: Granule4K, 0b01: Granule64K, 0b10: Granule16K}[t.TG&3]
}

// Format is how the tables are laid out on an SMMU with these ID registers. Its
// granule is 0 if S2TG is reserved.
func (t *Stage2) Format(ids *IDRegs) Format {
	f := Format{Granule: t.Granule(), Wide: t.wide(ids)}
	if f.Granule == Granule64K {
		f.Wide = ids.OutputBits() >= 52
	}
	return f
}

// InputBits is the size of the IPAs that the tables translate. S2T0SZ is legal.
func (t *Stage2) InputBits() uint { return 64 - uint(t.T0SZ) }

// OutputBits is the effective size of the addresses that stage 2 puts out: S2PS,
// but no more than IDR5.OAS.
func (t *Stage2) OutputBits(ids *IDRegs) uint {
	return min(AddrBits(uint32(t.PS)), ids.OutputBits())
}

// startLevels is the level that S2SL0 has the walk begin at, as VTCR_EL2.{SL2,
// SL0} has it; noLevel for the reserved encodings.
var startLevels = map[Granule][8]int{
	Granule4K:  {2, 1, 0, 3, -1, noLevel, noLevel, noLevel},
	Granule16K: {3, 2, 1, 0, noLevel, noLevel, noLevel, noLevel},
	Granule64K: {3, 2, 1, noLevel, noLevel, noLevel, noLevel, noLevel},
}

const noLevel = 4

// maxConcatenated is log2 of how many tables may stand beside each other at the
// level where the walk of a stage 2 begins.
const maxConcatenated = 4

// StartLevel is the level at which the walk begins. ok is false if S2SL0 is
// inconsistent with S2T0SZ and S2TG, or reserved on an SMMU with these ID
// registers (§5.2, S2SL0).
func (t *Stage2) StartLevel(ids *IDRegs) (level int, ok bool) {
	g, sl0 := t.Granule(), t.SL0&0b111
	if g != Granule4K || !t.wide(ids) {
		sl0 &= 0b11
	}
	levels, ok := startLevels[g]
	if !ok || levels[sl0] == noLevel {
		return 0, false
	}
	level = levels[sl0]
	// Levels that come with an extension, or with an output that is large enough.
	switch output := ids.OutputBits(); {
	case g == Granule4K && level == 3:
		ok = ids.Has(STT)
	case g == Granule4K && level == 0, g == Granule64K && level == 1:
		ok = output >= 44
	case g == Granule16K && level == 1:
		ok = output >= 42
	case g == Granule16K && level == 0:
		ok = t.wide(ids)
	}
	// The first table resolves at least one bit. Beside a whole table's there may be
	// those that choose among concatenated ones.
	least := g.LevelShift(level) + 1
	most := g.LevelShift(level) + g.stride() + maxConcatenated
	return level, ok && t.InputBits() >= least && t.InputBits() <= most
}
