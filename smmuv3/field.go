package smmuv3

import (
	"encoding/binary"
	"fmt"
)

// place is the position and width of a field in its structure. It is a sum of constants:
//
//	dw1 + 3 + 5*wide            // bits [7:3] of double-word 1
//	dw1 + 6 + 50*wide + address // bits [55:6] of double-word 1, which are bits [55:6] of an address
//
// Each field of the architecture has one place. Getters, setters, legality rules and explanations
// share it. A getter whose place is a constant compiles to a load, a shift and a mask.
type place uint32

const (
	// address marks a field that holds the bits of an address. The field's value is the address:
	// its bits stay where they are in the double-word.
	address place = 1 << 15
	// wide is one bit of width.
	wide place = 1 << 16

	dw1 place = 64
	dw2 place = 128
	dw3 place = 192
	dw4 place = 256
	dw5 place = 320
	dw6 place = 384
	dw7 place = 448
)

// lo returns the field's first bit, counted from bit 0 of the structure.
func (p place) lo() uint { return uint(p & 0x1ff) }

// hi returns the field's last bit.
func (p place) hi() uint { return p.lo() + p.width() - 1 }

// width returns the number of the field's bits.
func (p place) width() uint { return uint(p >> 16) }

// dw returns the index of the field's double-word.
func (p place) dw() uint { return uint(p>>6) & 7 }

// mask returns the field's bits in its double-word.
func (p place) mask() uint64 { return (1<<(p>>16) - 1) << (p & 63) }

// of returns the value of the field in its double-word.
func (p place) of(word uint64) uint64 {
	v := word & p.mask()
	if p&address == 0 {
		v >>= p & 63
	}
	return v
}

// in returns word with the field set to v, truncated to the field's width.
func (p place) in(word, v uint64) uint64 {
	if p&address == 0 {
		v <<= p & 63
	}
	return word&^p.mask() | v&p.mask()
}

// bits returns word[lo+width-1:lo].
func bits(word uint64, lo, width uint) uint64 {
	return word >> lo & (1<<width - 1)
}

// bit reports whether word[lo] is set.
func bit(word uint64, lo uint) bool { return word>>lo&1 != 0 }

// b2u returns 1 for true.
func b2u(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

// loadWords fills words from their little-endian form: every structure in memory is little-endian
// (§5). p holds at least 8 bytes a word.
func loadWords(words []uint64, p []byte) {
	for i := range words {
		words[i] = binary.LittleEndian.Uint64(p[8*i:])
	}
}

// putWords writes words to p in their little-endian form.
func putWords(p []byte, words []uint64) {
	for i, w := range words {
		binary.LittleEndian.PutUint64(p[8*i:], w)
	}
}

// row describes a field of a structure: its name in the specification, its place and its meaning.
type row struct {
	name string
	place
	// mean describes a value. It is nil for values that need no description.
	mean func(v uint64) string
	// defined returns how many of the field's low bits an SMMU with these ID registers has; the
	// others are RES0. It is nil for fields that every SMMU has in full.
	defined func(ids *IDRegs) uint
}

// Field explains a field of a structure.
type Field struct {
	Name    string // the specification's
	Hi, Lo  uint   // the field's bits, counted from bit 0 of the structure
	Value   uint64 // the field's value; for a field with the bits of an address, the address
	Meaning string // the meaning of the value, or "" if it needs no description
}

// Bits returns the field's bits as the specification writes them: "[5:4]" or "[31]".
func (f Field) Bits() string {
	if f.Hi == f.Lo {
		return fmt.Sprintf("[%d]", f.Lo)
	}
	return fmt.Sprintf("[%d:%d]", f.Hi, f.Lo)
}

// explain reads the rows' fields. Set bits that are in no row become fields named "reserved".
func explain(words []uint64, rows ...[]row) []Field {
	rest := append([]uint64(nil), words...)
	var all []Field
	for _, part := range rows {
		for i := range part {
			r := &part[i]
			rest[r.dw()] &^= r.mask()
			f := Field{Name: r.name, Lo: r.lo(), Hi: r.hi(), Value: r.of(words[r.dw()])}
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
				Meaning: "ignored: no field of this structure",
			})
			lo = hi
		}
	}
	return all
}

// oneOf returns a function that describes a value by the name at its index.
func oneOf(names ...string) func(uint64) string {
	return func(v uint64) string {
		if v < uint64(len(names)) {
			return names[v]
		}
		return "reserved"
	}
}

// about returns a function that describes every value by the same text.
func about(text string) func(uint64) string { return func(uint64) string { return text } }

// stringOf returns a function that describes a value by the String method of T.
func stringOf[T interface {
	~uint8
	fmt.Stringer
}](v uint64) string {
	return T(v).String()
}

// Meanings that several structures share.
var (
	// cdCacheability describes the cacheability of Context Descriptors, which the SMMU only reads
	// (§5.2, S1CIR).
	cdCacheability = oneOf("non-cacheable", "write-back, read-allocate",
		"write-through, read-allocate", "write-back, no read-allocate")
	// tableCacheability describes the cacheability of translation tables (§5.4, IR0).
	tableCacheability = oneOf("non-cacheable", "write-back, read- and write-allocate",
		"write-through, read-allocate", "write-back, no write-allocate")

	// cr1Cacheability describes accesses to queues and tables (§6.3.11).
	cr1Cacheability = oneOf("non-cacheable", "write-back", "write-through", "reserved")

	// The overrides of bypassing transactions, in STE and GBPA (§5.2, §6.3.14).
	memoryTypeOverride   = oneOf("incoming memory type", "memory type of MemAttr")
	shareabilityOverride = oneOf("non-shareable", "incoming shareability", "outer shareable", "inner shareable")
	privilegeOverride    = oneOf("incoming privilege", "reserved", "unprivileged", "privileged")
	instructionOverride  = oneOf("incoming instruction or data", "reserved", "data", "instruction")

	disabledOrEnabled = oneOf("disabled", "enabled")

	shareability = oneOf("non-shareable", "reserved", "outer shareable", "inner shareable")
	addressSize  = func(v uint64) string { return fmt.Sprintf("%d bits", AddrBits(uint32(v))) }
	littleOrBig  = oneOf("little-endian", "big-endian")
	halfEnabled  = oneOf("walked", "not walked: accesses fault")
)

// ifHas returns the function defined of a row whose field is RES0 if an ID field is zero.
func ifHas(f IDField, width uint) func(*IDRegs) uint {
	return func(ids *IDRegs) uint {
		if ids.Has(f) {
			return width
		}
		return 0
	}
}

// definedMask returns the bits of the row's field that an SMMU with these ID registers has.
func (r *row) definedMask(ids *IDRegs) uint64 {
	if r.defined == nil {
		return r.mask()
	}
	return (1<<min(r.defined(ids), r.width()) - 1) << (r.lo() % 64)
}
