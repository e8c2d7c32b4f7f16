package guestmem

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Slot is guest memory that is contiguous in the host's memory, such as one mapping of a VMM.
type Slot struct {
	GPA      GPA    // of Mem[0]; a multiple of 8
	Mem      []byte // a multiple of 8 bytes, at an 8-byte aligned host address
	ReadOnly bool   // writes by devices fail with ErrReadOnly
}

// Errors of Slots.Add and Slots.Remove.
var (
	// ErrBadSlot means that a slot is empty or misaligned, or extends past the end of the address
	// space.
	ErrBadSlot = errors.New("bad slot")
	// ErrOverlap means that a slot overlaps another.
	ErrOverlap = errors.New("slots overlap")
	// ErrNoSlot means that no slot begins at the address.
	ErrNoSlot = errors.New("no such slot")
)

// Slots is Memory that consists of slots. Slots can be added and removed while devices use the
// memory. An access may extend across adjacent slots. The zero value has no slots.
//
// All methods may be called from any goroutine. Accesses never wait, even while a slot is added or
// removed, and allocate nothing unless they fail.
type Slots struct {
	table    atomic.Pointer[[]slot] // ascending; never changed in place
	mu       sync.Mutex             // held to replace table
	_        [cacheLines - 16]byte
	sections Sections // of accesses
}

var (
	_ Mapper  = (*Slots)(nil)
	_ Swapper = (*Slots)(nil)
)

// slot is a Slot with its last address, the key of searches.
type slot struct {
	last GPA
	Slot
}

// Add adds a slot. The VMM must not unmap or reuse Mem until Remove returns. The VMM and the guest
// may read and write it.
func (s *Slots) Add(add Slot) error {
	r := Range{add.GPA, uint64(len(add.Mem))}
	fail := func(why string, err error) error {
		return fmt.Errorf("guestmem: add slot (%v): %w%s", r, err, why)
	}
	switch at := uintptr(unsafe.Pointer(unsafe.SliceData(add.Mem))); {
	case r.Len == 0:
		return fail(": it is empty", ErrBadSlot)
	case r.wraps():
		return fail(": it extends past the end of the address space", ErrBadSlot)
	case add.GPA%wordSize != 0 || r.Len%wordSize != 0 || at%wordSize != 0:
		return fail(": its GPA, size and host address must be multiples of 8", ErrBadSlot)
	}

	if s == nil {
		return fmt.Errorf("guestmem: add slot (%v): Slots is nil", r)
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

// Remove removes the slot that begins at gpa. It waits for the sections that may use the slot. If
// it returns without error, no device accesses the slot's memory any more, and the VMM may unmap
// it. Remove must not be called within a section.
func (s *Slots) Remove(gpa GPA) error {
	if s == nil {
		return fmt.Errorf("guestmem: remove slot at %v: %w", gpa, ErrNoSlot)
	}
	if err := s.removeFromTable(gpa); err != nil {
		return err
	}
	s.sections.Drain()
	return nil
}

func (s *Slots) removeFromTable(gpa GPA) error {
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

// Sections implements Mapper.
func (s *Slots) Sections() *Sections { return &s.sections }

// Slice implements Mapper. It fails with ErrSize, and the size, if n is less than 1.
func (s *Slots) Slice(gpa GPA, n int, write bool) ([]byte, error) {
	if s == nil {
		return nil, ErrUnmapped
	}
	table := s.slots()
	i := search(table, gpa)
	if i == len(table) || table[i].GPA > gpa {
		return nil, ErrUnmapped
	}
	sl := &table[i]
	if write && sl.ReadOnly {
		return nil, ErrReadOnly
	}
	if n < 1 {
		return nil, fmt.Errorf("%w: %d bytes", ErrSize, n)
	}
	mem := sl.Mem[gpa-sl.GPA:]
	return mem[:min(n, len(mem))], nil
}

// ReadAt implements Memory.
func (s *Slots) ReadAt(p []byte, gpa GPA) error {
	return s.access(p, gpa, false)
}

// WriteAt implements Memory.
func (s *Slots) WriteAt(p []byte, gpa GPA) error {
	return s.access(p, gpa, true)
}

func (s *Slots) access(p []byte, gpa GPA, write bool) error {
	size := len(p)
	if s == nil || (Range{gpa, uint64(size)}).wraps() {
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

// CompareAndSwap implements Swapper.
func (s *Slots) CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error) {
	err = s.word(opSwap, gpa, func(w *uint64) { swapped = atomic.CompareAndSwapUint64(w, old, new) })
	return swapped, err
}

// word calls access with the word at gpa. op names the access in errors.
func (s *Slots) word(op string, gpa GPA, access func(*uint64)) error {
	if s == nil {
		return &AccessError{op, gpa, wordSize, ErrUnmapped}
	}
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

// search returns the index of the first slot that ends at gpa or above.
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
