package guestmem

import (
	"errors"
	"fmt"
)

// GPA is a guest-physical address.
type GPA uint64

func (a GPA) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Memory is the guest's memory as a device reaches it by guest-physical
// address.
//
// An access moves all of p or returns an error that names the GPA; there are no
// short transfers, but part of p may have moved before the error was met.
// Accesses of at most 64 bytes are made of naturally aligned pieces as wide as
// fit, up to 8 bytes, and each piece of 2, 4 or 8 bytes is single-copy atomic,
// and in order with the accesses before and after it: 8-byte words are what the
// architecture asks of an SMMU's structures (IHI 0070 §3.21.3), 4-byte ones make
// a write an MSI, and 2-byte ones are the indices of rings. Of longer accesses
// nothing of the kind is promised. Both methods may be called from any
// goroutine, and keep no reference to p.
type Memory interface {
	ReadAt(p []byte, gpa GPA) error
	WriteAt(p []byte, gpa GPA) error
}

// Swapper is Memory that can also change a word if nobody else has: what it
// takes to update a descriptor's Access flag and dirty state under the eyes of
// the guest (IHI 0070 §3.13). Memory need not have it.
type Swapper interface {
	// CompareAndSwap replaces the 8-byte word at gpa, a multiple of 8, by new if
	// it is old, in one atomic step, and reports whether it did.
	CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error)
}

// Mapper is Memory that lies in this process, where it can be used without a copy. Memory need not
// have it.
//
// A VMM that needs a log of what devices write, to migrate a running guest, wraps its Mapper in a
// Tracked.
type Mapper interface {
	Memory

	// Slice returns the memory from gpa on: contiguous in this process, at most n bytes and at
	// least one, and always all of an aligned word of 8 bytes. The host address and gpa are equal
	// modulo 8. Slice fails with ErrUnmapped where there is no memory, and with write where the
	// memory is read-only with ErrReadOnly. It returns these errors as they are, and allocates
	// nothing.
	//
	// The caller is in a read-side critical section of Sections. The slice is good until that
	// ends, and in other sections of the same epoch (Section.Epoch). A holder without write must
	// not write to the slice. The guest accesses the memory too: Load and Store keep the promises
	// of Memory.
	Slice(gpa GPA, n int, write bool) ([]byte, error)

	// Sections returns what the memory waits for before a part of it goes away: the same each
	// time.
	Sections() *Sections
}

// ErrUnmapped is matched by errors of accesses that reach where the guest has
// no memory: what a device sees as an external abort.
var ErrUnmapped = errors.New("no guest memory")

// ErrReadOnly is matched by errors of writes to read-only memory.
var ErrReadOnly = errors.New("guest memory is read-only")

// ErrMisaligned is matched by errors of word accesses at an address that is no
// multiple of the word's size.
var ErrMisaligned = errors.New("misaligned access")

// AccessError says which access failed, where, and why.
type AccessError struct {
	Op  string // "read", "write", "swap" or "mark"
	GPA GPA    // the first address that could not be reached
	Len int    // bytes of the whole access
	Err error  // ErrUnmapped, ErrReadOnly or what the backing store said
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("guestmem: %s of %d bytes at %v: %v", e.Op, e.Len, e.GPA, e.Err)
}

func (e *AccessError) Unwrap() error { return e.Err }

const (
	opRead  = "read"
	opWrite = "write"
	opSwap  = "swap"
	opMark  = "mark"
)

func opOf(write bool) string {
	if write {
		return opWrite
	}
	return opRead
}
