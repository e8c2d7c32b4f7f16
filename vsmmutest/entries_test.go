package vsmmutest_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// §5.2: V [0], Config = 101 [3:1], S1Fmt [5:4], S1ContextPtr, S1CDMax [63:59]; S1DSS [65:64], S1CIR
// [67:66], S1COR [69:68], S1CSH [71:70].
func TestSTE_5_2(t *testing.T) {
	r := newRAM(t)
	for _, c := range []struct {
		f    smmuv3.S1Fmt
		log2 uint8
		want smmuv3.STE
	}{
		{smmuv3.S1FmtLinear, 0, smmuv3.STE{0x4000_000b, 0xd4}},
		{smmuv3.S1Fmt4K, 0, smmuv3.STE{0x4000_004b, 0xd4}},                    // S1Fmt is IGNORED with one CD
		{smmuv3.S1FmtLinear, 5, smmuv3.STE{0x2800_0000_4000_080b, 0xd6}},      // 2 KiB
		{smmuv3.S1Fmt4K, 10, smmuv3.STE{0x5000_0000_4000_109b &^ 0x80, 0xd6}}, // 16 L1CDs
		{smmuv3.S1Fmt64K, 20, smmuv3.STE{0xa000_0000_4000_202b, 0xd6}},        // 1024 L1CDs
	} {
		cds, err := vsmmutest.NewCDTable(r, c.f, c.log2)
		require.NoError(t, err)
		ste := cds.STE()
		assert.Nil(t, ste.Illegal(&allIDs))
		ste[0] &^= 0xffff_ffc0
		c.want[0] &^= 0xffff_ffc0
		assert.Equal(t, c.want, ste, "%v, 2^%d CDs", c.f, c.log2)
		assert.EqualValues(t, cds.Shape().Ptr, cds.STE()[0]&0xffff_ffc0)
	}
	assert.Equal(t, smmuv3.STE{0x9}, vsmmutest.BypassSTE())
	assert.Equal(t, smmuv3.STE{0x1}, vsmmutest.AbortSTE())
}

// §5.3, §5.4: where CDs lie, and L1CDs, which are L2Ptr | V.
func TestCDTable_5_3(t *testing.T) {
	r := newRAM(t)
	cd := smmuv3.CD{0x8000_0000, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77}

	linear, err := vsmmutest.NewCDTable(r, smmuv3.S1FmtLinear, 3)
	require.NoError(t, err)
	require.NoError(t, linear.Set(5, cd))
	assert.Equal(t, cd[:], words(t, r, guestmem.GPA(linear.Shape().Ptr)+5*64, 8))
	assert.ErrorContains(t, linear.Set(8, cd), "the table has 2^3 CDs")

	for _, c := range []struct {
		f          smmuv3.S1Fmt
		l1, within guestmem.GPA // of SubstreamID 0x4321
		leafSize   uint64
	}{
		{smmuv3.S1Fmt4K, 0x4321 >> 6 * 8, 0x21 * 64, 0x1000},
		{smmuv3.S1Fmt64K, 0x4321 >> 10 * 8, 0x321 * 64, 0x1_0000},
	} {
		two, err := vsmmutest.NewCDTable(r, c.f, 16)
		require.NoError(t, err)
		require.NoError(t, two.Set(0x4321, cd))
		l1cd := words(t, r, guestmem.GPA(two.Shape().Ptr)+c.l1, 1)[0]
		assert.EqualValues(t, 1, l1cd%c.leafSize, "V, and a leaf aligned to its size")
		assert.Equal(t, cd[:], words(t, r, guestmem.GPA(l1cd-1)+c.within, 8))
		before := r.Allocated()
		require.NoError(t, two.Set(0x4320, cd))
		assert.Equal(t, before, r.Allocated(), "the leaf is there")
	}
	_, err = vsmmutest.NewCDTable(r, smmuv3.S1FmtLinear, 21)
	assert.ErrorContains(t, err, "2^21 CDs, at most 2^20")
}

// §3.3.1, §5.1, §6.3.25: LOG2SIZE [5:0], SPLIT [10:6], FMT [17:16]; an L1STD is L2Ptr and Span
// [4:0].
func TestStreamTable_5_1(t *testing.T) {
	r := newRAM(t)
	ste := smmuv3.STE{0x9, 1, 2, 3, 4, 5, 6, 7}

	linear, err := vsmmutest.NewStreamTable(r, 8, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 8, linear.Config())
	assert.EqualValues(t, 0x4000_0000, linear.Base())
	require.NoError(t, linear.Set(0xff, ste))
	assert.Equal(t, ste[:], words(t, r, ramAt+0xff*64, 8))
	assert.ErrorContains(t, linear.Set(0x100, ste), "the table has 2^8 STEs")

	for split, config := range map[uint]uint32{6: 0x1_0190, 8: 0x1_0210, 10: 0x1_0290} {
		two, err := vsmmutest.NewStreamTable(r, 16, split)
		require.NoError(t, err)
		assert.Equal(t, config, two.Config())
		require.NoError(t, two.Set(0x4321, ste))
		l1std := words(t, r, guestmem.GPA(two.Base())+guestmem.GPA(0x4321>>split*8), 1)[0]
		assert.EqualValues(t, split+1, l1std&0x3f, "Span: 2^(Span-1) STEs")
		assert.Equal(t, ste[:], words(t, r, guestmem.GPA(l1std&^0x3f)+0x4321&(1<<split-1)*64, 8))
		assert.Zero(t, words(t, r, guestmem.GPA(two.Base()), 1)[0], "other streams have no table")
	}
	for want, c := range map[string]struct{ log2, split uint }{"2^33 STEs": {33, 8}, "split 7": {16, 7}} {
		_, err := vsmmutest.NewStreamTable(r, c.log2, c.split)
		assert.ErrorContains(t, err, want)
	}
}
