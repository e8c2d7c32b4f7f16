//go:build !race

package guestmem

import "unsafe"

// wordwise is the greatest length in bytes of an access that consists of atomic pieces. Longer
// accesses use a plain copy, which is about ten times as fast for reads, and a hundred times for
// writes.
const wordwise = 64

func loadByte(at unsafe.Pointer) byte     { return *(*byte)(at) }
func storeByte(at unsafe.Pointer, v byte) { *(*byte)(at) = v }
