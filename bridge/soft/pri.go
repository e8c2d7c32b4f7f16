package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// RequestPage sends a page request (PRI, Chapter 8), with the endpoint's StreamID in place of
// the request's. On failure it returns a *Fault. It matches ErrNotAttached if the endpoint is not
// attached. It matches errors.ErrUnsupported before EnableATS, and if the guest's
// IDR0.ATS or IDR0.PRI is 0.
func (e *Endpoint) RequestPage(r smmuv3.PageRequest) error {
	fail := func(f *Fault) error {
		f.Op, f.IOVA = "page request", r.Addr()
		return f
	}
	b, section, f := e.beginATS()
	if f != nil {
		return fail(f)
	}
	defer section.Leave() // no request follows the stream's Close
	sink := b.host.requests.Load()
	switch {
	case !b.shown.ids.Has(smmuv3.PRI):
		return fail(b.fault(fmt.Errorf("the guest's IDR0.PRI is 0: %w", errors.ErrUnsupported)))
	case sink == nil:
		return fail(b.fault(fmt.Errorf("no device takes page requests: %w", errors.ErrUnsupported)))
	}
	r.SetStreamID(b.sid)
	(*sink)(r)
	return nil
}

// PageRequests implements bridge.PageRequester. On return of PageRequests(nil) no call of the
// earlier sink is in flight.
func (h *Host) PageRequests(sink func(smmuv3.PageRequest)) error {
	if err := h.made(); err != nil {
		return err
	}
	if sink == nil {
		if h.requests.Swap(nil) != nil {
			h.sections.Drain()
		}
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return errHostClosed
	}
	if !h.requests.CompareAndSwap(nil, &sink) {
		return fmt.Errorf("page requests of the host %w", bridge.ErrInUse)
	}
	return nil
}

// Respond implements bridge.PageRequester. It takes no lock that Invalidate holds.
func (h *Host) Respond(r bridge.PageResponse) error {
	if err := h.made(); err != nil {
		return err
	}
	if h.closed.Load() {
		return errHostClosed
	}
	if e := h.endpoints.find(r.StreamID); e != nil {
		if a := e.ats.Load(); a != nil && a.Respond != nil {
			a.Respond(r)
		}
	}
	return nil
}
