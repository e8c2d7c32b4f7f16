//go:build race || !amd64

package guestmem

import "sync/atomic"

// release stores 0, ordered after all earlier accesses of the goroutine.
func release(mark *atomic.Uint64) { mark.Store(0) }

// storeInOrder stores a word in one atomic step, ordered after all earlier accesses of the
// goroutine. Later loads may come before it.
func storeInOrder(w *uint64, v uint64) { atomic.StoreUint64(w, v) }

// store32InOrder is storeInOrder for a word of 4 bytes.
func store32InOrder(w *uint32, v uint32) { atomic.StoreUint32(w, v) }
