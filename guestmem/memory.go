package guestmem

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
)

// GPA is a guest-physical address.
type GPA uint64

// String returns the address in hexadecimal, as in "0x40000000".
func (a GPA) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Format implements fmt.Formatter: %v and %s print the text of String, other verbs print the
// number.
func (a GPA) Format(f fmt.State, verb rune) { verbs.ID(f, verb, uint64(a)) }

// Memory is guest memory as a device accesses it, by guest-physical address.
//
// An access moves all of p, or returns an error that names a GPA. After an error, part of p may
// have moved. There are no short transfers.
//
// An access of at most 64 bytes consists of naturally aligned pieces, each as wide as possible, up
// to 8 bytes. Each piece of 2, 4 or 8 bytes is single-copy atomic, and ordered with earlier and
// later accesses. SMMU structures need 8-byte words (IHI 0070 §3.21.3), MSIs 4-byte ones, and the
// indices of virtqueues 2-byte ones. Longer accesses give no such guarantee.
//
// Both methods may be called from any goroutine, and keep no reference to p.
type Memory interface {
	ReadAt(p []byte, gpa GPA) error
	WriteAt(p []byte, gpa GPA) error
}

// Swapper is Memory with an atomic compare-and-swap. It is optional. Hardware update of the Access
// flag and dirty state needs it, since the guest changes the same descriptors (IHI 0070 §3.13).
type Swapper interface {
	// CompareAndSwap replaces the 8-byte word at gpa, a multiple of 8, by new if it equals old, in
	// one atomic step. swapped reports whether it did.
	CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error)
}

// Mapper is Memory that is mapped in this process, so that devices access it without a copy. It is
// optional.
//
// A VMM that migrates a running guest needs a log of the devices' writes. It wraps its Mapper in a
// Tracked.
type Mapper interface {
	Memory

	// Slice returns the memory from gpa on: at least one byte and at most n bytes, contiguous in
	// this process. It never splits an aligned word of 8 bytes. The host address and gpa are equal
	// modulo 8. Slice fails with ErrUnmapped where there is no memory. With write, it fails with
	// ErrReadOnly where the memory is read-only. It does not wrap these errors, and allocates
	// nothing.
	//
	// The caller is in a read-side critical section of Sections. The slice is valid until that
	// section ends, and in other sections of the same epoch (Section.Epoch). A holder without write
	// must not write to the slice. The guest accesses the memory too: Load and Store keep the
	// promises of Memory.
	Slice(gpa GPA, n int, write bool) ([]byte, error)

	// Sections returns the read-side critical sections in which devices use slices. The memory
	// waits for them before a part of it is removed. Sections returns the same pointer each time.
	Sections() *Sections
}

// ErrUnmapped means that the guest has no memory at the address. To a device this is an external
// abort.
var ErrUnmapped = errors.New("no guest memory")

// ErrReadOnly means that a write accessed read-only memory.
var ErrReadOnly = errors.New("guest memory is read-only")

// ErrMisaligned means that the address of a word access is not a multiple of the word's size.
var ErrMisaligned = errors.New("misaligned access")

// ErrSize means that the size of an access is negative or too large.
var ErrSize = errors.New("size out of range")

// AccessError is the error of an access to guest memory.
type AccessError struct {
	Op  string // "read", "write", "swap" or "mark"
	GPA GPA    // the first address that could not be accessed
	Len int    // size in bytes of the whole access
	Err error  // ErrUnmapped, ErrReadOnly, ErrMisaligned, ErrSize, or the backing store's error
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
