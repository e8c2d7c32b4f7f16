package smmuv3

import "fmt"

// Field is a field of a structure, explained.
type Field struct {
	Name    string
	Hi, Lo  uint   // its bits in the whole structure
	Value   uint64 // of a field that holds an address the address, in its place
	Meaning string // of the value, in words; empty where it speaks for itself
}

// Bits is where the field stands, as "[5:4]" or "[31]".
func (f Field) Bits() string {
	if f.Hi == f.Lo {
		return fmt.Sprintf("[%d]", f.Lo)
	}
	return fmt.Sprintf("[%d:%d]", f.Hi, f.Lo)
}

// fieldRow is a row of the tables by which structures are explained.
type fieldRow struct {
	name string
	lo   uint // bit in the whole structure
	wide uint
	// mean says what a value means; nil where it speaks for itself.
	mean func(v uint64) string
	// shift is how far an address is cut on the right.
	shift uint
}

func (r *fieldRow) value(words []uint64) uint64 {
	return bits(words[r.lo/64], r.lo%64, r.wide) << r.shift
}

// explain reads the rows' fields. Bits that are set and in no row are fields
// named "reserved".
func explain(words []uint64, rows ...[]fieldRow) []Field {
	rest := append([]uint64(nil), words...)
	var all []Field
	for _, part := range rows {
		for i := range part {
			r := &part[i]
			rest[r.lo/64] = setBits(rest[r.lo/64], r.lo%64, r.wide, 0)
			f := Field{Name: r.name, Lo: r.lo, Hi: r.lo + r.wide - 1, Value: r.value(words)}
			if r.mean != nil {
				f.Meaning = r.mean(f.Value)
			}
			all = append(all, f)
		}
	}
	for w, left := range rest {
		for lo := uint(0); lo < 64; lo++ {
			if !bit(left, lo) {
				continue
			}
			hi := lo
			for hi < 63 && bit(left, hi+1) {
				hi++
			}
			all = append(all, Field{
				Name: "reserved", Lo: 64*uint(w) + lo, Hi: 64*uint(w) + hi, Value: bits(left, lo, hi-lo+1),
				Meaning: "ignored: no field of a device like this",
			})
			lo = hi
		}
	}
	return all
}

// oneOf gives a value the meaning at its place in the list.
func oneOf(names ...string) func(uint64) string {
	return func(v uint64) string {
		if v < uint64(len(names)) {
			return names[v]
		}
		return "reserved"
	}
}

// stringOf gives a value the meaning that its type's String has.
func stringOf[T interface {
	~uint8
	fmt.Stringer
}](v uint64) string {
	return T(v).String()
}

var (
	// Of Context Descriptors, which are never written (§5.2), and of tables (§5.4).
	cdCacheability    = oneOf("non-cacheable", "write-back, read-allocate", "write-through, read-allocate", "write-back, no read-allocate")
	tableCacheability = oneOf("non-cacheable", "write-back, read- and write-allocate", "write-through, read-allocate", "write-back, no write-allocate")

	shareability  = oneOf("non-shareable", "reserved", "outer shareable", "inner shareable")
	addressSize   = func(v uint64) string { return fmt.Sprintf("%d bits", AddrBits(uint32(v))) }
	littleOrBig   = oneOf("little-endian", "big-endian")
	translateHalf = oneOf("walked", "not walked: faults")
)
