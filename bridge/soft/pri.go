package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// RequestPage sends a page request (PRI, Chapter 8), with the endpoint's StreamID in
// place of whatever it has. It fails if the endpoint is not attached, or its host has
// no IDR0.PRI.
func (e *Endpoint) RequestPage(r smmuv3.PageRequest) error {
	b, section, f := e.beginATS()
	if f != nil {
		f.Op, f.IOVA = "page request", r.Addr()
		return f
	}
	defer section.Leave() // once the stream is closed no request comes
	if !b.host.ids.Has(smmuv3.PRI) || b.host.requests == nil {
		return &Fault{Op: "page request", StreamID: b.sid, IOVA: r.Addr(), Err: fmt.Errorf("PRI: %w", errors.ErrUnsupported)}
	}
	r.SetStreamID(b.sid)
	b.host.requests(r)
	return nil
}

// PageRequests is bridge.PageRequester's.
func (h *Host) PageRequests(sink func(smmuv3.PageRequest)) error {
	if sink != nil && h.requests != nil {
		return fmt.Errorf("soft: page requests: %w", bridge.ErrInUse)
	}
	h.requests = sink
	return nil
}

// Respond is bridge.PageRequester's. It waits for nothing that Invalidate holds.
func (h *Host) Respond(r bridge.PageResponse) error {
	ep, _ := h.endpoints.Load(r.StreamID)
	if e, ok := ep.(*Endpoint); ok {
		if a := e.ats.Load(); a != nil && a.Respond != nil {
			a.Respond(r)
		}
	}
	return nil
}
