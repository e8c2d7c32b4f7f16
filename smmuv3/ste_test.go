package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The bits of §5.2, checked against the STRTAB_STE_* masks of Linux.
func TestSTELayout(t *testing.T) {
	testLayout(t, []field[STE]{
		{"V", 0, 0x0000_0000_0000_0001, false, func(s *STE) uint64 { return b2u(s.V()) }, func(s *STE, v uint64) { s.SetV(v != 0) }},
		{"Config", 0, 0x0000_0000_0000_000e, false, func(s *STE) uint64 { return uint64(s.Config()) }, func(s *STE, v uint64) { s.SetConfig(STEConfig(v)) }},
		{"S1Fmt", 0, 0x0000_0000_0000_0030, false, func(s *STE) uint64 { return uint64(s.S1Fmt()) }, func(s *STE, v uint64) { s.SetS1Fmt(S1Fmt(v)) }},
		{"S1ContextPtr", 0, 0x00ff_ffff_ffff_ffc0, true, func(s *STE) uint64 { return s.S1ContextPtr() }, func(s *STE, v uint64) { s.SetS1ContextPtr(v) }},
		{"S1CDMax", 0, 0xf800_0000_0000_0000, false, func(s *STE) uint64 { return uint64(s.S1CDMax()) }, func(s *STE, v uint64) { s.SetS1CDMax(uint8(v)) }},
		{"S1DSS", 1, 0x0000_0000_0000_0003, false, func(s *STE) uint64 { return uint64(s.S1DSS()) }, func(s *STE, v uint64) { s.SetS1DSS(S1DSS(v)) }},
		{"S1CIR", 1, 0x0000_0000_0000_000c, false, func(s *STE) uint64 { return uint64(s.S1CIR()) }, func(s *STE, v uint64) { s.SetS1CIR(uint8(v)) }},
		{"S1COR", 1, 0x0000_0000_0000_0030, false, func(s *STE) uint64 { return uint64(s.S1COR()) }, func(s *STE, v uint64) { s.SetS1COR(uint8(v)) }},
		{"S1CSH", 1, 0x0000_0000_0000_00c0, false, func(s *STE) uint64 { return uint64(s.S1CSH()) }, func(s *STE, v uint64) { s.SetS1CSH(uint8(v)) }},
		{"PPAR", 1, 0x0000_0000_0004_0000, false, func(s *STE) uint64 { return b2u(s.PPAR()) }, nil},
		{"MEV", 1, 0x0000_0000_0008_0000, false, func(s *STE) uint64 { return b2u(s.MEV()) }, nil},
		{"S1STALLD", 1, 0x0000_0000_0800_0000, false, func(s *STE) uint64 { return b2u(s.S1STALLD()) }, func(s *STE, v uint64) { s.SetS1STALLD(v != 0) }},
		{"EATS", 1, 0x0000_0000_3000_0000, false, func(s *STE) uint64 { return uint64(s.EATS()) }, func(s *STE, v uint64) { s.SetEATS(EATS(v)) }},
		{"STRW", 1, 0x0000_0000_c000_0000, false, func(s *STE) uint64 { return uint64(s.STRW()) }, func(s *STE, v uint64) { s.SetSTRW(uint8(v)) }},
		{"PRIVCFG", 1, 0x0003_0000_0000_0000, false, func(s *STE) uint64 { return uint64(s.PRIVCFG()) }, nil},
		{"INSTCFG", 1, 0x000c_0000_0000_0000, false, func(s *STE) uint64 { return uint64(s.INSTCFG()) }, nil},
		{"S2VMID", 2, 0x0000_0000_0000_ffff, false, func(s *STE) uint64 { return uint64(s.S2VMID()) }, func(s *STE, v uint64) { s.SetS2VMID(VMID(v)) }},
	})
}

// stage2Field returns a field of Stage2.
func stage2Field(name string, dw int, mask uint64, get func(*Stage2) uint64, set func(*Stage2, uint64)) field[STE] {
	return field[STE]{name, dw, mask, false,
		func(s *STE) uint64 { t := s.Stage2(); return get(&t) },
		func(s *STE, v uint64) { t := s.Stage2(); set(&t, v); s.SetStage2(t) },
	}
}

func stage2Num(name string, mask uint64, f func(*Stage2) *uint8) field[STE] {
	return stage2Field(name, 2, mask, func(t *Stage2) uint64 { return uint64(*f(t)) }, func(t *Stage2, v uint64) { *f(t) = uint8(v) })
}

func stage2Flag(name string, dw int, mask uint64, f func(*Stage2) *bool) field[STE] {
	return stage2Field(name, dw, mask, func(t *Stage2) uint64 { return b2u(*f(t)) }, func(t *Stage2, v uint64) { *f(t) = v != 0 })
}

// The bits of §5.2, checked against the STRTAB_STE_2_* and STRTAB_STE_3_* masks of Linux.
func TestStage2Layout(t *testing.T) {
	testLayout(t, []field[STE]{
		stage2Flag("S2FWB", 1, 1<<(89-64), func(t *Stage2) *bool { return &t.FWB }),
		stage2Num("S2T0SZ", 0x3f<<(160-128), func(t *Stage2) *uint8 { return &t.T0SZ }),
		stage2Num("S2IR0", 3<<(168-128), func(t *Stage2) *uint8 { return &t.IR0 }),
		stage2Num("S2OR0", 3<<(170-128), func(t *Stage2) *uint8 { return &t.OR0 }),
		stage2Num("S2SH0", 3<<(172-128), func(t *Stage2) *uint8 { return &t.SH0 }),
		stage2Num("S2TG", 3<<(174-128), func(t *Stage2) *uint8 { return &t.TG }),
		stage2Num("S2PS", 7<<(176-128), func(t *Stage2) *uint8 { return &t.PS }),
		stage2Flag("S2AA64", 2, 1<<(179-128), func(t *Stage2) *bool { return &t.AA64 }),
		stage2Flag("S2ENDI", 2, 1<<(180-128), func(t *Stage2) *bool { return &t.ENDI }),
		stage2Flag("S2AFFD", 2, 1<<(181-128), func(t *Stage2) *bool { return &t.AFFD }),
		stage2Flag("S2PTW", 2, 1<<(182-128), func(t *Stage2) *bool { return &t.PTW }),
		stage2Flag("S2HD", 2, 1<<(183-128), func(t *Stage2) *bool { return &t.HD }),
		stage2Flag("S2HA", 2, 1<<(184-128), func(t *Stage2) *bool { return &t.HA }),
		stage2Flag("S2S", 2, 1<<(185-128), func(t *Stage2) *bool { return &t.S }),
		stage2Flag("S2R", 2, 1<<(186-128), func(t *Stage2) *bool { return &t.R }),
		stage2Flag("S2HAFT", 2, 1<<(187-128), func(t *Stage2) *bool { return &t.HAFT }),
		stage2Field("S2SL0", 2, 3<<(166-128), func(t *Stage2) uint64 { return uint64(t.SL0 & 3) }, func(t *Stage2, v uint64) { t.SL0 = t.SL0&^3 | uint8(v)&3 }),
		stage2Field("S2SL0_2", 3, 1<<(194-192), func(t *Stage2) uint64 { return uint64(t.SL0 >> 2) }, func(t *Stage2, v uint64) { t.SL0 = t.SL0&3 | uint8(v&1)<<2 }),
		stage2Flag("S2DS", 3, 1<<(195-192), func(t *Stage2) *bool { return &t.DS }),
		stage2Field("S2TTB", 3, 0x00ff_ffff_ffff_fff0, func(t *Stage2) uint64 { return t.TTB >> 4 }, func(t *Stage2, v uint64) { t.TTB = v << 4 & 0x00ff_ffff_ffff_fff0 }),
	})
}

// An STE as Linux writes it for a stream with a two-level CD table.
func TestSTEInMemory(t *testing.T) {
	p := [STESize]byte{
		0x2b, 0x50, 0x34, 0x12, 0x08, 0x00, 0x00, 0x80, // dw0
		0xf6, 0x00, 0x00, 0x18, 0x00, 0x10, 0x00, 0x00, // dw1
		63: 0xa5, // a reserved bit
	}
	s := LoadSTE(&p)
	assert.Equal(t, STE{0x8000_0008_1234_502b, 0x0000_1000_1800_00f6, 7: 0xa500_0000_0000_0000}, s)
	assert.True(t, s.V())
	assert.Equal(t, ConfigS1, s.Config())
	assert.Equal(t, S1Fmt64K, s.S1Fmt())
	assert.Equal(t, uint64(0x8_1234_5000), s.S1ContextPtr())
	assert.Equal(t, uint8(16), s.S1CDMax())
	assert.Equal(t, S1DSSSubstream0, s.S1DSS())
	assert.Equal(t, uint8(1), s.S1CIR())
	assert.Equal(t, uint8(3), s.S1COR())
	assert.Equal(t, uint8(3), s.S1CSH())
	assert.True(t, s.S1STALLD())
	assert.Equal(t, EATSFull, s.EATS())

	var back [STESize]byte
	s.Put(&back)
	assert.Equal(t, p, back)
}

// The stages that Config selects (§5.2, Config).
func TestSTEConfig(t *testing.T) {
	for _, c := range []struct {
		config                STEConfig
		abort, stage1, stage2 bool
	}{
		{0b000, true, false, false},
		{0b001, true, false, false},
		{0b010, true, false, false},
		{0b011, true, false, false},
		{0b100, false, false, false},
		{0b101, false, true, false},
		{0b110, false, false, true},
		{0b111, false, true, true},
	} {
		assert.Equal(t, c.abort, c.config.Abort(), "%03b", c.config)
		assert.Equal(t, c.stage1, c.config.Stage1(), "%03b", c.config)
		assert.Equal(t, c.stage2, c.config.Stage2(), "%03b", c.config)
	}
}

// The encodings of §5.2.
func TestSTEEncodings(t *testing.T) {
	assert.Equal(t, []S1Fmt{0b00, 0b01, 0b10}, []S1Fmt{S1FmtLinear, S1Fmt4K, S1Fmt64K})
	assert.Equal(t, []S1DSS{0b00, 0b01, 0b10}, []S1DSS{S1DSSTerminate, S1DSSBypass, S1DSSSubstream0})
	assert.Equal(t, []EATS{0b00, 0b01, 0b10, 0b11}, []EATS{EATSNone, EATSFull, EATSSplit, EATSDPT})
	for v := range uint8(8) { // a guest may write any value, and the types hold more values than the fields
		assert.NotEmpty(t, S1Fmt(v).String())
		assert.NotEmpty(t, S1DSS(v).String())
		assert.NotEmpty(t, EATS(v).String())
	}
}
