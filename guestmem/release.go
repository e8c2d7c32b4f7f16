//go:build race || !amd64

package guestmem

import "sync/atomic"

// release stores 0, after everything that the goroutine did before.
func release(mark *atomic.Uint64) { mark.Store(0) }
