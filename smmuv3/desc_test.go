package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The address bits that each level resolves (DDI 0487, Tables D8-16, D8-26 and D8-35).
func TestLevels(t *testing.T) {
	for g, want := range map[Granule][4]uint{
		Granule4K:  {39, 30, 21, 12},
		Granule16K: {47, 36, 25, 14},
		Granule64K: {55, 42, 29, 16},
	} {
		for level, shift := range want {
			assert.Equal(t, shift, g.LevelShift(level), "2^%d level %d", g, level)
		}
	}
	assert.EqualValues(t, 48, Granule4K.LevelShift(-1))
}

// The level at which a walk begins, for the first and last TxSZ of each row (DDI 0487, D8.2.8.1,
// D8.2.9.1 and D8.2.10.1).
func TestStartLevel(t *testing.T) {
	for _, c := range []struct {
		g        Granule
		from, to uint // TxSZ
		level    int
	}{
		{Granule4K, 12, 15, -1},
		{Granule4K, 16, 24, 0}, {Granule4K, 25, 33, 1}, {Granule4K, 34, 42, 2}, {Granule4K, 43, 48, 3},
		{Granule16K, 12, 16, 0}, {Granule16K, 17, 27, 1}, {Granule16K, 28, 38, 2}, {Granule16K, 39, 48, 3},
		{Granule64K, 12, 21, 1}, {Granule64K, 22, 34, 2}, {Granule64K, 35, 47, 3},
	} {
		for tsz := c.from; tsz <= c.to; tsz++ {
			assert.Equal(t, c.level, c.g.StartLevel(64-tsz), "2^%d TxSZ %d", c.g, tsz)
		}
	}
}

// The kinds of descriptors (DDI 0487, Table D8-48), and the levels that have blocks (Tables D8-17,
// D8-27 and D8-36).
func TestDescKind(t *testing.T) {
	const no, yes = DescInvalid, DescLeaf
	for _, c := range []struct {
		f     Format
		block [5]DescKind // of 0b01, at levels -1 to 3
	}{
		{Format{Granule: Granule4K}, [5]DescKind{no, no, yes, yes, no}},
		{Format{Granule4K, true}, [5]DescKind{no, yes, yes, yes, no}},
		{Format{Granule: Granule16K}, [5]DescKind{no, no, no, yes, no}},
		{Format{Granule16K, true}, [5]DescKind{no, no, yes, yes, no}},
		{Format{Granule: Granule64K}, [5]DescKind{no, no, no, yes, no}},
		{Format{Granule64K, true}, [5]DescKind{no, no, yes, yes, no}},
	} {
		for i, block := range c.block {
			level := i - 1
			assert.Equal(t, DescInvalid, Desc(^uint64(1)).Kind(c.f, level), "bit 0 clear")
			assert.Equal(t, block, Desc(0b01).Kind(c.f, level), "%+v level %d block", c.f, level)
			want := DescTable
			if level == 3 {
				want = DescLeaf
			}
			assert.Equal(t, want, Desc(0b11).Kind(c.f, level), "%+v level %d", c.f, level)
		}
	}
}

// The address of a descriptor with all bits set, and the place of address bits [51:48] (DDI 0487,
// Tables D8-50 and D8-52).
func TestDescAddr(t *testing.T) {
	const table, block = Desc(^uint64(0)), Desc(^uint64(0b10))
	for _, c := range []struct {
		d     Desc
		f     Format
		level int
		want  uint64
	}{
		{table, Format{Granule: Granule4K}, 0, 0xffff_ffff_f000},
		{table, Format{Granule: Granule4K}, 3, 0xffff_ffff_f000},
		{block, Format{Granule: Granule4K}, 2, 0xffff_ffe0_0000},
		{block, Format{Granule: Granule4K}, 1, 0xffff_c000_0000},
		{table, Format{Granule4K, true}, -1, 0xf_ffff_ffff_f000},
		{table, Format{Granule4K, true}, 3, 0xf_ffff_ffff_f000},
		{block, Format{Granule4K, true}, 0, 0xf_ff80_0000_0000},
		{0x3 << 48, Format{Granule4K, true}, 3, 0x3_0000_0000_0000},
		{0x3 << 8, Format{Granule4K, true}, 3, 0xc_0000_0000_0000},
		{table, Format{Granule: Granule16K}, 1, 0xffff_ffff_c000},
		{block, Format{Granule: Granule16K}, 2, 0xffff_fe00_0000},
		{table, Format{Granule16K, true}, 1, 0xf_ffff_ffff_c000},
		{block, Format{Granule16K, true}, 1, 0xf_fff0_0000_0000},
		{table, Format{Granule: Granule64K}, 2, 0xf_ffff_ffff_0000},
		{table, Format{Granule: Granule64K}, 3, 0xf_ffff_ffff_0000},
		{block, Format{Granule: Granule64K}, 2, 0xf_ffff_e000_0000},
		{block, Format{Granule64K, true}, 1, 0xf_fc00_0000_0000},
		{0x3<<48 | 0x3<<8, Format{Granule64K, true}, 3, 0},
	} {
		assert.Equal(t, c.want, c.d.Addr(c.f, c.level), "%#x %+v level %d", uint64(c.d), c.f, c.level)
	}
}

// The bits of the attributes (DDI 0487, Tables D8-50 and D8-52).
func TestDescAttributes(t *testing.T) {
	for _, c := range []struct {
		name string
		bit  uint
		get  func(Desc) bool
	}{
		{"APTable[1]", 62, func(d Desc) bool { return d.APTable() == 0b10 }},
		{"APTable[0]", 61, func(d Desc) bool { return d.APTable() == 0b01 }},
		{"UXNTable", 60, Desc.UXNTable},
		{"PXNTable", 59, Desc.PXNTable},
		{"UXN", 54, Desc.UXN},
		{"PXN", 53, Desc.PXN},
		{"DBM", 51, Desc.DBM},
		{"nG", 11, Desc.NG},
		{"AF", 10, Desc.AF},
		{"AP[2]", 7, func(d Desc) bool { return d.AP() == 0b10 }},
		{"AP[1]", 6, func(d Desc) bool { return d.AP() == 0b01 }},
	} {
		for bit := range uint(64) {
			assert.Equal(t, bit == c.bit, c.get(1<<bit), "%s, bit %d", c.name, bit)
		}
	}
	assert.EqualValues(t, 0x403, Desc(3).WithAF())
	assert.EqualValues(t, ^uint64(0x80), Desc(^uint64(0)).WithDirty())
}

func TestTableDescAndLeafDesc(t *testing.T) {
	assert.EqualValues(t, 0x1_2345_6003, TableDesc(0x1_2345_6000))
	for _, c := range []struct {
		level int
		attrs LeafAttrs
		want  Desc
	}{
		{3, LeafAttrs{}, 0x4020_0f43},
		{2, LeafAttrs{}, 0x4020_0f41},
		{3, LeafAttrs{AttrIndx: 7}, 0x4020_0f5f},
		{3, LeafAttrs{ReadOnly: true}, 0x4020_0fc3},
		{3, LeafAttrs{Privileged: true}, 0x4020_0f03},
		{3, LeafAttrs{Global: true}, 0x4020_0743},
	} {
		assert.Equal(t, c.want, LeafDesc(0x4020_0000, c.level, c.attrs), "%+v", c)
	}
}

func TestHasGranule(t *testing.T) {
	ids := IDRegs{IDR: [6]uint32{5: 0x50}} // §6.3.6: GRAN4K [4], GRAN16K [5], GRAN64K [6]
	assert.True(t, ids.HasGranule(Granule4K))
	assert.False(t, ids.HasGranule(Granule16K))
	assert.True(t, ids.HasGranule(Granule64K))
	assert.False(t, ids.HasGranule(0))
}

// The bits of stage 2's attributes (DDI 0487, from Table D8-58 on): S2AP [7:6], XN [54:53], MemAttr
// [5:2]. Device memory is MemAttr 0b00xx, or with FWB 0bx0xx.
func TestDescAttributes_stage2(t *testing.T) {
	assert.Equal(t, uint8(0b01), Desc(0x40).S2AP(), "reads")
	assert.Equal(t, uint8(0b10), Desc(0x80).S2AP(), "writes")
	assert.Equal(t, uint8(0b11), (^Desc(0)).S2AP())
	assert.Equal(t, uint8(0b01), Desc(1<<53).XN())
	assert.Equal(t, uint8(0b10), Desc(1<<54).XN())
	assert.Equal(t, Desc(0x80), Desc(0).WithS2Dirty())
	for memAttr := range Desc(16) {
		assert.Equal(t, memAttr < 4, (memAttr << 2).Device(false), "%04b", memAttr)
		assert.Equal(t, memAttr&4 == 0, (memAttr << 2).Device(true), "%04b, FWB", memAttr)
	}
}
