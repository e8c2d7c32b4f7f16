package smmuv3

import "fmt"

// L1STD is a Level 1 Stream Table Descriptor (§5.1).
//
//	 63      56 55                            6 5 4    0
//	+----------+-------------------------------+-+------+
//	|   RES0   |          L2Ptr[55:6]          |0| Span |
//	+----------+-------------------------------+-+------+
type L1STD uint64

// L1STDSize is the size of an L1STD in bytes.
const L1STDSize = 8

// The places of the fields.
const (
	l1stdSpan  = 0 + 5*wide
	l1stdL2Ptr = 6 + 50*wide + address
)

var l1stdRows = []row{
	{name: "Span", place: l1stdSpan, mean: func(v uint64) string {
		switch {
		case v == 0:
			return "invalid: the StreamIDs have no STE"
		case v > 11:
			return "reserved: behaves as 0"
		}
		return fmt.Sprintf("STEs: %d", 1<<(v-1))
	}},
	{name: "L2Ptr", place: l1stdL2Ptr},
}

// Fields explains the descriptor field by field.
func (d L1STD) Fields() []Field { return explain([]uint64{uint64(d)}, l1stdRows) }

// Span returns L1STD.Span: the level-2 table has 2^(Span-1) STEs. 0 is an invalid descriptor.
func (d L1STD) Span() uint { return uint(place(l1stdSpan).of(uint64(d))) }

// STEs returns the number of STEs in the level-2 table of Stream table t. It is 0 for an invalid
// descriptor: Span is 0, above 11, or more than SPLIT allows (§5.1).
func (d L1STD) STEs(t StreamTable) uint64 {
	span := d.Span()
	if span == 0 || span > 11 || span > t.Split+1 {
		return 0
	}
	return 1 << (span - 1)
}

// L2Ptr returns the address of the level-2 table, aligned to the table's size (§5.1). Bits above
// the output address size are kept.
func (d L1STD) L2Ptr() uint64 {
	size := uint64(STESize)
	if span := d.Span(); span > 0 {
		size <<= span - 1
	}
	return place(l1stdL2Ptr).of(uint64(d)) &^ (size - 1)
}
