package smmuv3

// L1CD is a Level 1 Context Descriptor (§5.3).
//
//	 63    56 55                              12 11   1 0
//	+--------+----------------------------------+------+-+
//	|  RES0  |           L2Ptr[55:12]           | RES0 |V|
//	+--------+----------------------------------+------+-+
type L1CD uint64

// L1CDSize is the size of an L1CD in bytes.
const L1CDSize = 8

// The places of the fields.
const (
	l1cdV     = 0 + wide
	l1cdL2Ptr = 12 + 44*wide + address
)

var l1cdRows = []row{
	{name: "V", place: l1cdV, mean: oneOf("invalid", "valid")},
	{name: "L2Ptr", place: l1cdL2Ptr},
}

// V reports whether the descriptor is valid.
func (d L1CD) V() bool { return place(l1cdV).of(uint64(d)) != 0 }

// L2Ptr returns the address of the leaf table, aligned to 4 KiB. Bits above the output address size
// are kept.
func (d L1CD) L2Ptr() uint64 { return place(l1cdL2Ptr).of(uint64(d)) }

// Fields explains the descriptor field by field.
func (d L1CD) Fields() []Field { return explain([]uint64{uint64(d)}, l1cdRows) }
