package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The values are raw literals of the sections in the names.
func TestMeaningOfRegisterValues(t *testing.T) {
	for _, c := range []struct {
		section       string
		off, v        uint64
		name, meaning string
	}{
		{"CR0 §6.3.9", 0x20, 0x1, "SMMUEN", "transactions are translated"},
		{"CR0 §6.3.9", 0x20, 0x0, "SMMUEN", "transactions follow GBPA"},
		{"CR0 §6.3.9", 0x20, 0x100, "VMW", "VMID bits [3:0] are ignored"},
		{"CR0 §6.3.9", 0x20, 0x140, "VMW", "reserved"},
		{"CR1 §6.3.11", 0x28, 0x40, "TABLE_IC", "write-back"},
		{"CR1 §6.3.11", 0x28, 0x30, "QUEUE_SH", "inner shareable"},
		{"CR2 §6.3.12", 0x2c, 0x4, "PTM", "broadcast TLB maintenance may be ignored"},
		{"GBPA §6.3.14", 0x44, 0x100000, "ABORT", "transactions abort"},
		{"GBPA §6.3.14", 0x44, 0x1000, "SHCFG", "incoming shareability"},
		{"GBPA §6.3.14", 0x44, 0x80000000, "Update", "an update is in progress"},
		{"GERROR §6.3.19", 0x60, 0x100, "SFM_ERR", "the SMMU is in Service Failure Mode"},
		{"STRTAB_BASE_CFG §6.3.25", 0x88, 0x10210, "SPLIT", "a level-2 table has up to 256 STEs"},
		{"STRTAB_BASE_CFG §6.3.25", 0x88, 0x10210, "LOG2SIZE", "StreamIDs have 16 bits"},
		{"STRTAB_BASE_CFG §6.3.25", 0x88, 0x10210, "FMT", "two-level"},
		{"CMDQ_CONS §6.3.28", 0x9c, 0x01000022, "ERR", "CERROR_ILL"},
	} {
		got := map[string]string{}
		for _, f := range RegisterFields(c.off, c.v) {
			got[f.Name] = f.Meaning
		}
		assert.Equal(t, c.meaning, got[c.name], "%s %#x", c.section, c.v)
	}
}

func TestMeaningOfSpan(t *testing.T) {
	for d, want := range map[L1STD]string{
		0x0: "invalid: the StreamIDs have no STE", 0x1: "STEs: 1", 0x9: "STEs: 256", 0xb: "STEs: 1024", 0xc: "reserved: behaves as 0",
	} {
		assert.Equal(t, want, d.Fields()[0].Meaning, d)
	}
}
