package transcript

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The taps of the optional interfaces of a host.
type (
	tappedPages   struct{ *tappedHost }
	tappedStalls  struct{ *tappedHost }
	tappedRefetch struct{ *tappedHost }
)

// withOptional returns a tap that implements exactly the optional interfaces of its host.
func (h *tappedHost) withOptional() bridge.Host {
	const pages, stalls, refetch = 1, 2, 4
	has := 0
	if _, ok := h.host.(bridge.PageRequester); ok {
		has |= pages
	}
	if _, ok := h.host.(bridge.Staller); ok {
		has |= stalls
	}
	if _, ok := h.host.(bridge.STERefetcher); ok {
		has |= refetch
	}
	p, s, r := tappedPages{h}, tappedStalls{h}, tappedRefetch{h}
	switch has {
	case pages:
		return &p
	case stalls:
		return &s
	case refetch:
		return &r
	case pages | stalls:
		return &struct {
			*tappedHost
			tappedPages
			tappedStalls
		}{h, p, s}
	case pages | refetch:
		return &struct {
			*tappedHost
			tappedPages
			tappedRefetch
		}{h, p, r}
	case stalls | refetch:
		return &struct {
			*tappedHost
			tappedStalls
			tappedRefetch
		}{h, s, r}
	case pages | stalls | refetch:
		return &struct {
			*tappedHost
			tappedPages
			tappedStalls
			tappedRefetch
		}{h, p, s, r}
	}
	return h
}

func (h tappedPages) PageRequests(sink func(smmuv3.PageRequest)) error {
	host := h.host.(bridge.PageRequester)
	if sink == nil {
		return h.claimed(ReleasePageRequests, host.PageRequests(nil))
	}
	return h.claimed(ClaimPageRequests, host.PageRequests(func(q smmuv3.PageRequest) {
		h.r.log.add(&PageFault{h.number, q})
		sink(q)
	}))
}

func (h tappedPages) Respond(r bridge.PageResponse) error {
	err := h.host.(bridge.PageRequester).Respond(r)
	h.r.log.add(&HostRespond{r, newError(err)})
	return err
}

func (h tappedStalls) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	err := h.host.(bridge.Staller).Resume(sid, stag, how)
	h.r.log.add(&HostResume{sid, stag, how, newError(err)})
	return err
}

func (h tappedStalls) TerminateStalled(sid smmuv3.StreamID) error {
	err := h.host.(bridge.Staller).TerminateStalled(sid)
	h.r.log.add(&HostTerminate{sid, newError(err)})
	return err
}

func (h tappedRefetch) SetSTERefetch(refetch func(smmuv3.StreamID) bool) {
	host := h.host.(bridge.STERefetcher)
	h.r.log.add(&HostRefetcher{h.number, refetch != nil})
	if refetch == nil {
		host.SetSTERefetch(nil)
		return
	}
	host.SetSTERefetch(func(sid smmuv3.StreamID) bool {
		h.r.log.add(&Refetch{h.number, sid})
		again := refetch(sid)
		h.r.log.add(&Refetched{sid, again})
		return again
	})
}
