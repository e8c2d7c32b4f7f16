package vsmmu

import (
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// A failed STE fetch is not cached (§3.21.3): the next transaction fetches again. A host that is a
// bridge.STERefetcher requests the fetch before it aborts the transaction. For any other host, the
// F_STE_FETCH event of a transaction makes the device refetch the STE for the next one.

// refetchWait is the time that a transaction waits for the engine to bind the stage of a refetched
// STE. The engine may itself wait for the transaction's endpoint, in an ATC invalidation for
// example: then the transaction aborts as if the fetch had failed again.
const refetchWait = 100 * time.Millisecond

// refetches has the requests of transactions to refetch an STE.
type refetches struct {
	mu     sync.Mutex // guards the following fields; no other lock is taken under it
	reader *trap.Reader
	done   chan struct{} // closed when the engine has refetched; nil if no transaction waits
}

// refetchSTE refetches a stream's STE for a transaction, and reports whether the stream may have
// another stage now.
//
// An endpoint may cause this without end. While the fetch still fails, it costs one lookup on the
// endpoint's own goroutine, and no time of the engine. When it succeeds, the engine binds the new
// stage, once. The worker does so and not the caller, because the caller may hold a mapping that
// Bind waits for.
func (d *Device) refetchSTE(sid smmuv3.StreamID) bool {
	if (d.regs.get(wCR0)|d.regs.get(wCR0ACK))&smmuv3.CR0_SMMUEN == 0 || d.failed.Load() {
		return false
	}
	r := &d.refetches
	r.mu.Lock()
	if r.reader.Lookup(d.streamTable(), sid).Fault == smmuv3.FSTEFetch {
		r.mu.Unlock()
		return false
	}
	if r.done == nil {
		r.done = make(chan struct{})
	}
	done := r.done
	r.mu.Unlock()
	d.requestRefetch()

	timeout := time.NewTimer(refetchWait)
	defer timeout.Stop()
	select {
	case <-done:
		return true
	case <-d.quit:
	case <-timeout.C:
	}
	return false
}

// requestRefetch makes the engine refetch each STE whose fetch failed.
func (d *Device) requestRefetch() {
	d.refetch.Store(true)
	d.request()
}

// take returns the channel that transactions wait for, and nil if none waits. Later transactions
// get a new channel.
func (r *refetches) take() chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := r.done
	r.done = nil
	return done
}

// retryFetches refreshes the streams whose STE could not be fetched. An endpoint can cause this
// without end, so each of its two steps costs at most costAhead of the budget. done is false if the
// budget does not cover that.
func (d *Device) retryFetches(b *budget) (done bool) {
	if !d.refetch.Load() {
		return true
	}
	all := d.streams.All()
	if !b.spend(min(len(all), costAhead)) {
		return false
	}
	unfetched := func(st *trap.Stream) bool { return st.Stage().Cause == smmuv3.FSTEFetch }
	cost := 0
	for _, st := range all {
		if unfetched(st) {
			cost += costHost
		}
	}
	if !b.spend(min(cost, costAhead)) {
		return false
	}
	d.refetch.Store(false) // before take: a later request sets it again
	waiting := d.refetches.take()
	for _, st := range all {
		if unfetched(st) {
			d.refresh(st)
		}
	}
	d.notifyWatch()
	if waiting != nil {
		close(waiting)
	}
	return true
}
