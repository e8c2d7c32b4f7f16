//go:build !race

package guestmem

import (
	"sync/atomic"
	"unsafe"
)

// release stores 0, ordered after all earlier accesses of the goroutine. On amd64 a plain store is
// enough: the processor does not reorder it with earlier loads and stores. Package atomic uses a
// locked instruction, which is much slower. No other goroutine writes to the place of a section, so
// no write is lost.
func release(mark *atomic.Uint64) { *(*uint64)(unsafe.Pointer(mark)) = 0 }

// storeInOrder stores a word in one atomic step, ordered after all earlier accesses of the
// goroutine. Later loads may come before it. On amd64 a plain store is enough, as in release.
func storeInOrder(w *uint64, v uint64) { *w = v }

// store32InOrder is storeInOrder for a word of 4 bytes.
func store32InOrder(w *uint32, v uint32) { *w = v }
