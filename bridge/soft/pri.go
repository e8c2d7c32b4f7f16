package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// PageResponse is an answer to a group of page requests (§4.5.2).
type PageResponse struct {
	Substream    smmuv3.SubstreamID
	HasSubstream bool
	Group        uint16
	Code         smmuv3.PRGResponse
}

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
func (h *Host) PageRequests(sink func(smmuv3.PageRequest)) { h.requests = sink }

// Respond is bridge.PageRequester's. It waits for nothing that Invalidate holds.
func (h *Host) Respond(sid smmuv3.StreamID, ssid smmuv3.SubstreamID, ssv bool, group uint16, r smmuv3.PRGResponse) error {
	ep, _ := h.endpoints.Load(sid)
	if e, ok := ep.(*Endpoint); ok {
		if a := e.ats.Load(); a != nil && a.Respond != nil {
			a.Respond(PageResponse{Substream: ssid, HasSubstream: ssv, Group: group, Code: r})
		}
	}
	return nil
}
