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
// Accesses of at most 64 bytes at an 8-byte aligned GPA are made of 8-byte
// single-copy atomic ones, which is what the architecture asks of an SMMU's
// structures (IHI 0070 §3.21.3). Both methods may be called from any goroutine, and keep no
// reference to p.
type Memory interface {
	ReadAt(p []byte, gpa GPA) error
	WriteAt(p []byte, gpa GPA) error
}

// ErrUnmapped is matched by errors of accesses that reach where the guest has
// no memory: what a device sees as an external abort.
var ErrUnmapped = errors.New("no guest memory")

// ErrReadOnly is matched by errors of writes to read-only memory.
var ErrReadOnly = errors.New("guest memory is read-only")

// AccessError says which access failed, where, and why.
type AccessError struct {
	Op  string // "read" or "write"
	GPA GPA    // the first address that could not be reached
	Len int    // bytes of the whole access
	Err error  // ErrUnmapped, ErrReadOnly or what the backing store said
}

func (e *AccessError) Error() string {
	return fmt.Sprintf("guestmem: %s of %d bytes at %v: %v", e.Op, e.Len, e.GPA, e.Err)
}

func (e *AccessError) Unwrap() error { return e.Err }
