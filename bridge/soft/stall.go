package soft

import (
	stdcontext "context"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stalls are the transactions that wait for what the guest makes of their fault
// (§3.12.2), and those that have given up and that the guest has yet to answer:
// a STAG is not used again before (§4.7.1). They are in no section, since no
// withdrawal waits for them (§4.3.8): if they are tried again, they begin anew.
type stalls struct {
	mu   sync.Mutex
	held []*stalled // by STAG; as many as IDR5.STALL_MAX allows
	next int        // where to look for a free STAG
}

// stalled is one of them.
type stalled struct {
	sid smmuv3.StreamID
	*patience
	resumed chan bridge.Resumption // has room for the one answer
}

// patience is for how long an endpoint waits.
type patience struct{ stdcontext.Context }

// hold takes a transaction in and gives it a STAG, unless there are too many.
func (t *stalls) hold(sid smmuv3.StreamID, p *patience) (s *stalled, stag uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range t.held {
		at := t.next
		t.next = (at + 1) % len(t.held)
		if t.held[at] == nil {
			s = &stalled{sid: sid, patience: p, resumed: make(chan bridge.Resumption, 1)}
			t.held[at] = s
			return s, uint16(at)
		}
	}
	return nil, 0
}

// resume answers the transaction that a stream has under a STAG, if there is one.
func (t *stalls) resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if int(stag) < len(t.held) {
		t.answer(int(stag), sid, how)
	}
}

// terminate ends all of a stream.
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

// AllowStalls says that the device can wait: what a property dma-can-stall in the
// device tree tells the guest. On a host with stalls (IDR0.STALL_MODEL), a
// transaction that faults where the guest's CD has S = 1 then blocks the
// goroutine that makes it until the guest resumes it, or the endpoint is
// detached, or ctx ends: a device model that is reset ends it, and gives another.
// Without this the transaction is terminated, as §3.12 has it for devices that
// must not stall, PCI's among them (§3.12.1); and so is what is one more than
// IDR5.STALL_MAX.
//
// A transaction that waits holds nothing up: commands of the guest do not wait
// for it, nor do other transactions. When it is tried again it is a new one, which
// may stall as well.
func (e *Endpoint) AllowStalls(ctx stdcontext.Context) { e.patience.Store(&patience{ctx}) }

// stall has a transaction that was refused wait, if it can be: its event is then
// that of a stall. The caller is in a section.
func (b *binding) stall(r *refusal) *stalled {
	p := b.ep.patience.Load()
	if !r.stall || p == nil || p.Err() != nil || b.host.sink == nil {
		return nil
	}
	s, stag := b.host.stalls.hold(b.sid, p)
	if s != nil {
		r.event.SetStall(stag)
	}
	return s
}

// wait returns what becomes of a transaction that failed: that is known already,
// unless it stalls or its STE is to be fetched again. The fault is then one to return
// if the answer is an abort. The caller is in no section.
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
		f.Err = fmt.Errorf("%w while it was stalled: %w", ErrFault, stdcontext.Cause(f.stalled))
		return bridge.TerminateAbort
	}
}

// Resume is bridge.Staller's.
func (h *Host) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	if how == bridge.TerminateRAZWI && h.ids.Has(smmuv3.TermModel) {
		how = bridge.TerminateAbort
	}
	h.stalls.resume(sid, stag, how)
	return nil
}

// TerminateStalled is bridge.Staller's.
func (h *Host) TerminateStalled(sid smmuv3.StreamID) error {
	h.stalls.terminate(sid)
	return nil
}
