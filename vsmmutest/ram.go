package vsmmutest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// RAM is guest memory as a driver uses it: an allocator, and accesses by 8-byte words.
type RAM struct {
	mem  guestmem.Memory
	area guestmem.Range
	next guestmem.GPA
}

// NewRAM returns an allocator over a part of the guest's memory.
//
// If mem has methods SetWords and Words, as guestmem.Fake has, the RAM accesses memory through
// these. Injected failures then affect only the SMMU's accesses, not the guest's.
func NewRAM(mem guestmem.Memory, area guestmem.Range) *RAM {
	return &RAM{mem: mem, area: area, next: area.GPA}
}

// guestWords is the guest's access to a guestmem.Fake.
type guestWords interface {
	SetWords(gpa guestmem.GPA, words ...uint64)
	Words(gpa guestmem.GPA, n int) []uint64
}

// Memory returns the memory that was passed to NewRAM.
func (r *RAM) Memory() guestmem.Memory { return r.mem }

// Allocated returns the part of the area that Alloc has allocated. It begins at the start of the
// area.
func (r *RAM) Allocated() guestmem.Range {
	return guestmem.Range{GPA: r.area.GPA, Len: uint64(r.next - r.area.GPA)}
}

// check fails for a RAM without memory.
func (r *RAM) check() error {
	if r == nil || nilcheck.IsNil(r.mem) {
		return errors.New("the guest's memory is nil")
	}
	return nil
}

// maxAlign is the largest alignment that Alloc chooses by itself.
const maxAlign = 64 << 20

// Alloc returns the address of size bytes of zeroed memory, aligned to size rounded up to a power
// of two, as the architecture aligns its tables and queues.
func (r *RAM) Alloc(size uint64) (guestmem.GPA, error) {
	switch {
	case size == 0:
		return 0, errors.New("vsmmutest: allocate memory: size 0")
	}
	if err := r.check(); err != nil {
		return 0, fmt.Errorf("vsmmutest: allocate memory: %w", err)
	}
	align := uint64(wordSize)
	for align < size && align < maxAlign {
		align <<= 1
	}
	gap := -uint64(r.next) & (align - 1)
	if left := r.area.Len - uint64(r.next-r.area.GPA); left < gap || left-gap < size {
		return 0, fmt.Errorf("vsmmutest: allocate %#x bytes: out of memory (the area is %v)", size, r.area)
	}
	at := r.next + guestmem.GPA(gap)
	if err := r.zero(at, size); err != nil {
		return 0, fmt.Errorf("vsmmutest: allocate %#x bytes: %w", size, err)
	}
	r.next = at + guestmem.GPA(size)
	return at, nil
}

const (
	wordSize = 8
	// atomicSize is the longest access that guestmem.Memory performs as atomic words.
	atomicSize = 64
)

func (r *RAM) zero(at guestmem.GPA, size uint64) error {
	if m, ok := r.mem.(guestWords); ok {
		m.SetWords(at, make([]uint64, (size+wordSize-1)/wordSize)...)
		return nil
	}
	return r.mem.WriteAt(make([]byte, size), at)
}

// Store writes words from an address on, each in one atomic access and in ascending order. The
// address is a multiple of 8.
func (r *RAM) Store(at guestmem.GPA, words ...uint64) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("vsmmutest: store at %v: %w", at, err)
	}
	if at%wordSize != 0 {
		return fmt.Errorf("vsmmutest: store at %v: %w", at, guestmem.ErrMisaligned)
	}
	if m, ok := r.mem.(guestWords); ok {
		m.SetWords(at, words...)
		return nil
	}
	var p [atomicSize]byte
	for len(words) > 0 {
		n := min(len(words), atomicSize/wordSize)
		for i, w := range words[:n] {
			binary.LittleEndian.PutUint64(p[wordSize*i:], w)
		}
		if err := r.mem.WriteAt(p[:wordSize*n], at); err != nil {
			return fmt.Errorf("vsmmutest: store at %v: %w", at, err)
		}
		words, at = words[n:], at+guestmem.GPA(wordSize*n)
	}
	return nil
}

// Load reads the word at an address, which is a multiple of 8.
func (r *RAM) Load(at guestmem.GPA) (uint64, error) {
	var w [1]uint64
	err := r.loadWords(at, w[:])
	return w[0], err
}

// Words reads n words from an address on, each in one atomic access. The address is a multiple of
// 8.
func (r *RAM) Words(at guestmem.GPA, n int) ([]uint64, error) {
	if n < 0 {
		return nil, fmt.Errorf("vsmmutest: load %d words at %v: %w", n, at, guestmem.ErrSize)
	}
	words := make([]uint64, n)
	return words, r.loadWords(at, words)
}

func (r *RAM) loadWords(at guestmem.GPA, words []uint64) error {
	if err := r.check(); err != nil {
		return fmt.Errorf("vsmmutest: load at %v: %w", at, err)
	}
	if at%wordSize != 0 {
		return fmt.Errorf("vsmmutest: load at %v: %w", at, guestmem.ErrMisaligned)
	}
	if m, ok := r.mem.(guestWords); ok {
		copy(words, m.Words(at, len(words)))
		return nil
	}
	var p [atomicSize]byte
	for len(words) > 0 {
		n := min(len(words), atomicSize/wordSize)
		if err := r.mem.ReadAt(p[:wordSize*n], at); err != nil {
			return fmt.Errorf("vsmmutest: load at %v: %w", at, err)
		}
		for i := range words[:n] {
			words[i] = binary.LittleEndian.Uint64(p[wordSize*i:])
		}
		words, at = words[n:], at+guestmem.GPA(wordSize*n)
	}
	return nil
}
