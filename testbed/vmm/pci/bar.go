package pci

// NumBARs is how many base address registers a type 0 header has.
const NumBARs = 6

// BARs are the base address registers of a function (§7.5.1.2.1). The zero value has none.
type BARs [NumBARs]bar

type bar struct {
	size  uint64 // 0 if there is no register, or if upper
	flags uint32 // its read-only bits
	upper bool   // the upper half of the previous register
	value uint32
}

// The read-only bits of a register for memory.
const (
	BARIO           = 1 << 0
	BAR64           = 2 << 1
	BARTypeMask     = 3 << 1
	BARPrefetchable = 1 << 3

	barFlags = 0xf
)

// Define defines register i for size bytes of memory, a power of 2 of at least 16. flags are the
// low bits of the register. A 64-bit register takes the next one, too. ok is false if there can be
// no such register.
func (b *BARs) Define(i int, size uint64, flags uint32) (ok bool) {
	flags &= barFlags
	wide := flags&BARTypeMask == BAR64
	switch {
	case i < 0 || i >= NumBARs:
		return false
	case size < 16 || size&(size-1) != 0, flags&BARIO != 0, b[i].upper, !wide && size > 1<<31, wide && i == NumBARs-1:
		return false
	}
	b[i] = bar{size: size, flags: flags}
	if wide {
		b[i+1] = bar{upper: true}
	}
	return true
}

// Size returns the size of the memory of register i, or 0.
func (b *BARs) Size(i int) uint64 { return b[i].size }

// Wide reports whether register i has 64 bits, and takes the next one, too.
func (b *BARs) Wide(i int) bool { return b[i].size != 0 && b[i].flags&BARTypeMask == BAR64 }

// Base returns the address in register i.
func (b *BARs) Base(i int) uint64 {
	base := uint64(b[i].value)
	if b.Wide(i) {
		base |= uint64(b[i+1].value) << 32
	}
	return base
}

// Load returns the value of register i.
func (b *BARs) Load(i int) uint32 { return b[i].value | b[i].flags }

// Store writes register i. The bits below the size stay 0, so that software can find the size.
func (b *BARs) Store(i int, value uint32) {
	switch r := &b[i]; {
	case r.upper:
		r.value = value & uint32(-b[i-1].size>>32)
	case r.size != 0:
		r.value = value & uint32(-r.size) &^ barFlags
	}
}

// Reset sets all addresses to 0.
func (b *BARs) Reset() {
	for i := range b {
		b[i].value = 0
	}
}
