package guestmem

import (
	"encoding/binary"
	"errors"
	"unsafe"

	"gvisor.dev/gvisor/pkg/buffer"
)

// MaxSnapshot is the greatest size in bytes of a snapshot. Up to it the memory
// comes from a pool.
const MaxSnapshot = buffer.MaxChunkSize

// ErrTooLong is matched by errors of snapshots of more than MaxSnapshot bytes,
// or fewer than none.
var ErrTooLong = errors.New("size of a snapshot out of range")

// Snapshot copies n bytes of guest memory to where the guest cannot reach: what
// is checked there is what will be used, whatever the guest writes meanwhile.
// The copy itself is as atomic as a single ReadAt.
//
// The caller releases the view. Slices of it must not be kept any longer: they
// would show another snapshot's bytes.
func Snapshot(mem Memory, gpa GPA, n int) (*buffer.View, error) {
	if n < 0 || n > MaxSnapshot {
		return nil, &AccessError{opRead, gpa, n, ErrTooLong}
	}
	v := buffer.NewViewSize(n)
	// A view's bytes may be written to as long as no clone shares them.
	if err := mem.ReadAt(v.AsSlice(), gpa); err != nil {
		v.Release()
		return nil, err
	}
	return v, nil
}

// Words is a snapshot, from a multiple of 8 bytes on, as the little-endian words
// that it is made of. It makes them in the view's own memory: they are good until
// the view is released, and asked for once.
func Words(v *buffer.View) []uint64 {
	p := v.AsSlice()
	words := unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(p))), len(p)/wordSize)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		for i := range words {
			words[i] = binary.LittleEndian.Uint64(p[i*wordSize:])
		}
	}
	return words
}
