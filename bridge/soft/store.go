//go:build race || !amd64

package soft

import "sync/atomic"

// store writes a word that no other goroutine writes at the same time. It is ordered after
// all earlier writes of the goroutine.
func store(w *atomic.Uint64, v uint64) { w.Store(v) }

func store32(w *atomic.Uint32, v uint32) { w.Store(v) }
