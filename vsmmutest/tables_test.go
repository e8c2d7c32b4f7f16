package vsmmutest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// allIDs: IDR0 has S2P, S1P, TTF = AArch64, COHACC, ASID16, CD2L, STALL_MODEL = terminate, ST_LEVEL
// = 2-level, VMID16; IDR1 has CMDQS, EVENTQS, PRIQS 19, SSIDSIZE 20, SIDSIZE 32; IDR3 has RIL; IDR5
// has OAS = 48 bits and all granules.
var allIDs = smmuv3.IDRegs{IDR: [6]uint32{0: 0x090c_101b, 1: 0x0273_9d20, 3: 0x400, 5: 0x75}}

// words reads n words at an address.
func words(t testing.TB, r *vsmmutest.RAM, at guestmem.GPA, n int) []uint64 {
	t.Helper()
	return must[[]uint64](t)(r.Words(at, n))
}

// §5.4: T0SZ [5:0], IR0 [9:8], OR0 [11:10], SH0 [13:12], EPD1 [30], V [31], IPS [34:32], AA64 [41],
// R [45], A [46], ASID [63:48]; TTB0 in dw1; MAIR in dw3.
func TestCD_5_4(t *testing.T) {
	r := newRAM(t)
	for _, c := range []struct {
		layout vsmmutest.Layout
		dw0    uint64
	}{
		{vsmmutest.Layout{}, 0x0007_6205_c000_3510},
		{vsmmutest.Layout{InputBits: 39}, 0x0007_6205_c000_3519},
		{vsmmutest.Layout{Granule: smmuv3.Granule64K}, 0x0007_6205_c000_3550}, // TG0 [7:6] = 01
		{vsmmutest.Layout{Granule: smmuv3.Granule16K}, 0x0007_6205_c000_3590}, // TG0 [7:6] = 10
	} {
		s, err := vsmmutest.NewStage1(r, allIDs, c.layout, 7)
		require.NoError(t, err)
		assert.Equal(t, smmuv3.CD{c.dw0, uint64(s.Root()), 0, 0xff}, s.CD(), "%+v", c.layout)
	}
	ids := allIDs
	ids.Set(smmuv3.OAS, 2) // 40 bits
	s, err := vsmmutest.NewStage1(r, ids, vsmmutest.Layout{}, 7)
	require.NoError(t, err)
	assert.EqualValues(t, 0x0007_6202_c000_3510, s.CD()[0], "IPS is no more than OAS")
}

// D8.3.1: a table is next | 0b11. A page of stage 1 has nG [11], AF [10], SH = inner [9:8] and
// AP[1] [6]: 0xf43; a block lacks bit 1.
func TestStage1Descriptors_D8_3(t *testing.T) {
	r := newRAM(t)
	s, err := vsmmutest.NewStage1(r, allIDs, vsmmutest.Layout{}, 1)
	require.NoError(t, err)
	const iova = 0x1234_5678_9000 // indices 0x24, 0xd1, 0xb3, 0x189
	require.NoError(t, s.Map(iova, 0x4000_5000, 0x1000, smmuv3.LeafAttrs{}))
	l1 := s.Root() + 0x1000
	assert.Equal(t, []uint64{uint64(l1) | 3}, words(t, r, s.Root()+8*0x24, 1))
	assert.Equal(t, []uint64{uint64(l1+0x1000) | 3}, words(t, r, l1+8*0xd1, 1))
	assert.Equal(t, []uint64{uint64(l1+0x2000) | 3}, words(t, r, l1+0x1000+8*0xb3, 1))
	assert.Equal(t, []uint64{0, 0x4000_5f43, 0}, words(t, r, l1+0x2000+8*0x188, 3))

	attrs := smmuv3.LeafAttrs{ReadOnly: true, Global: true, Privileged: true}
	require.NoError(t, s.Map(iova+0x1000, 0x4000_6000, 0x1000, attrs))
	assert.Equal(t, []uint64{0x4000_6783}, words(t, r, l1+0x2000+8*0x18a, 1), "AP[2] [7]; no nG, no AP[1]")
	to, leaf, err := s.Lookup(iova + 0x1abc)
	require.NoError(t, err)
	assert.Equal(t, guestmem.GPA(0x4000_6abc), to)
	assert.EqualValues(t, 0x4000_6783, leaf)
}

func TestMapUsesTheLargestBlocks(t *testing.T) {
	const (
		l4K, l2M, l1G = 0x1000, 0x20_0000, 0x4000_0000
		l32M, l512M   = 0x200_0000, 0x2000_0000
	)
	for _, c := range []struct {
		granule smmuv3.Granule
		iova, n uint64
		level   int
		desc    uint64
	}{
		{smmuv3.Granule4K, l1G, l1G, 1, 0x4000_0f41},
		{smmuv3.Granule4K, 3 * l2M, l2M, 2, 0x4000_0f41},
		{smmuv3.Granule4K, 3 * l2M, l2M - l4K, 3, 0x4000_0f43},
		{smmuv3.Granule4K, 3*l2M + l4K, l2M, 3, 0x4000_0f43},
		{smmuv3.Granule16K, l32M, l32M, 2, 0x4000_0f41},
		{smmuv3.Granule16K, l1G, l1G, 2, 0x4000_0f41}, // 16 KiB has no blocks at level 1
		{smmuv3.Granule64K, l512M, l512M, 2, 0x4000_0f41},
		{smmuv3.Granule64K, 0x1_0000, 0x1_0000, 3, 0x4000_0f43},
	} {
		r := newRAM(t)
		s, err := vsmmutest.NewStage1(r, allIDs, vsmmutest.Layout{Granule: c.granule}, 1)
		require.NoError(t, err)
		require.NoError(t, s.Map(c.iova, 0x4000_0000, c.n, smmuv3.LeafAttrs{}))
		at, err := s.Entry(c.iova, c.level)
		require.NoError(t, err)
		assert.Equal(t, []uint64{c.desc}, words(t, r, at, 1), "%+v", c)
		to, _, err := s.Lookup(c.iova + c.n - 1)
		require.NoError(t, err)
		assert.Equal(t, guestmem.GPA(0x4000_0000+c.n-1), to)
		_, _, err = s.Lookup(c.iova + c.n)
		assert.ErrorContains(t, err, "not mapped")
		require.NoError(t, s.Unmap(c.iova, c.n))
		_, _, err = s.Lookup(c.iova)
		assert.ErrorContains(t, err, "not mapped")
	}
}

func TestMapRefuses(t *testing.T) {
	s, err := vsmmutest.NewStage1(newRAM(t), allIDs, vsmmutest.Layout{InputBits: 39}, 1)
	require.NoError(t, err)
	const page = 0x1000
	require.NoError(t, s.Map(0, ramAt, 0x20_0000, smmuv3.LeafAttrs{}))
	for name, c := range map[string]struct {
		iova, n uint64
		to      guestmem.GPA
		want    string
	}{
		"nothing":           {page, 0, ramAt, "not a range of pages"},
		"half a page":       {1 << 30, page / 2, ramAt, "not a range of pages"},
		"an unaligned IOVA": {1<<30 | 8, page, ramAt, "not a range of pages"},
		"an unaligned page": {1 << 30, page, ramAt + 8, "not a page"},
		"beyond the input":  {1 << 39, page, ramAt, "beyond 39 input bits"},
		"across the end":    {1<<39 - page, 2 * page, ramAt, "beyond 39 input bits"},
		"beyond 48 bits":    {1 << 30, page, 1 << 48, "not a page below"},
		"part of a block":   {page, page, ramAt, "already mapped"},
	} {
		assert.ErrorContains(t, s.Map(c.iova, c.to, c.n, smmuv3.LeafAttrs{}), c.want, name)
	}
	assert.ErrorIs(t, s.Map(0, ramAt, page, smmuv3.LeafAttrs{}), vsmmutest.ErrMapped)
	assert.ErrorContains(t, s.Unmap(0, page), "a block of 0x200000 bytes reaches beyond the range")
	assert.ErrorContains(t, s.Unmap(page, 0x20_0000-page), "a block of 0x200000 bytes reaches beyond the range")
	assert.NoError(t, s.Unmap(0, 1<<30), "Unmap skips holes")
}

func TestPagesOnly(t *testing.T) {
	r := newRAM(t)
	s, err := vsmmutest.NewStage1(r, allIDs, vsmmutest.Layout{PagesOnly: true}, 1)
	require.NoError(t, err)
	require.NoError(t, s.Map(0, ramAt, 0x20_0000, smmuv3.LeafAttrs{}))
	at, err := s.Entry(0, 3)
	require.NoError(t, err)
	assert.Equal(t, []uint64{0x4000_0f43, 0x4000_1f43}, words(t, r, at, 2))
}

// Unmap keeps tables. A later Map of a larger range uses their pages instead of a block.
func TestMapUsesExistingTables(t *testing.T) {
	s, err := vsmmutest.NewStage1(newRAM(t), allIDs, vsmmutest.Layout{}, 1)
	require.NoError(t, err)
	require.NoError(t, s.Map(0x1000, ramAt, 0x1000, smmuv3.LeafAttrs{}))
	require.NoError(t, s.Unmap(0x1000, 0x1000))
	require.NoError(t, s.Map(0, ramAt, 0x20_0000, smmuv3.LeafAttrs{}))
	_, leaf, err := s.Lookup(0x1000)
	require.NoError(t, err)
	assert.EqualValues(t, 0x4000_1f43, leaf)
}

func TestLayoutRefused(t *testing.T) {
	ids := allIDs
	ids.Set(smmuv3.GRAN16K, 0)
	for want, l := range map[string]vsmmutest.Layout{
		"not supported by the SMMU: a granule of 2^14 bytes": {Granule: smmuv3.Granule16K},
		"not supported by the SMMU: a granule of 2^13 bytes": {Granule: 13},
		"49 input bits": {InputBits: 49},
		"12 input bits": {InputBits: 12},
	} {
		_, err := vsmmutest.NewStage1(newRAM(t), ids, l, 1)
		assert.ErrorContains(t, err, want)
		_, err = vsmmutest.NewStage2(newRAM(t), ids, l, 1)
		assert.ErrorContains(t, err, want)
	}
	_, err := vsmmutest.NewStage1(newRAM(t), smmuv3.IDRegs{}, vsmmutest.Layout{}, 1)
	assert.EqualError(t, err, "vsmmutest: new stage 1: not supported by the SMMU: there is no granule (IDR5)")
}

// §5.2: V, Config = 110; S2VMID [143:128], S2T0SZ [165:160], S2SL0 [167:166], S2IR0 [169:168],
// S2OR0 [171:170], S2SH0 [173:172], S2TG [175:174], S2PS [178:176], S2AA64 [179], S2R [186]; S2TTB
// in dw3.
func TestStage2_5_2(t *testing.T) {
	for _, c := range []struct {
		layout vsmmutest.Layout
		dw2    uint64
		align  guestmem.GPA
	}{
		{vsmmutest.Layout{InputBits: 39}, 0x040d_3559_0000_1234, 0x1000},
		{vsmmutest.Layout{}, 0x040d_3590_0000_1234, 0x1000},
		// 16 KiB: 48 bits take two tables side by side at level 1, since level 0 needs S2DS.
		{vsmmutest.Layout{Granule: smmuv3.Granule16K}, 0x040d_b590_0000_1234, 0x8000},
		{vsmmutest.Layout{Granule: smmuv3.Granule64K}, 0x040d_7590_0000_1234, 0x1_0000},
	} {
		r := newRAM(t)
		s, err := vsmmutest.NewStage2(r, allIDs, c.layout, 0x1234)
		require.NoError(t, err)
		ste := s.STE()
		assert.Equal(t, smmuv3.STE{0xd, 0, c.dw2, uint64(s.Root())}, ste, "%+v", c.layout)
		assert.Zero(t, s.Root()%c.align)
		assert.Nil(t, ste.Illegal(&allIDs))
		assert.Equal(t, smmuv3.STE{0x4000_004f, 0xd4, c.dw2, uint64(s.Root())}, s.Nested(smmuv3.STE{0x4000_004b, 0xd4}))

		// The last page: a leaf of stage 2 has AF, SH = inner, S2AP = 11 and MemAttr = 1111.
		last := uint64(1)<<s.InputBits() - s.PageSize()
		require.NoError(t, s.Map(last, ramAt, s.PageSize(), vsmmutest.ReadWrite))
		_, leaf, err := s.Lookup(last)
		require.NoError(t, err)
		assert.EqualValues(t, 0x4000_07ff, leaf)
	}
	assert.EqualValues(t, 0x4000_077d, vsmmutest.Stage2Leaf(0x4000_0000, 2, vsmmutest.Read))
	assert.EqualValues(t, 0x4000_07bf, vsmmutest.Stage2Leaf(0x4000_0000, 3, vsmmutest.Write))
}

// §4.4.1.1: NUM [16:12], SCALE [24:20], TG [75:74], Leaf [64].
func TestInvalidationCoversTheRange(t *testing.T) {
	r := newRAM(t)
	s, err := vsmmutest.NewStage1(r, allIDs, vsmmutest.Layout{}, 7)
	require.NoError(t, err)
	assert.Equal(t, []smmuv3.Command{{0x0007_0009_0000_0012, 0x1001}},
		s.Invalidation(9, 0x1000, 0x1000), "a single page needs no range")
	assert.Equal(t, []smmuv3.Command{{0x0007_0000_0010_0012, 0x1401}}, s.Invalidation(0, 0x1000, 0x2000))
	assert.Equal(t, []smmuv3.Command{
		{0x0007_0000_0000_0012, 0x1001}, // 1 page
		{0x0007_0000_0050_0012, 0x2401}, // 1 * 2^5 pages
	}, s.Invalidation(0, 0x1000, 33<<12))

	ids := allIDs
	ids.Set(smmuv3.RIL, 0)
	s, err = vsmmutest.NewStage1(r, ids, vsmmutest.Layout{Granule: smmuv3.Granule64K}, 7)
	require.NoError(t, err)
	assert.Equal(t, []smmuv3.Command{{0x0007_0000_0000_0012, 1}, {0x0007_0000_0000_0012, 0x1_0001}},
		s.Invalidation(0, 0, 0x2_0000))

	s2, err := vsmmutest.NewStage2(r, allIDs, vsmmutest.Layout{}, 9)
	require.NoError(t, err)
	assert.Equal(t, []smmuv3.Command{{0x9_0000_002a, 0x1001}, {0x9_0000_0010}}, s2.Invalidation(0x1000, 0x1000))
}

// Every number of pages is covered once, and no command is illegal.
func TestInvalidationOfEveryLength(t *testing.T) {
	r := newRAM(t)
	for _, g := range []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K} {
		s, err := vsmmutest.NewStage1(r, allIDs, vsmmutest.Layout{Granule: g}, 7)
		require.NoError(t, err)
		for pages := uint64(1); pages < 3000; pages++ {
			at := uint64(0x1_0000)
			for _, c := range s.Invalidation(0, at, pages<<g) {
				n := uint64(1)
				if c.TG() != 0 {
					n = uint64(c.Num()+1) << c.Scale()
				}
				if c.Addr() != at || c.TG() != 0 && n == 1 { // TG with NUM, SCALE and TTL of 0 is illegal
					require.Fail(t, "wrong command", "%d pages, at %#x: %v", pages, at, c)
				}
				at += n << g
			}
			if at != 0x1_0000+pages<<g {
				require.Fail(t, "wrong range", "%d pages: to %#x", pages, at)
			}
		}
	}
}
