package pci

// NumBARs is how many base address registers a type 0 header has.
const NumBARs = 6

// BARs are the base address registers of a function (§7.5.1.2.1). The zero value has none.
type BARs [NumBARs]bar

type bar struct {
	size  uint64 // 0 for a register that is not there, or is the upper half of the one before
	flags uint32 // its read-only bits
	upper bool
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

// Define makes register i one for size bytes of memory, a power of two from 16 on. flags are its low bits as the hardware has
// them, and a register of 64 bits takes the next one, too. ok is false for what cannot be.
func (b *BARs) Define(i int, size uint64, flags uint32) (ok bool) {
	flags &= barFlags
	wide := flags&BARTypeMask == BAR64
	switch {
	case size < 16 || size&(size-1) != 0, flags&BARIO != 0, b[i].upper, !wide && size > 1<<31, wide && i == NumBARs-1:
		return false
	}
	b[i] = bar{size: size, flags: flags}
	if wide {
		b[i+1] = bar{upper: true}
	}
	return true
}

// Size is the size of the memory behind register i, 0 if there is none.
func (b *BARs) Size(i int) uint64 { return b[i].size }

// Wide says whether register i takes the next one, too.
func (b *BARs) Wide(i int) bool { return b[i].size != 0 && b[i].flags&BARTypeMask == BAR64 }

// Base is where register i asks for its memory to be.
func (b *BARs) Base(i int) uint64 {
	base := uint64(b[i].value)
	if b.Wide(i) {
		base |= uint64(b[i+1].value) << 32
	}
	return base
}

// Load reads register i.
func (b *BARs) Load(i int) uint32 { return b[i].value | b[i].flags }

// Store writes register i. The bits below the size stay 0, by which software finds the size.
func (b *BARs) Store(i int, value uint32) {
	switch r := &b[i]; {
	case r.upper:
		r.value = value & uint32(-b[i-1].size>>32)
	case r.size != 0:
		r.value = value & uint32(-r.size) &^ barFlags
	}
}

// Reset makes every register ask for address 0.
func (b *BARs) Reset() {
	for i := range b {
		b[i].value = 0
	}
}
