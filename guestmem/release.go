//go:build race || !amd64

package guestmem

import "sync/atomic"

// release stores 0, ordered after all earlier accesses of the goroutine.
func release(mark *atomic.Uint64) { mark.Store(0) }
