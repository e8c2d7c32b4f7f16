package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Each rule of §5.4.2 has a CD that breaks it and a neighbour that does not. Each of them differs
// in one field from a legal CD. In the legal CD both halves have 48 bits and pages of 4 KiB; V,
// AA64, A and R are 1; IPS is 48 bits.
func TestCDIllegal(t *testing.T) {
	legal := CD{0x0001_6205_8090_0010, 0x10000, 0x20000}
	full := func(set ...func(*IDRegs)) IDRegs {
		var r IDRegs
		for f, v := range map[IDField]uint32{
			S1P: 1, TTF: TTFAArch64, ASID16: 1, TTENDIAN: TTENDIANMixed, StallModel: StallBoth, HTTU: 2,
			GRAN4K: 1, GRAN16K: 1, GRAN64K: 1, OAS: 5, ArchMinor: 2,
		} {
			r.Set(f, v)
		}
		for _, s := range set {
			s(&r)
		}
		return r
	}
	with := func(f IDField, v uint32) func(*IDRegs) { return func(r *IDRegs) { r.Set(f, v) } }
	xor := func(i int, mask uint64) CD {
		c := legal
		c[i] ^= mask
		return c
	}
	epd0 := func(c CD) CD { c[0] |= 1 << 14; return c }
	epd1 := func(c CD) CD { c[0] |= 1 << 30; return c }
	const (
		t0sz = 0
		t1sz = 16
	)
	tsz := func(at uint, v uint64) CD {
		c := legal
		c[0] = c[0]&^(0x3f<<at) | v<<at
		return c
	}
	ds := func(c CD) CD { c[2] |= 1 << 58; return c } // bit 186
	lpa2 := []func(*IDRegs){with(VAX, 1), with(DS, 1)}
	tsz64K := func(v uint64) CD { c := epd1(tsz(t0sz, v)); c[0] |= 0x40; return c }

	for _, c := range []struct {
		name     string
		cd       CD
		ids      IDRegs
		s1stalld bool
		illegal  bool
	}{
		{"the legal CD", legal, full(), false, false},
		{"V = 0", xor(0, 1<<31), full(), false, true},

		{"S = 1 with STE.S1STALLD", xor(0, 1<<44), full(), true, true},
		{"S = 1 without it", xor(0, 1<<44), full(), false, false},
		{"S = 0 with it", legal, full(), true, false},
		{"A = 0 on TERM_MODEL 1", xor(0, 1<<46), full(with(TermModel, 1)), false, true},
		{"A = 0 on TERM_MODEL 0", xor(0, 1<<46), full(), false, false},
		{"S = 1 on STALL_MODEL 01", xor(0, 1<<44), full(with(StallModel, 1)), false, true},
		{"S = 0 on STALL_MODEL 01", legal, full(with(StallModel, 1)), false, false},
		{"S = 0 on STALL_MODEL 10", legal, full(with(StallModel, 2)), false, true},
		{"S = 1 on STALL_MODEL 10", xor(0, 1<<44), full(with(StallModel, 2)), false, false},

		{"ENDI = 1 on TTENDIAN 10", xor(0, 1<<15), full(with(TTENDIAN, 2)), false, true},
		{"ENDI = 1 on TTENDIAN 10, one half disabled", epd0(xor(0, 1<<15)), full(with(TTENDIAN, 2)), false, true},
		{"ENDI = 1 on TTENDIAN 10, both disabled", epd0(epd1(xor(0, 1<<15))), full(with(TTENDIAN, 2)), false, false},
		{"ENDI = 0 on TTENDIAN 11", legal, full(with(TTENDIAN, 3)), false, true},
		{"ENDI = 1 on TTENDIAN 11", xor(0, 1<<15), full(with(TTENDIAN, 3)), false, false},
		{"ENDI = 1 on TTENDIAN 00", xor(0, 1<<15), full(), false, false},

		{"AA64 = 0 on TTF 10", xor(0, 1<<41), full(), false, true},
		{"AA64 = 0 on TTF 11", xor(0, 1<<41), full(with(TTF, 3)), false, false},
		{"AA64 = 1 on TTF 01", legal, full(with(TTF, 1)), false, true},

		{"HA on HTTU 00", xor(0, 1<<43), full(with(HTTU, 0)), false, true},
		{"HD on HTTU 00", xor(0, 1<<42), full(with(HTTU, 0)), false, true},
		{"HA on HTTU 01", xor(0, 1<<43), full(with(HTTU, 1)), false, false},
		{"HD on HTTU 01", xor(0, 3<<42), full(with(HTTU, 1)), false, true},
		{"HD on HTTU 10", xor(0, 3<<42), full(), false, false},
		{"HD without HA on HTTU 10", xor(0, 1<<42), full(), false, false},
		{"HAFT without HA on HTTU 10: RES0", xor(1, 1<<3), full(), false, false},
		{"HAFT without HA on HTTU 11", xor(1, 1<<3), full(with(HTTU, 3)), false, true},
		{"HAFT with HA on HTTU 11", func() CD { c := xor(0, 1<<43); c[1] |= 1 << 3; return c }(), full(with(HTTU, 3)), false, false},
		{"HA and HD 0 on HTTU 11", legal, full(with(HTTU, 3)), false, false},
		{"HA alone on HTTU 11", xor(0, 1<<43), full(with(HTTU, 3)), false, false},
		{"HA on HTTU 00 with AA64 = 0: IGNORED", xor(0, 1<<43|1<<41), full(with(HTTU, 0), with(TTF, 3)), false, false},

		{"ASID of 9 bits on ASID16 = 0", xor(0, 1<<56), full(with(ASID16, 0)), false, true},
		{"ASID of 8 bits on ASID16 = 0", xor(0, 1<<55), full(with(ASID16, 0)), false, false},
		{"ASID of 16 bits on ASID16 = 1", xor(0, 1<<63), full(), false, false},

		{"T0SZ = 15", tsz(t0sz, 15), full(), false, true},
		{"T0SZ = 15, EPD0", epd0(tsz(t0sz, 15)), full(), false, false},
		{"T0SZ = 16", tsz(t0sz, 16), full(), false, false},
		{"T0SZ = 39", tsz(t0sz, 39), full(), false, false},
		{"T0SZ = 40", tsz(t0sz, 40), full(), false, true},
		{"T0SZ = 48 with STT", tsz(t0sz, 48), full(with(STT, 1)), false, false},
		{"T0SZ = 49 with STT", tsz(t0sz, 49), full(with(STT, 1)), false, true},
		{"T1SZ = 15", tsz(t1sz, 15), full(), false, true},
		{"T1SZ = 15, EPD1", epd1(tsz(t1sz, 15)), full(), false, false},
		{"T1SZ = 40", tsz(t1sz, 40), full(), false, true},
		{"T0SZ = 47, 64 KiB, with STT", tsz64K(47), full(with(STT, 1)), false, false},
		{"T0SZ = 48, 64 KiB, with STT", tsz64K(48), full(with(STT, 1)), false, true},
		{"T0SZ = 12, 64 KiB, with VAX", tsz64K(12), full(with(VAX, 1)), false, false},
		{"T0SZ = 11, 64 KiB, with VAX", tsz64K(11), full(with(VAX, 1)), false, true},
		{"T0SZ = 12, 64 KiB, without VAX", tsz64K(12), full(), false, true},
		{"T0SZ = 12, 4 KiB, with VAX", tsz(t0sz, 12), full(with(VAX, 1)), false, true},

		{"T0SZ = 12, 4 KiB, with DS", ds(tsz(t0sz, 12)), full(lpa2...), false, false},
		{"T0SZ = 12, 16 KiB, with DS", func() CD { c := ds(tsz(t0sz, 12)); c[0] |= 0x80; return c }(), full(lpa2...), false, false},
		{"T0SZ = 11, 4 KiB, with DS", ds(tsz(t0sz, 11)), full(lpa2...), false, true},
		{"T0SZ = 12, 4 KiB, DS = 0", tsz(t0sz, 12), full(lpa2...), false, true},
		{"T0SZ = 12, 4 KiB, DS = 1 without IDR5.DS: RES0", ds(tsz(t0sz, 12)), full(with(VAX, 1)), false, true},
		{"T1SZ = 12, 4 KiB, with DS", ds(tsz(t1sz, 12)), full(lpa2...), false, false},

		{"TTB0[39] with AA64 = 0", func() CD { c := xor(0, 1<<41); c[1] = 1 << 39; return c }(), full(with(TTF, 3)), false, false},
		{"TTB0[40] with AA64 = 0", func() CD { c := xor(0, 1<<41); c[1] = 1 << 40; return c }(), full(with(TTF, 3)), false, true},

		{"TG0 = 11, reserved", xor(0, 0xc0), full(), false, true},
		{"TG0 = 11, EPD0", epd0(xor(0, 0xc0)), full(), false, false},
		{"TG0 = 10 on GRAN16K = 0", xor(0, 0x80), full(with(GRAN16K, 0)), false, true},
		{"TG0 = 10 on GRAN16K = 1", xor(0, 0x80), full(), false, false},
		{"TG0 = 01 on GRAN64K = 0", xor(0, 0x40), full(with(GRAN64K, 0)), false, true},
		{"TG0 = 00 on GRAN4K = 0", legal, full(with(GRAN4K, 0)), false, true},
		{"TG1 = 00, reserved", xor(0, 0x80_0000), full(), false, true},
		{"TG1 = 00, EPD1", epd1(xor(0, 0x80_0000)), full(), false, false},
		{"TG1 = 01 on GRAN16K = 0", xor(0, 0xc0_0000), full(with(GRAN16K, 0)), false, true},

		{"TTB0 beyond 48 bits", xor(1, 1<<48), full(), false, true},
		{"TTB0 beyond 48 bits is RES0 in SMMUv3.0", xor(1, 1<<48), full(with(ArchMinor, 0)), false, false},
		{"TTB0 beyond 48 bits, EPD0", epd0(xor(1, 1<<48)), full(), false, false},
		{"TTB0 at 47", xor(1, 1<<47), full(), false, false},
		{"TTB0 beyond IPS = 36 bits", func() CD { c := xor(1, 1<<36); c.SetIPS(1); return c }(), full(), false, true},
		{"TTB0 beyond OAS = 40 bits", xor(1, 1<<40), full(with(OAS, 2)), false, true},
		{"TTB1 beyond 48 bits", xor(2, 1<<48), full(), false, true},
		{"TTB1 beyond 48 bits, EPD1", epd1(xor(2, 1<<48)), full(), false, false},
		{"TTB0 beyond 48 bits, 4 KiB, IPS = 52 bits", func() CD { c := xor(1, 1<<48); c.SetIPS(6); return c }(), full(with(OAS, 6)), false, true},
		{"TTB0 beyond 48 bits, 64 KiB, IPS = 52 bits",
			func() CD { c := xor(1, 1<<48); c.SetIPS(6); c[0] |= 0x40; return c }(), full(with(OAS, 6)), false, false},
		{"TTB0 beyond 48 bits, 4 KiB, IPS = 52 bits, with DS",
			func() CD { c := ds(xor(1, 1<<48)); c.SetIPS(6); return c }(), full(append(lpa2, with(OAS, 6))...), false, false},
		{"TTB0 beyond 48 bits, 4 KiB, IPS = 48 bits, with DS", ds(xor(1, 1<<48)), full(append(lpa2, with(OAS, 6))...), false, true},
	} {
		rule := c.cd.Illegal(&c.ids, c.s1stalld)
		assert.Equal(t, c.illegal, rule != nil, "%s: %v", c.name, rule)
	}
}

// With V = 0, the other fields are ignored (§5.4.2).
func TestCDIllegal_V0_first(t *testing.T) {
	c := CD{0x4_0000 | 1<<44}
	ids := IDRegs{}
	assert.Equal(t, "V is 0 (§5.4.2)", c.Illegal(&ids, true).String())
	c.SetV(true)
	assert.Contains(t, c.Illegal(&ids, true).Text, "S1STALLD")
}

// Illegal returns for every CD on every SMMU, and reserved bits do not change its verdict. If a
// legal CD enables a half, this half has a granule, and a table within the output address size.
func FuzzCDIllegal(f *testing.F) {
	f.Add(uint64(0x0001_6205_8090_0010), uint64(0x10000), uint64(0x20000), uint32(0), uint32(0), false) // legal with every feature
	f.Add(^uint64(0), ^uint64(0), ^uint64(0), ^uint32(0), ^uint32(0), true)                             // all ones
	f.Add(uint64(1<<31|0xc0), uint64(0), uint64(0), uint32(0x1a), uint32(0x75), false)                  // TG0 reserved
	f.Add(uint64(1<<31|7<<32), uint64(1<<51), uint64(0), uint32(0x1a), uint32(0x77), false)             // IPS reserved, TTB0 at its end
	f.Fuzz(func(t *testing.T, d0, d1, d2 uint64, idr0, idr5 uint32, s1stalld bool) {
		ids := IDRegs{IDR: [6]uint32{0: idr0, 5: idr5}}
		c := CD{d0, d1, d2}
		rule := c.Illegal(&ids, s1stalld)
		c[5], c[6], c[7] = d0, d1, d2
		assert.Same(t, rule, c.Illegal(&ids, s1stalld))
		if rule == nil {
			for x := range uint(2) {
				if c.AA64() && !c.EPDx(x) {
					assert.NotZero(t, c.TGx(x))
					assert.Zero(t, c.TTBx(x, &ids)>>c.OutputBits(&ids))
				}
			}
		}
	})
}
