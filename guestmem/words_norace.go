//go:build !race

package guestmem

import "unsafe"

// wordwise is the greatest length in bytes of an access that consists of atomic pieces. Longer
// accesses use a plain copy, which is much faster.
const wordwise = 64

func loadByte(at unsafe.Pointer) byte     { return *(*byte)(at) }
func storeByte(at unsafe.Pointer, v byte) { *(*byte)(at) = v }
