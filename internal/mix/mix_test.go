package mix

import (
	"math/bits"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The words of one mix of each form, from the figures of Chapter 4.
func TestMixesAreTheCommandsOfTheirNames(t *testing.T) {
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
		assert.Equal(t, 1, bits.OnesCount(uint(len(m.Commands))), "%s: a queue holds a whole number of runs", m.Name)
		for _, c := range m.Commands {
			assert.Nil(t, c.Illegal(&ids), "%s: %x", m.Name, c)
		}
	}
	assert.Len(t, want, len(All))
}
