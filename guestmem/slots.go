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
	mu    sync.Mutex              // held to change table
	table atomic.Pointer[[]*slot] // in ascending order; never changed in place
}

var (
	_ Memory  = (*Slots)(nil)
	_ Swapper = (*Slots)(nil)
)

// slot is a Slot with those who are using it.
type slot struct {
	Slot
	last GPA
	// users are read-locked during an access, and locked for good when the slot
	// is removed. There are several only so that accesses on different cores
	// need not write to one cache line: with one, two cores together were found
	// to be half as fast as one alone.
	users [1 << userBits]struct {
		sync.RWMutex
		_ [128 - unsafe.Sizeof(sync.RWMutex{})]byte // two cache lines, which CPUs fetch in pairs
	}
}

const userBits = 4

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
	table := slices.Insert(slices.Clone(old), i, &slot{Slot: add, last: r.last()})
	s.table.Store(&table)
	return nil
}

// Remove takes away the slot that begins at gpa. When it returns no access to
// the slot is under way, and none will be, so that its memory may be unmapped.
func (s *Slots) Remove(gpa GPA) error {
	gone, err := s.unlist(gpa)
	if err != nil {
		return err
	}
	for i := range gone.users {
		gone.users[i].Lock() // waits for accesses to end, and lets none begin
	}
	return nil
}

func (s *Slots) unlist(gpa GPA) (*slot, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.slots()
	i := search(old, gpa)
	if i == len(old) || old[i].GPA != gpa {
		return nil, fmt.Errorf("guestmem: remove slot at %v: %w", gpa, ErrNoSlot)
	}
	table := slices.Delete(slices.Clone(old), i, i+1)
	s.table.Store(&table)
	return old[i], nil
}

// ReadAt copies guest memory to p.
func (s *Slots) ReadAt(p []byte, gpa GPA) error {
	size := len(p)
	if (Range{gpa, uint64(size)}).wraps() {
		return &AccessError{opRead, gpa, size, ErrUnmapped}
	}
	for len(p) > 0 {
		sl, user := s.enter(gpa, unsafe.SliceData(p))
		if sl == nil {
			return &AccessError{opRead, gpa, size, ErrUnmapped}
		}
		mem := sl.Mem[gpa-sl.GPA:]
		n := min(len(p), len(mem))
		load(p[:n], mem)
		user.RUnlock()
		p, gpa = p[n:], gpa+GPA(n)
	}
	return nil
}

// WriteAt copies p to guest memory.
func (s *Slots) WriteAt(p []byte, gpa GPA) error {
	size := len(p)
	if (Range{gpa, uint64(size)}).wraps() {
		return &AccessError{opWrite, gpa, size, ErrUnmapped}
	}
	for len(p) > 0 {
		sl, user := s.enter(gpa, unsafe.SliceData(p))
		if sl == nil {
			return &AccessError{opWrite, gpa, size, ErrUnmapped}
		}
		if sl.ReadOnly {
			user.RUnlock()
			return &AccessError{opWrite, gpa, size, ErrReadOnly}
		}
		mem := sl.Mem[gpa-sl.GPA:]
		n := min(len(p), len(mem))
		store(mem, p[:n])
		user.RUnlock()
		p, gpa = p[n:], gpa+GPA(n)
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
	var err error
	var here byte
	sl, user := s.enter(gpa, &here)
	switch {
	case sl == nil:
		return &AccessError{op, gpa, wordSize, ErrUnmapped}
	case gpa%wordSize != 0:
		err = &AccessError{op, gpa, wordSize, ErrMisaligned}
	case sl.ReadOnly && op != opRead:
		err = &AccessError{op, gpa, wordSize, ErrReadOnly}
	default:
		access((*uint64)(unsafe.Pointer(&sl.Mem[gpa-sl.GPA])))
	}
	user.RUnlock()
	return err
}

// enter finds the slot that holds gpa and keeps it from being removed until the
// caller unlocks user. It returns nil if there is none.
//
// Which of the slot's users it takes depends on where the caller's data is:
// those who access memory at the same time have it in different places.
func (s *Slots) enter(gpa GPA, caller *byte) (sl *slot, user *sync.RWMutex) {
	if sl = s.find(gpa); sl == nil {
		return nil, nil
	}
	const golden = 0x9e3779b97f4a7c15 // 2^64 by the golden ratio spreads what comes in strides
	user = &sl.users[uint64(uintptr(unsafe.Pointer(caller)))*golden>>(64-userBits)].RWMutex
	if !user.TryRLock() {
		return nil, nil // only Remove ever locks
	}
	return sl, user
}

// find returns the slot that holds gpa, or nil.
func (s *Slots) find(gpa GPA) *slot {
	table := s.slots()
	if i := search(table, gpa); i < len(table) && table[i].GPA <= gpa {
		return table[i]
	}
	return nil
}

func (s *Slots) slots() []*slot {
	if t := s.table.Load(); t != nil {
		return *t
	}
	return nil
}

// search is the index of the first slot that ends at gpa or after it.
func search(table []*slot, gpa GPA) int {
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
