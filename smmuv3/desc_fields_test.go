package smmuv3

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The descriptors are raw literals: D8.3.1 has the layouts of tables, blocks and pages.
func TestFieldsOfDescriptors(t *testing.T) {
	k4, k16, k64 := Format{Granule: Granule4K}, Format{Granule: Granule16K}, Format{Granule: Granule64K}
	wide := Format{Granule: Granule4K, Wide: true}
	for _, c := range []struct {
		d            Desc
		f            Format
		level, stage int
		want         []string // "name bits value meaning"
		not          []string // names of no field
	}{
		{0xfffe, k4, 3, 1, []string{"Valid [0] 0x0 invalid: accesses fault"}, []string{"Type", "AF", "OutputAddress", "reserved"}},
		{0x40000701, k4, 3, 1, []string{"Type [1] 0x0 reserved at level 3: invalid"}, []string{"AF"}},
		{0x40000701, k4, 0, 1, []string{"Type [1] 0x0 block, which this level does not have: invalid"}, []string{"AF"}},
		{0x1800000040000003, k4, 2, 1, []string{"Type [1] 0x1 table", "NextTable [47:12] 0x40000000 ", "PXNTable [59] 0x1 privileged execute-never below",
			"UXNTable [60] 0x1 unprivileged execute-never below", "APTable [62:61] 0x0 no limit"}, []string{"AP", "OutputAddress"}},
		{0x40000003, k4, 2, 2, []string{"NextTable [47:12] 0x40000000 "}, []string{"APTable", "PXNTable"}},
		{0x60000040000f45, k4, 1, 1, []string{"Type [1] 0x0 block", "OutputAddress [47:30] 0x40000000 ", "AttrIndx [4:2] 0x1 Attr1 of CD.MAIR",
			"AP [7:6] 0x1 read and write", "SH [9:8] 0x3 inner shareable", "AF [10] 0x1 accessed", "nG [11] 0x1 the ASID of the walk",
			"PXN [53] 0x1 privileged execute-never", "UXN [54] 0x1 unprivileged execute-never"}, []string{"S2AP", "MemAttr", "NextTable"}},
		{0x400000400007ff, k4, 3, 2, []string{"Type [1] 0x1 page", "MemAttr [5:2] 0xf without S2FWB: Normal, outer write-back, inner write-back",
			"S2AP [7:6] 0x3 read and write", "XN [54:53] 0x2 execute-never"}, []string{"AttrIndx", "nG"}},
		{0x400005c7, k4, 3, 2, []string{"MemAttr [5:2] 0x1 without S2FWB: Device-nGnRE"}, nil},
		{0x42000701, k16, 2, 1, []string{"OutputAddress [47:25] 0x42000000 "}, nil},
		{0x4000f703, k64, 3, 1, []string{"OutputAddress [47:16] 0x40000000 0xf000040000000", "OutputAddress[51:48] [15:12] 0xf "}, nil},
		{0x3000040000703, wide, 3, 1, []string{"OutputAddress [47:12] 0x40000000 0xf000040000000", "OutputAddress[49:48] [49:48] 0x3 ",
			"OutputAddress[51:50] [9:8] 0x3 "}, []string{"SH"}},
	} {
		var got, names []string
		for _, f := range c.d.Fields(c.f, c.level, c.stage) {
			got = append(got, fmt.Sprintf("%s %s %#x %s", f.Name, f.Bits(), f.Value, f.Meaning))
			names = append(names, f.Name)
		}
		assert.Subset(t, got, c.want, "%#x", uint64(c.d))
		for _, n := range c.not {
			assert.NotContains(t, names, n, "%#x", uint64(c.d))
		}
	}
}

// Fields reads any descriptor of any table.
func TestFieldsOfAnyDescriptor(t *testing.T) {
	for _, g := range []Granule{Granule4K, Granule16K, Granule64K} {
		for level := -1; level <= 3; level++ {
			for _, d := range []Desc{0, 1, 3, ^Desc(0), ^Desc(2)} {
				for _, wide := range []bool{false, true} {
					for stage := 1; stage <= 2; stage++ {
						assert.NotEmpty(t, d.Fields(Format{g, wide}, level, stage))
					}
				}
			}
		}
	}
}
