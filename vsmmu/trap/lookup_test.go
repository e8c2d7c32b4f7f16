package trap

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// testIDs returns raw ID registers. IDR0 has S1P, TTF AArch64, COHACC, CD2L, STALL_MODEL terminate
// and ST_LEVEL two-level; IDR1 has SIDSIZE 16 and SSIDSIZE 10; IDR5 has OAS 44 bits and all
// granules.
func testIDs() smmuv3.IDRegs {
	return smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
}

func table(base uint64, cfg uint32) smmuv3.StreamTable {
	return smmuv3.NewStreamTable(base, cfg, testIDs())
}

func TestLookupLinear_3_3_1_1(t *testing.T) {
	mem := new(guestmem.Fake)
	mem.SetWords(0x10000+64*5, 0x1234_5670_0000_000b, 0xfeed)
	r := NewReader(mem)
	linear := table(0x10000, 4) // LOG2SIZE 4: 16 STEs

	e := r.Lookup(linear, 5)
	assert.Zero(t, e.Fault)
	assert.Equal(t, smmuv3.STE{0x1234_5670_0000_000b, 0xfeed}, e.STE)

	assert.Zero(t, r.Lookup(linear, 15).Fault, "the last STE")
	assert.Equal(t, smmuv3.CBadStreamID, r.Lookup(linear, 16).Fault, "one beyond the table")

	reads := mem.Reads()
	r.Lookup(linear, 0xffff_ffff)
	assert.Equal(t, reads, mem.Reads(), "no read beyond the table (§3.21.3)")
}

func TestLookupTwoLevel_3_3_1_2(t *testing.T) {
	const l1, l2 = 0x20000, 0x40000
	// STRTAB_BASE_CFG: FMT 2-level [16], SPLIT 8 [10:6], LOG2SIZE 12.
	two := table(l1, 0x1<<16|8<<6|12)
	for _, tc := range []struct {
		name string
		desc uint64
		sid  smmuv3.StreamID
		want smmuv3.EventType
		at   guestmem.GPA // of the STE
	}{
		{"span 9, first", l2 | 9, 0x300, 0, l2},
		{"span 9, last of the 256", l2 | 9, 0x3ff, 0, l2 + 64*255},
		{"span 1 has one STE", l2 | 1, 0x300, 0, l2},
		{"span 1 has no second", l2 | 1, 0x301, smmuv3.CBadStreamID, 0},
		{"span 4 has eight", l2 | 4, 0x307, 0, l2 + 64*7},
		{"span 4 has no ninth", l2 | 4, 0x308, smmuv3.CBadStreamID, 0},
		{"span 0 is invalid", l2, 0x300, smmuv3.CBadStreamID, 0},
		{"span SPLIT+2 is out of bounds", l2 | 10, 0x300, smmuv3.CBadStreamID, 0},
		{"span 12 is reserved", l2 | 12, 0x300, smmuv3.CBadStreamID, 0},
		{"span 31 is reserved", l2 | 31, 0x300, smmuv3.CBadStreamID, 0},
		{"L2Ptr below its table's size is zero", l2 | 0x3fc0 | 9, 0x300, 0, l2},
		{"bits above the output address size are truncated", 1<<50 | l2 | 9, 0x300, 0, l2},
		{"bits [63:56] are reserved", 0xff<<56 | l2 | 9, 0x300, 0, l2},
		{"beyond LOG2SIZE", l2 | 9, 0x1000, smmuv3.CBadStreamID, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			mem := new(guestmem.Fake)
			mem.SetWords(l1+8*3, tc.desc)
			if tc.want == 0 {
				mem.SetWords(tc.at, 0xabcd)
			}
			e := NewReader(mem).Lookup(two, tc.sid)
			assert.Equal(t, tc.want, e.Fault)
			if tc.want == 0 {
				assert.EqualValues(t, 0xabcd, e.STE[0])
			}
		})
	}
}

func TestLookupFetchAbort_7_3_4(t *testing.T) {
	mem := new(guestmem.Fake)
	mem.SetWords(0x20000, 0x40000|9)
	r := NewReader(mem)
	two := table(0x20000, 0x1<<16|8<<6|12)

	mem.FailReads(guestmem.Range{GPA: 0x40040, Len: 1}, nil)
	e := r.Lookup(two, 1)
	assert.Equal(t, smmuv3.FSTEFetch, e.Fault)
	assert.EqualValues(t, 0x40040, e.FetchAddr, "address of the STE")

	mem.FailReads(guestmem.Range{GPA: 0x20000, Len: 8}, nil)
	e = r.Lookup(two, 1)
	assert.Equal(t, smmuv3.FSTEFetch, e.Fault)
	assert.EqualValues(t, 0x20000, e.FetchAddr, "address of the level-1 descriptor")

	mem.Heal()
	assert.Zero(t, r.Lookup(two, 1).Fault, "a failed fetch is not cached (§3.21.3)")
}

func TestLookupAllocatesNothing(t *testing.T) {
	r := NewReader(new(guestmem.Fake))
	linear := table(0, 4)
	assert.Zero(t, testing.AllocsPerRun(100, func() { r.Lookup(linear, 3) }))
}
