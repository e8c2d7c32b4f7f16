//go:build race || !amd64

package soft

import "sync/atomic"

// store writes a word that no one else writes meanwhile, after everything that
// the goroutine wrote before.
func store(w *atomic.Uint64, v uint64) { w.Store(v) }
