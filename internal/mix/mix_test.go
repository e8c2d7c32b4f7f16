package mix

import (
	"encoding/binary"
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The first command of each mix as words, from the figures of Chapter 4.
func TestMixesHaveTheCommandsOfTheirNames(t *testing.T) {
	want := map[string]smmuv3.Command{
		"SYNC":                         {0x46},
		"PREFETCH_CONFIG":              {0x10_0000_0001},
		"TLBI_NH_ASID":                 {0x0007_0000_0000_0011},
		"TLBI_NH_VA":                   {0x0007_0000_0000_0012, 0x1000},
		"TLBI_NH_VA-32pages":           {0x0007_0000_0001_f012, 0x2_0400},
		"TLBI_NH_VA-31pages-unaligned": {0x0007_0000_0001_e012, 0x1400},
		"TLBI_NH_VA-widest":            {0x0007_0000_01f1_e012, 0x1400},
		"CFGI_STE":                     {0x10_0000_0003, 1},
		"CFGI_CD":                      {0x10_0000_0005, 1},
		"TLBI_NH_VA+SYNC":              {0x0007_0000_0000_0012, 0x1000},
		"63xTLBI_NH_VA+SYNC":           {0x0007_0000_0000_0012, 0x1000},
	}
	ids := soft.DefaultIDs()
	for _, m := range All {
		assert.Equal(t, want[m.Name], m.Commands[0], m.Name)
		assert.Equal(t, 1, bits.OnesCount(uint(len(m.Commands))), "%s: a queue holds a whole number of sequences", m.Name)
		for _, c := range m.Commands {
			assert.Nil(t, c.Illegal(&ids), "%s: %x", m.Name, c)
		}
	}
	assert.Len(t, want, len(All))
}

// The guest's memory as words: STE (§5.2), CD (§5.4), descriptors (DDI 0487, D8.3).
func TestGuestIsAStreamWithStage1(t *testing.T) {
	const base, pages = 0x4000_0000, 600
	blocks := Guest(base, pages)
	word := func(at guestmem.GPA) uint64 {
		for _, b := range blocks {
			if at >= b.At && at < b.At+guestmem.GPA(len(b.Data)) {
				return binary.LittleEndian.Uint64(b.Data[at-b.At:])
			}
		}
		require.Fail(t, "no block", "at %v", at)
		return 0
	}
	ste := guestmem.GPA(base + 0x10_0000 + 0x10*64)
	assert.Equal(t, blocks[0].At, ste)
	assert.EqualValues(t, 0xb, word(ste)&0x3f, "V, Config = 101")
	cd := guestmem.GPA(word(ste) &^ 0x3f)
	assert.EqualValues(t, 0x0001_6205_c000_3510, word(cd))
	for _, page := range []uint64{0, 511, 512, pages - 1} {
		table := guestmem.GPA(word(cd + 8))
		for _, shift := range []uint{39, 30, 21} {
			d := word(table + guestmem.GPA(page<<12>>shift&511*8))
			assert.EqualValues(t, 3, d&0xfff)
			table = guestmem.GPA(d &^ 3)
		}
		assert.EqualValues(t, base+0x30_0f43, word(table+guestmem.GPA(page&511*8)))
	}
	last := blocks[len(blocks)-1]
	assert.Len(t, last.Data, 8*pages)
	for i := range pages {
		assert.EqualValues(t, base+0x30_0f43, word(last.At+guestmem.GPA(8*i)))
	}
}
