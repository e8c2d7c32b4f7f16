//go:build !race

package soft

import (
	"sync/atomic"
	"unsafe"
)

// store writes a word that no one else writes meanwhile, after everything that
// the goroutine wrote before. A plain store is as much as that on this
// processor; package atomic would have it locked, which is most of what writing
// a set takes.
func store(w *atomic.Uint64, v uint64) { *(*uint64)(unsafe.Pointer(w)) = v }
