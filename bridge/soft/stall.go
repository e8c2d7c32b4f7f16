package soft

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stalls holds the stalled transactions (§3.12.2). If its endpoint stops waiting, a transaction
// stays until the guest answers it, since its STAG must not be used again before (§4.7.1). Stalled
// transactions are in no section, since invalidations do not wait for them (§4.3.8). A retried
// transaction starts again.
type stalls struct {
	mu   sync.Mutex
	most int
	held []*stalled // by STAG; allocated by the first stall
	next int        // where the search for a free STAG begins
}

// stalled is a transaction that waits for the guest.
type stalled struct {
	sid smmuv3.StreamID
	*stallWait
	resumed chan bridge.Resumption // has room for the one answer
}

// stallWait is the context that ends the wait of an endpoint's stalled transactions.
type stallWait struct{ context.Context }

// resize sets the largest number of stalled transactions. There are none.
func (t *stalls) resize(most int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.most, t.held, t.next = most, nil, 0
}

// hold adds a transaction and gives it a STAG. It returns nil if there are too many.
func (t *stalls) hold(sid smmuv3.StreamID, w *stallWait) (s *stalled, stag uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held == nil {
		t.held = make([]*stalled, t.most)
	}
	for range t.held {
		at := t.next
		t.next = (at + 1) % len(t.held)
		if t.held[at] == nil {
			s = &stalled{sid: sid, stallWait: w, resumed: make(chan bridge.Resumption, 1)}
			t.held[at] = s
			return s, uint16(at)
		}
	}
	return nil, 0
}

// resume answers a stream's transaction with this STAG, if there is one.
func (t *stalls) resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(stag) < len(t.held) {
		t.answer(int(stag), sid, how)
	}
}

// terminate aborts all transactions of a stream.
func (t *stalls) terminate(sid smmuv3.StreamID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for at := range t.held {
		t.answer(at, sid, bridge.TerminateAbort)
	}
}

func (t *stalls) answer(at int, sid smmuv3.StreamID, how bridge.Resumption) {
	if s := t.held[at]; s != nil && s.sid == sid {
		s.resumed <- how
		t.held[at] = nil
	}
}

// AllowStalls declares that the device can wait for a stalled transaction. In a device tree, the
// property dma-can-stall declares it to the guest.
//
// On a host with stalls (IDR0.STALL_MODEL), a transaction that faults where the guest's CD has
// S = 1 then blocks its goroutine. It ends when the guest resumes it, when the endpoint is
// detached, or when ctx is done. On a reset the device model cancels ctx and calls AllowStalls with
// a new one. A nil ctx declares that the device cannot wait.
//
// Without AllowStalls, such a transaction terminates: §3.12 requires that for devices that must not
// stall, such as PCI devices (§3.12.1). A transaction beyond IDR5.STALL_MAX terminates as well.
//
// Neither the guest's commands nor other transactions wait for a stalled transaction. A retried
// transaction starts as a new one, and may stall again.
func (e *Endpoint) AllowStalls(ctx context.Context) {
	if ctx == nil {
		e.waiting.Store(nil)
		return
	}
	e.waiting.Store(&stallWait{ctx})
}

// stall makes a refused transaction wait, if it can, and changes its event to a stall event. The
// caller is in a section.
func (b *binding) stall(r *refusal) *stalled {
	w := b.ep.waiting.Load()
	if !r.stall || w == nil || w.Err() != nil || b.host.events.Load() == nil {
		return nil
	}
	s, stag := b.host.stalls.hold(b.sid, w)
	if s != nil {
		r.event.SetStall(stag)
	}
	return s
}

// wait waits for the outcome of a transaction that stalled, or for which the device fetches the STE
// again. If the outcome is an abort, the caller returns the fault. The caller is in no section.
func (f *Fault) wait() bridge.Resumption {
	if f.refetch != nil {
		f.refetch(f.StreamID)
		return bridge.Retry
	}
	if f.stalled == nil {
		return bridge.TerminateAbort
	}
	select {
	case how := <-f.stalled.resumed:
		return how
	case <-f.stalled.Done():
		f.Err = fmt.Errorf("%w while it was stalled: %w", ErrFault, context.Cause(f.stalled))
		return bridge.TerminateAbort
	}
}

// Resume implements bridge.Staller.
func (h *Host) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	if err := h.made(); err != nil {
		return err
	}
	if h.closed.Load() {
		return errHostClosed
	}
	if how == bridge.TerminateRAZWI && h.shown.Load().ids.Has(smmuv3.TermModel) {
		how = bridge.TerminateAbort
	}
	h.stalls.resume(sid, stag, how)
	return nil
}

// TerminateStalled implements bridge.Staller.
func (h *Host) TerminateStalled(sid smmuv3.StreamID) error {
	if err := h.made(); err != nil {
		return err
	}
	if h.closed.Load() {
		return errHostClosed
	}
	h.stalls.terminate(sid)
	return nil
}
