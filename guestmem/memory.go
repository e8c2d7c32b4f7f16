package guestmem

import (
	"errors"
	"fmt"
	"strings"
)

// GPA is a guest-physical address.
type GPA uint64

// String returns the address in hexadecimal, as in "0x40000000".
func (a GPA) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// Format implements fmt.Formatter: %v and %s print what String returns, other verbs print the
// number.
func (a GPA) Format(f fmt.State, verb rune) {
	format := fmt.FormatString(f, verb)
	if verb == 'v' || verb == 's' {
		rest := strings.Trim(format, "%vs")
		format = "%#" + strings.NewReplacer("#", "", "+", "", " ", "").Replace(rest) + "x"
	}
	fmt.Fprintf(f, format, uint64(a))
}

// Memory is guest memory as a device accesses it, by guest-physical address.
//
// An access moves all of p, or returns an error that names a GPA. Part of p may have moved before
// the error. There are no short transfers.
//
// An access of at most 64 bytes consists of naturally aligned pieces, each as wide as fits, up to 8
// bytes. Each piece of 2, 4 or 8 bytes is single-copy atomic, and in order with the accesses before
// and after it. SMMU structures need 8-byte words (IHI 0070 §3.21.3), MSIs 4-byte ones, and the
// indices of virtqueues 2-byte ones. Longer accesses give no such guarantee.
//
// Both methods may be called from any goroutine, and keep no reference to p.
type Memory interface {
	ReadAt(p []byte, gpa GPA) error
	WriteAt(p []byte, gpa GPA) error
}

// Swapper is Memory with an atomic compare-and-swap. Hardware update of the Access flag and dirty
// state needs it, since the guest changes the same descriptors (IHI 0070 §3.13). It is optional.
type Swapper interface {
	// CompareAndSwap replaces the 8-byte word at gpa, a multiple of 8, by new if it equals old, in
	// one atomic step. It reports whether it did.
	CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error)
}

// Mapper is Memory that lies in this process, where it can be used without a copy. It is optional.
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

	// Sections returns the sections in which slices are used, and for which the memory waits
	// before a part of it goes away. It returns the same pointer each time.
	Sections() *Sections
}

// ErrUnmapped is matched by errors of accesses where the guest has no memory. To a device this is
// an external abort.
var ErrUnmapped = errors.New("no guest memory")

// ErrReadOnly is matched by errors of writes to read-only memory.
var ErrReadOnly = errors.New("guest memory is read-only")

// ErrMisaligned is matched by errors of word accesses at an address that is not a multiple of the
// word's size.
var ErrMisaligned = errors.New("misaligned access")

// ErrSize is matched by errors of calls with a size that is negative or too large.
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
