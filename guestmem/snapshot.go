package guestmem

import (
	"unsafe"

	"gvisor.dev/gvisor/pkg/buffer"
)

// MaxSnapshot is the greatest size of a snapshot in bytes. Memory of up to this size comes from a
// pool.
const MaxSnapshot = 64 << 10

const _ = uint(buffer.MaxChunkSize - MaxSnapshot) // does not compile if the pool's chunks are smaller

// Snap is a copy of guest memory that the guest cannot reach. A zero Snap is empty.
//
// Release returns the memory to its pool. Do not use the Snap, its copies, or the slices of Bytes
// and Words afterwards: they show another snapshot's bytes.
type Snap struct{ view *buffer.View }

// Snapshot copies n bytes of guest memory from gpa on. A device checks the copy and then uses it;
// the guest cannot change it in between. The copy is as atomic as one ReadAt. The caller releases
// it.
//
// Snapshot fails with ErrSize if n is negative or greater than MaxSnapshot.
func Snapshot(mem Memory, gpa GPA, n int) (Snap, error) {
	if n < 0 || n > MaxSnapshot {
		return Snap{}, &AccessError{opRead, gpa, n, ErrSize}
	}
	if mem == nil {
		return Snap{}, &AccessError{opRead, gpa, n, ErrUnmapped}
	}
	v := buffer.NewViewSize(n)
	// No clone shares the view's bytes, so they may be written to.
	if err := mem.ReadAt(v.AsSlice(), gpa); err != nil {
		v.Release()
		return Snap{}, err
	}
	return Snap{v}, nil
}

// Bytes returns the bytes of the snapshot.
func (s Snap) Bytes() []byte {
	if s.view == nil {
		return nil
	}
	return s.view.AsSlice()
}

// Words returns the bytes of the snapshot as 8-byte words. It omits an incomplete last word. Guest
// structures are little-endian (IHI 0070 §6.2), and so is the host.
func (s Snap) Words() []uint64 {
	p := s.Bytes()
	return unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(p))), len(p)/wordSize)
}

// Release ends the use of the snapshot. Call it once. It has no effect on a zero Snap.
func (s Snap) Release() {
	if s.view != nil {
		s.view.Release()
	}
}
