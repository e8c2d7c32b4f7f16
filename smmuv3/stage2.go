package smmuv3

// Stage2 has the stage-2 fields of an STE: those with the prefix S2, except S2VMID, which stage 1
// uses too (§5.2). Numbers have the encodings of the STE.
//
//	 63 60 59   58 57 56 55 54  53   52   51   50 48 47 46 45 44 43 42 41 40 39 38 37   32
//	+-----+----+--+--+--+--+---+----+----+----+-----+-----+-----+-----+-----+-----+------+
//	|     |HAFT| R| S|HA|HD|PTW|AFFD|ENDI|AA64| PS  | TG  | SH0 | OR0 | IR0 | SL0 | T0SZ |  dw2
//	+-----+----+--+--+--+--+---+----+----+----+-----+-----+-----+-----+-----+-----+------+
//	 63    56 55                                                    4 3  2     1     0
//	+--------+-------------------------------------------------------+--+-----+-----------+
//	|        |                       TTB[55:4]                       |DS|SL0_2|           |  dw3
//	+--------+-------------------------------------------------------+--+-----+-----------+
//
// FWB is bit 25 of dw1.
type Stage2 struct {
	TTB           uint64 // before it is aligned to the table's size
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

// Stage2 returns the STE's stage 2, whether it translates or not.
func (s *STE) Stage2() Stage2 {
	return Stage2{
		FWB:  s.get(steS2FWB) != 0,
		T0SZ: uint8(s.get(steS2T0SZ)),
		SL0:  uint8(s.get(steS2SL0) | s.get(steS2SL02)<<2),
		IR0:  uint8(s.get(steS2IR0)),
		OR0:  uint8(s.get(steS2OR0)),
		SH0:  uint8(s.get(steS2SH0)),
		TG:   uint8(s.get(steS2TG)),
		PS:   uint8(s.get(steS2PS)),
		AA64: s.get(steS2AA64) != 0,
		ENDI: s.get(steS2ENDI) != 0,
		AFFD: s.get(steS2AFFD) != 0,
		PTW:  s.get(steS2PTW) != 0,
		HD:   s.get(steS2HD) != 0,
		HA:   s.get(steS2HA) != 0,
		S:    s.get(steS2S) != 0,
		R:    s.get(steS2R) != 0,
		HAFT: s.get(steS2HAFT) != 0,
		DS:   s.get(steS2DS) != 0,
		TTB:  s.get(steS2TTB),
	}
}

// SetStage2 sets the STE's stage 2.
func (s *STE) SetStage2(t Stage2) {
	s.set(steS2FWB, b2u(t.FWB))
	s.set(steS2T0SZ, uint64(t.T0SZ))
	s.set(steS2SL0, uint64(t.SL0))
	s.set(steS2SL02, uint64(t.SL0)>>2)
	s.set(steS2IR0, uint64(t.IR0))
	s.set(steS2OR0, uint64(t.OR0))
	s.set(steS2SH0, uint64(t.SH0))
	s.set(steS2TG, uint64(t.TG))
	s.set(steS2PS, uint64(t.PS))
	s.set(steS2AA64, b2u(t.AA64))
	s.set(steS2ENDI, b2u(t.ENDI))
	s.set(steS2AFFD, b2u(t.AFFD))
	s.set(steS2PTW, b2u(t.PTW))
	s.set(steS2HD, b2u(t.HD))
	s.set(steS2HA, b2u(t.HA))
	s.set(steS2S, b2u(t.S))
	s.set(steS2R, b2u(t.R))
	s.set(steS2HAFT, b2u(t.HAFT))
	s.set(steS2DS, b2u(t.DS))
	s.set(steS2TTB, t.TTB)
}

// Effective returns the stage 2 with all fields zero that are RES0 or IGNORED on an SMMU with these
// ID registers. Stages with the same effect are then equal. nested is true if stage 1 translates
// too.
func (t Stage2) Effective(ids *IDRegs, nested bool) Stage2 {
	t.TTB &= ids.tableMask()
	t.DS = t.wide(ids)
	if !t.DS || t.Granule() != Granule4K {
		t.SL0 &= 0b11 // S2SL0_2 comes with S2DS and 4 KiB
	}
	t.FWB = t.FWB && ids.Has(FWB)
	t.PTW = t.PTW && nested
	t.HD = t.HD && t.HA // HD without HA has no effect
	t.AFFD = t.AFFD && !t.HA
	t.HAFT = t.HAFT && ids.Get(HTTU) == 0b11
	return t
}

// wide returns the effective S2DS, which is RES0 without IDR5.DS and with 64 KiB.
func (t *Stage2) wide(ids *IDRegs) bool {
	return t.DS && ids.Has(DS) && t.Granule() != Granule64K
}

// Granule returns the granule of S2TG, or 0 for the reserved encoding.
func (t *Stage2) Granule() Granule {
	return [4]Granule{0b00: Granule4K, 0b01: Granule64K, 0b10: Granule16K}[t.TG&3]
}

// Format returns the layout of the tables on an SMMU with these ID registers. Its granule is 0 if
// S2TG is reserved.
func (t *Stage2) Format(ids *IDRegs) Format {
	f := Format{Granule: t.Granule(), Wide: t.wide(ids)}
	if f.Granule == Granule64K {
		f.Wide = ids.OutputBits() >= 52
	}
	return f
}

// InputBits returns the size of the IPAs that the tables translate. S2T0SZ must be legal.
func (t *Stage2) InputBits() uint { return 64 - uint(t.T0SZ) }

// OutputBits returns the effective output address size of stage 2 in bits: S2PS, capped at
// IDR5.OAS.
func (t *Stage2) OutputBits(ids *IDRegs) uint {
	return min(AddrBits(uint32(t.PS)), ids.OutputBits())
}

// startLevels has the level at which the walk begins, by granule and S2SL0. S2SL0 is encoded as
// VTCR_EL2.{SL2, SL0}. Reserved encodings have noLevel.
var startLevels = map[Granule][8]int{
	Granule4K:  {2, 1, 0, 3, -1, noLevel, noLevel, noLevel},
	Granule16K: {3, 2, 1, 0, noLevel, noLevel, noLevel, noLevel},
	Granule64K: {3, 2, 1, noLevel, noLevel, noLevel, noLevel, noLevel},
}

const noLevel = 4

// maxConcatenated is log2 of the largest number of concatenated tables at the level where the walk
// of a stage 2 begins.
const maxConcatenated = 4

// StartLevel returns the level at which the walk begins. ok is false if S2SL0 is inconsistent with
// S2T0SZ and S2TG, or reserved on an SMMU with these ID registers (§5.2, S2SL0).
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
	// These levels need an extension, or a large enough output address size.
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
	// The first table resolves at least one bit. At most, it resolves the bits of a whole table and
	// the bits that select a concatenated table.
	least := g.LevelShift(level) + 1
	most := g.LevelShift(level) + g.stride() + maxConcatenated
	return level, ok && t.InputBits() >= least && t.InputBits() <= most
}
