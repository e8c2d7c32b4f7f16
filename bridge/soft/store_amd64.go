//go:build !race

package soft

import (
	"sync/atomic"
	"unsafe"
)

// store writes a word that no other goroutine writes at the same time. It is ordered after
// all earlier writes of the goroutine. On amd64 a plain store is enough. Package atomic uses a
// locked instruction, which is most of the cost of writing a set.
func store(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }

func store32(w *atomic.Uint32, v uint32) { *(*uint32)(unsafe.Pointer(w)) = v }
