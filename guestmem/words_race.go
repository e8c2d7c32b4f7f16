//go:build race

package guestmem

import (
	"math"
	"sync/atomic"
	"unsafe"
)

// wordwise makes every access consist of atomic pieces under the race detector. Otherwise the
// detector reports tests in which the guest writes while the device reads.
const wordwise = math.MaxInt

// loadByte is atomic for the same reason.
func loadByte(at unsafe.Pointer) byte {
	w, shift := around(at)
	return byte(atomic.LoadUint32(w) >> shift)
}

// storeByte is atomic for the same reason.
func storeByte(at unsafe.Pointer, v byte) { storePart(at, uint32(v), math.MaxUint8) }
