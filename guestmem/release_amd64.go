//go:build !race

package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// release stores 0, after everything that the goroutine did before. A plain
// store is as much as that on this processor, which keeps loads and stores in
// order before a later store; package atomic would have it locked, which after
// a copy of 4 KiB costs a fifth of the copy. The section has the place for
// itself, so no other write can be lost.
func release(mark *atomic.Uint64) { *(*uint64)(unsafe.Pointer(mark)) = 0 }
