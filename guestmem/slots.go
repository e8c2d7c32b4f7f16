package guestmem

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Slot is a stretch of guest memory that lies in one piece in the host's, such
// as one of the embedder's mappings.
type Slot struct {
	GPA      GPA    // of Mem[0]; a multiple of 8
	Mem      []byte // a multiple of 8 bytes, at an 8-byte aligned host address
	ReadOnly bool   // for devices: writes fail with ErrReadOnly
}

// Errors of Slots.Add and Slots.Remove.
var (
	// ErrBadSlot is matched if a slot is empty, misaligned, or runs past the end
	// of the address space.
	ErrBadSlot = errors.New("bad slot")
	// ErrOverlap is matched if a slot overlaps one that is there.
	ErrOverlap = errors.New("slots overlap")
	// ErrNoSlot is matched if no slot begins at the address.
	ErrNoSlot = errors.New("no such slot")
)

// Slots is Memory made of slots, which may be added and removed while it is in
// use. An access may go across slots that adjoin. The zero value has no slots.
//
// All methods may be called from any goroutine. Accesses allocate nothing
// unless they fail, and never wait, not even for Add and Remove.
type Slots struct {
	table    atomic.Pointer[[]slot] // in ascending order; never changed in place
	mu       sync.Mutex             // held to change table
	_        [cacheLines - 16]byte
	sections Sections // accesses
}

var (
	_ Mapper  = (*Slots)(nil)
	_ Swapper = (*Slots)(nil)
)

// slot is a Slot with its last address, by which it is found.
type slot struct {
	last GPA
	Slot
}

// Add makes a slot part of the memory. Mem belongs to the Slots until Remove
// returns, though the guest and the embedder may read and write it as they do
// all of the guest's memory.
func (s *Slots) Add(add Slot) error {
	r := Range{add.GPA, uint64(len(add.Mem))}
	fail := func(why string, err error) error {
		return fmt.Errorf("guestmem: add slot (%v): %w%s", r, err, why)
	}
	switch at := uintptr(unsafe.Pointer(unsafe.SliceData(add.Mem))); {
	case r.Len == 0:
		return fail(": it is empty", ErrBadSlot)
	case r.wraps():
		return fail(": it runs past the end of the address space", ErrBadSlot)
	case add.GPA%wordSize != 0 || r.Len%wordSize != 0 || at%wordSize != 0:
		return fail(": its GPA, size and host address must be multiples of 8", ErrBadSlot)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.slots()
	i := search(old, add.GPA)
	if i < len(old) && old[i].GPA <= r.last() {
		return fail(fmt.Sprintf(" (%v to %v)", old[i].GPA, old[i].last), ErrOverlap)
	}
	table := slices.Insert(slices.Clone(old), i, slot{r.last(), add})
	s.table.Store(&table)
	return nil
}

// Remove takes away the slot that begins at gpa. When it returns no access to
// it is under way, nor is anyone in a section who may have a slice of it, and
// none will be: its memory may be unmapped. It waits for that.
func (s *Slots) Remove(gpa GPA) error {
	if err := s.unlist(gpa); err != nil {
		return err
	}
	s.sections.Drain()
	return nil
}

func (s *Slots) unlist(gpa GPA) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.slots()
	i := search(old, gpa)
	if i == len(old) || old[i].GPA != gpa {
		return fmt.Errorf("guestmem: remove slot at %v: %w", gpa, ErrNoSlot)
	}
	table := slices.Delete(slices.Clone(old), i, i+1)
	s.table.Store(&table)
	return nil
}

// Sections is Mapper's.
func (s *Slots) Sections() *Sections { return &s.sections }

// Slice is Mapper's.
func (s *Slots) Slice(gpa GPA, n int, write bool) ([]byte, error) {
	table := s.slots()
	i := search(table, gpa)
	if i == len(table) || table[i].GPA > gpa {
		return nil, ErrUnmapped
	}
	sl := &table[i]
	if write && sl.ReadOnly {
		return nil, ErrReadOnly
	}
	mem := sl.Mem[gpa-sl.GPA:]
	return mem[:min(n, len(mem))], nil
}

// ReadAt copies guest memory to p.
func (s *Slots) ReadAt(p []byte, gpa GPA) error {
	return s.access(p, gpa, false)
}

// WriteAt copies p to guest memory.
func (s *Slots) WriteAt(p []byte, gpa GPA) error {
	return s.access(p, gpa, true)
}

func (s *Slots) access(p []byte, gpa GPA, write bool) error {
	size := len(p)
	if (Range{gpa, uint64(size)}).wraps() {
		return &AccessError{opOf(write), gpa, size, ErrUnmapped}
	}
	section := s.sections.Enter()
	defer section.Leave()
	for len(p) > 0 {
		mem, err := s.Slice(gpa, len(p), write)
		if err != nil {
			return &AccessError{opOf(write), gpa, size, err}
		}
		if write {
			Store(mem, p[:len(mem)])
		} else {
			Load(p[:len(mem)], mem)
		}
		p, gpa = p[len(mem):], gpa+GPA(len(mem))
	}
	return nil
}

// Load64 reads the 8-byte word at gpa, a multiple of 8, in one atomic step.
func (s *Slots) Load64(gpa GPA) (v uint64, err error) {
	err = s.word(opRead, gpa, func(w *uint64) { v = atomic.LoadUint64(w) })
	return v, err
}

// Store64 writes the 8-byte word at gpa, a multiple of 8, in one atomic step.
func (s *Slots) Store64(gpa GPA, v uint64) error {
	return s.word(opWrite, gpa, func(w *uint64) { atomic.StoreUint64(w, v) })
}

// CompareAndSwap is Swapper's.
func (s *Slots) CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error) {
	err = s.word(opSwap, gpa, func(w *uint64) { swapped = atomic.CompareAndSwapUint64(w, old, new) })
	return swapped, err
}

// word gives the word at gpa to an access that does what op says.
func (s *Slots) word(op string, gpa GPA, access func(*uint64)) error {
	section := s.sections.Enter()
	defer section.Leave()
	mem, err := s.Slice(gpa, wordSize, op != opRead)
	if err != nil {
		return &AccessError{op, gpa, wordSize, err}
	}
	if gpa%wordSize != 0 {
		return &AccessError{op, gpa, wordSize, ErrMisaligned}
	}
	access((*uint64)(unsafe.Pointer(unsafe.SliceData(mem))))
	return nil
}

func (s *Slots) slots() []slot {
	if t := s.table.Load(); t != nil {
		return *t
	}
	return nil
}

// search is the index of the first slot that ends at gpa or after it.
func search(table []slot, gpa GPA) int {
	lo, hi := 0, len(table)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if table[mid].last < gpa {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}
