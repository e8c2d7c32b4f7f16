package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// §5.4: a getter reads its bits.
func TestCDGetters(t *testing.T) {
	v30, v31 := ids(), ids(ArchMinor, 1)
	for _, c := range []struct {
		name string
		cd   CD
		get  func(c *CD) any
		want any
	}{
		{"T0SZ [5:0]", CD{0x3f}, func(c *CD) any { return c.TxSZ(0) }, uint(63)},
		{"TG0 [7:6] = 00", CD{}, func(c *CD) any { return c.TGx(0) }, Granule4K},
		{"TG0 [7:6] = 01", CD{0x40}, func(c *CD) any { return c.TGx(0) }, Granule64K},
		{"TG0 [7:6] = 10", CD{0x80}, func(c *CD) any { return c.TGx(0) }, Granule16K},
		{"TG0 [7:6] = 11", CD{0xc0}, func(c *CD) any { return c.TGx(0) }, Granule(0)},
		{"EPD0 [14]", CD{0x4000}, func(c *CD) any { return c.EPDx(0) }, true},
		{"ENDI [15]", CD{0x8000}, func(c *CD) any { return c.ENDI() }, true},
		{"T1SZ [21:16]", CD{0x3f_0000}, func(c *CD) any { return c.TxSZ(1) }, uint(63)},
		{"TG1 [23:22] = 00", CD{}, func(c *CD) any { return c.TGx(1) }, Granule(0)},
		{"TG1 [23:22] = 01", CD{0x40_0000}, func(c *CD) any { return c.TGx(1) }, Granule16K},
		{"TG1 [23:22] = 10", CD{0x80_0000}, func(c *CD) any { return c.TGx(1) }, Granule4K},
		{"TG1 [23:22] = 11", CD{0xc0_0000}, func(c *CD) any { return c.TGx(1) }, Granule64K},
		{"EPD1 [30]", CD{0x4000_0000}, func(c *CD) any { return c.EPDx(1) }, true},
		{"V [31]", CD{0x8000_0000}, func(c *CD) any { return c.V() }, true},
		{"IPS [34:32]", CD{0x7_0000_0000}, func(c *CD) any { return c.IPS() }, uint8(7)},
		{"AFFD [35]", CD{0x8_0000_0000}, func(c *CD) any { return c.AFFD() }, true},
		{"WXN [36]", CD{0x10_0000_0000}, func(c *CD) any { return c.WXN() }, true},
		{"UWXN [37]", CD{0x20_0000_0000}, func(c *CD) any { return c.UWXN() }, true},
		{"TBI0 [38]", CD{0x40_0000_0000}, func(c *CD) any { return c.TBIx(0) }, true},
		{"TBI1 [39]", CD{0x80_0000_0000}, func(c *CD) any { return c.TBIx(1) }, true},
		{"PAN [40]", CD{0x100_0000_0000}, func(c *CD) any { return c.PAN() }, true},
		{"AA64 [41]", CD{0x200_0000_0000}, func(c *CD) any { return c.AA64() }, true},
		{"HD [42]", CD{0x400_0000_0000}, func(c *CD) any { return c.HD() }, true},
		{"HA [43]", CD{0x800_0000_0000}, func(c *CD) any { return c.HA() }, true},
		{"S [44]", CD{0x1000_0000_0000}, func(c *CD) any { return c.S() }, true},
		{"R [45]", CD{0x2000_0000_0000}, func(c *CD) any { return c.R() }, true},
		{"A [46]", CD{0x4000_0000_0000}, func(c *CD) any { return c.A() }, true},
		{"ASET [47]", CD{0x8000_0000_0000}, func(c *CD) any { return c.ASET() }, true},
		{"ASID [63:48]", CD{0x8001_0000_0000_0000}, func(c *CD) any { return c.ASID() }, ASID(0x8001)},
		{"HAD0 [65]", CD{0, 2}, func(c *CD) any { return c.HADx(0) }, true},
		{"E0PD0 [66]", CD{0, 4}, func(c *CD) any { return c.E0PDx(0) }, true},
		{"HAFT [67]", CD{0, 8}, func(c *CD) any { return c.HAFT() }, true},
		{"TTB0 [115:68]", CD{0, ^uint64(0)}, func(c *CD) any { return c.TTBx(0, &v31) }, uint64(0xf_ffff_ffff_fff0)},
		{"DS [186]", CD{0, 0, 0x0400_0000_0000_0000}, func(c *CD) any { return c.DS() }, true},
		{"EPAN [123]", CD{0, 0x0800_0000_0000_0000}, func(c *CD) any { return c.EPAN() }, true},
		{"HAD1 [129]", CD{0, 0, 2}, func(c *CD) any { return c.HADx(1) }, true},
		{"E0PD1 [130]", CD{0, 0, 4}, func(c *CD) any { return c.E0PDx(1) }, true},
		{"TTB1 [175:132] in SMMUv3.0", CD{0, 0, ^uint64(0)}, func(c *CD) any { return c.TTBx(1, &v30) }, uint64(0xffff_ffff_fff0)},
		{"TTB1 [179:132]", CD{0, 0, ^uint64(0)}, func(c *CD) any { return c.TTBx(1, &v31) }, uint64(0xf_ffff_ffff_fff0)},
	} {
		assert.Equal(t, c.want, c.get(&c.cd), c.name)
		// Without these bits, the getter returns another value.
		var zero CD
		if c.cd != zero {
			assert.NotEqual(t, c.want, c.get(&zero), c.name)
		}
	}
}

// A setter changes its bits and no others.
func TestCDSetters(t *testing.T) {
	all := CD{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
	for _, c := range []struct {
		name string
		set  func(c *CD, on bool)
		bits CD
	}{
		{"V", (*CD).SetV, CD{1 << 31}},
		{"ENDI", (*CD).SetENDI, CD{1 << 15}},
		{"AFFD", (*CD).SetAFFD, CD{1 << 35}},
		{"WXN", (*CD).SetWXN, CD{1 << 36}},
		{"PAN", (*CD).SetPAN, CD{1 << 40}},
		{"AA64", (*CD).SetAA64, CD{1 << 41}},
		{"HD", (*CD).SetHD, CD{1 << 42}},
		{"HA", (*CD).SetHA, CD{1 << 43}},
		{"S", (*CD).SetS, CD{1 << 44}},
		{"R", (*CD).SetR, CD{1 << 45}},
		{"A", (*CD).SetA, CD{1 << 46}},
		{"ASET", (*CD).SetASET, CD{1 << 47}},
		{"HAFT", (*CD).SetHAFT, CD{0, 1 << 3}},
		{"EPAN", (*CD).SetEPAN, CD{0, 1 << 59}},
		{"DS", (*CD).SetDS, CD{0, 0, 1 << 58}},
		{"IPS", func(c *CD, on bool) { c.SetIPS(7 * one(on)) }, CD{7 << 32}},
		{"ASID", func(c *CD, on bool) { c.SetASID(0xffff * ASID(one(on))) }, CD{0xffff << 48}},
		{"T0SZ", func(c *CD, on bool) { c.SetTxSZ(0, 63*uint(one(on))) }, CD{0x3f}},
		{"T1SZ", func(c *CD, on bool) { c.SetTxSZ(1, 63*uint(one(on))) }, CD{0x3f_0000}},
		{"IR0", func(c *CD, on bool) { c.SetIRx(0, 3*one(on)) }, CD{3 << 8}},
		{"OR0", func(c *CD, on bool) { c.SetORx(0, 3*one(on)) }, CD{3 << 10}},
		{"SH0", func(c *CD, on bool) { c.SetSHx(0, 3*one(on)) }, CD{3 << 12}},
		{"IR1", func(c *CD, on bool) { c.SetIRx(1, 3*one(on)) }, CD{3 << 24}},
		{"OR1", func(c *CD, on bool) { c.SetORx(1, 3*one(on)) }, CD{3 << 26}},
		{"SH1", func(c *CD, on bool) { c.SetSHx(1, 3*one(on)) }, CD{3 << 28}},
		{"EPD0", func(c *CD, on bool) { c.SetEPDx(0, on) }, CD{1 << 14}},
		{"EPD1", func(c *CD, on bool) { c.SetEPDx(1, on) }, CD{1 << 30}},
		{"TBI0", func(c *CD, on bool) { c.SetTBIx(0, on) }, CD{1 << 38}},
		{"TBI1", func(c *CD, on bool) { c.SetTBIx(1, on) }, CD{1 << 39}},
		{"HAD1", func(c *CD, on bool) { c.SetHADx(1, on) }, CD{0, 0, 1 << 1}},
		{"E0PD0", func(c *CD, on bool) { c.SetE0PDx(0, on) }, CD{0, 1 << 2}},
		{"TTB0", func(c *CD, on bool) { c.SetTTBx(0, -uint64(one(on))) }, CD{0, 0xff_ffff_ffff_fff0}},
		{"TTB1", func(c *CD, on bool) { c.SetTTBx(1, -uint64(one(on))) }, CD{0, 0, 0xff_ffff_ffff_fff0}},
		{"MAIR", func(c *CD, on bool) { c.SetMAIR(-uint64(one(on))) }, CD{0, 0, 0, ^uint64(0)}},
		{"AMAIR", func(c *CD, on bool) { c.SetAMAIR(-uint64(one(on))) }, CD{0, 0, 0, 0, ^uint64(0)}},
	} {
		var on CD
		c.set(&on, true)
		assert.Equal(t, c.bits, on, c.name)
		off := all
		c.set(&off, false)
		for i := range off {
			off[i] = ^off[i]
		}
		assert.Equal(t, c.bits, off, c.name)
		beside, want := all, all
		for i, b := range c.bits {
			if b != 0 {
				beside[i], want[i] = 0, b
			}
		}
		c.set(&beside, true)
		assert.Equal(t, want, beside, "%s, with the other words set", c.name)
	}
	for g, want := range map[Granule]uint64{
		Granule4K: 0x80_0000, Granule16K: 0x40_0080, Granule64K: 0xc0_0040, 0: 0xc0,
	} {
		var c CD
		c.SetTGx(0, g)
		c.SetTGx(1, g)
		assert.Equal(t, want, c[0], "granule 2^%d", g)
	}
}

func one(on bool) uint8 {
	if on {
		return 1
	}
	return 0
}

func TestCDInMemoryIsLittleEndian(t *testing.T) {
	var p [CDSize]byte
	p[0], p[15], p[56] = 0x10, 0x20, 0x30
	c := LoadCD(&p)
	assert.Equal(t, CD{0: 0x10, 1: 0x20 << 56, 7: 0x30}, c)
	var q [CDSize]byte
	c.Put(&q)
	assert.Equal(t, p, q)
}

// §5.3: V [0], L2Ptr [55:12].
func TestL1CD(t *testing.T) {
	assert.True(t, L1CD(1).V())
	assert.False(t, L1CD(^uint64(1)).V())
	assert.EqualValues(t, 0xff_ffff_ffff_f000, L1CD(^uint64(0)).L2Ptr())
}

// §5.2, S1Fmt and S1ContextPtr: the address of the CD of a SubstreamID. Bits of a pointer below the
// size of its table count as zero.
func TestCDTable(t *testing.T) {
	const ptr = 0x12_3456_7fc0
	for _, c := range []struct {
		table    CDTable
		ssid     SubstreamID
		twoLevel bool
		l1       uint64
		cd       uint64 // in the leaf table at 0xabcd_f000, if two-level
	}{
		{CDTable{ptr, 0, S1FmtLinear}, 0, false, 0, ptr},
		{CDTable{ptr, 0, S1Fmt64K}, 0, false, 0, ptr},                           // Fmt is IGNORED
		{CDTable{ptr, 5, S1FmtLinear}, 31, false, 0, 0x12_3456_7800 + 31*64},    // [10:6] are RES0
		{CDTable{ptr, 5, 0b11}, 31, false, 0, 0x12_3456_7800 + 31*64},           // reserved: linear
		{CDTable{ptr, 6, S1Fmt4K}, 63, true, ptr, 0xabcd_f000 + 63*64},          // one L1CD
		{CDTable{ptr, 9, S1Fmt4K}, 0x1ff, true, ptr + 7*8, 0xabcd_f000 + 63*64}, // 8 of them: 64 bytes
		{CDTable{ptr, 10, S1Fmt4K}, 0x3ff, true, 0x12_3456_7f80 + 15*8, 0xabcd_f000 + 63*64},
		{CDTable{ptr, 20, S1Fmt4K}, 0x54321, true, 0x12_3456_0000 + 0x150c*8, 0xabcd_f000 + 0x21*64},
		{CDTable{ptr, 10, S1Fmt64K}, 0x3ff, true, ptr, 0xabcd_0000 + 1023*64}, // L2Ptr[15:12] are RES0
		{CDTable{ptr, 13, S1Fmt64K}, 0x1fff, true, ptr + 7*8, 0xabcd_0000 + 1023*64},
		{CDTable{ptr, 14, S1Fmt64K}, 0x3fff, true, 0x12_3456_7f80 + 15*8, 0xabcd_0000 + 1023*64},
		{CDTable{ptr, 20, S1Fmt64K}, 0x54321, true, 0x12_3456_6000 + 0x150*8, 0xabcd_0000 + 0x321*64},
	} {
		assert.Equal(t, c.twoLevel, c.table.TwoLevel(), "%+v", c.table)
		assert.True(t, c.table.Contains(c.ssid))
		assert.False(t, c.table.Contains(1<<c.table.Max))
		if c.twoLevel {
			assert.Equal(t, c.l1, c.table.L1CDAddr(c.ssid), "%+v", c.table)
			assert.Equal(t, c.cd, c.table.LeafCDAddr(0xabcd_f001, c.ssid), "%+v", c.table)
		} else {
			assert.Equal(t, c.cd, c.table.CDAddr(c.ssid), "%+v", c.table)
		}
	}
}

// §5.4, IPS: the size is at most OAS, and reserved values depend on the version.
func TestCDOutputBits(t *testing.T) {
	for _, c := range []struct {
		ips               uint8
		oas, version, out uint32
	}{
		{0, 5, 2, 32}, {1, 5, 2, 36}, {2, 5, 2, 40}, {3, 5, 2, 42}, {4, 5, 2, 44}, {5, 5, 2, 48},
		{6, 5, 2, 48}, {7, 5, 2, 48}, {5, 2, 2, 40},
		{6, 6, 2, 52}, {7, 6, 2, 52},
		{6, 6, 0, 48}, {7, 6, 0, 48},
		{7, 7, 3, 52}, {7, 7, 4, 56},
	} {
		var ids IDRegs
		ids.Set(OAS, c.oas)
		ids.Set(ArchMinor, c.version)
		var cd CD
		cd.SetIPS(c.ips)
		assert.EqualValues(t, c.out, cd.OutputBits(&ids), "%+v", c)
	}
}

// §3.4: descriptors of 64 KiB granules hold addresses of 52 bits with IDR5.OAS, the others with DS.
func TestCDFormat_wide(t *testing.T) {
	const tg64, ds = 0b01 << 6, 1 << 58
	for _, tt := range []struct {
		name string
		cd   CD
		s2   Stage2
		ids  IDRegs
		want bool
	}{
		{"64 KiB, OAS of 48 bits", CD{tg64}, Stage2{TG: 0b01}, ids(OAS, 5), false},
		{"64 KiB, OAS of 48 bits, DS", CD{0: tg64, 2: ds}, Stage2{TG: 0b01, DS: true}, ids(OAS, 5, DS, 1), false},
		{"64 KiB, OAS of 52 bits", CD{tg64}, Stage2{TG: 0b01}, ids(OAS, 6), true},
		{"4 KiB, OAS of 52 bits", CD{}, Stage2{}, ids(OAS, 6, DS, 1), false},
		{"4 KiB, OAS of 52 bits, DS", CD{2: ds}, Stage2{DS: true}, ids(OAS, 6, DS, 1), true},
	} {
		assert.Equal(t, tt.want, tt.cd.Format(0, &tt.ids).Wide, "CD, %s", tt.name)
		assert.Equal(t, tt.want, tt.s2.Format(&tt.ids).Wide, "stage 2, %s", tt.name)
	}
}
