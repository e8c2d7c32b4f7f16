package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// priQueue is the PRI queue's producer (Chapter 8).
type priQueue struct {
	outputQueue
	reader *trap.Reader // of STEs, for what an answer depends on
}

// setPRIQueue takes on the effective value of PRIQEN, which is 0 while SMMUEN is
// (§6.3.9.5).
func (d *Device) setPRIQueue(enabled bool) {
	q := &d.priq.outputQueue
	q.mu.Lock()
	defer q.mu.Unlock()
	d.setQueue(q, enabled)
}

// pageRequest takes a request in from a host. One that does not get into the queue
// is answered there and then, as it has to be. It never waits for the guest.
func (d *Device) pageRequest(h *host, r smmuv3.PageRequest) {
	if !d.ids.Has(smmuv3.SSIDSIZE) {
		if r.StopMarker() {
			return // to an SMMU without substreams there is no such message
		}
		r = r.WithoutSubstream()
	}
	r = r.Defined()
	d.priq.mu.Lock()
	fate := d.recordRequest(r)
	ssv, code, answered := autoResponse(r, fate, d.ids.Has(smmuv3.PPS), d.ppar)
	d.priq.mu.Unlock()
	d.stats.requests[fate].Add(1)
	d.trace.pageRequest(r, fate)
	if answered {
		d.respond(h, r.StreamID(), r.SubstreamID(), ssv, r.PRGIndex(), code)
	}
}

// recordRequest writes a request to the queue, if that takes it. priq.mu is held.
func (d *Device) recordRequest(r smmuv3.PageRequest) Fate {
	q := &d.priq.outputQueue
	if d.stopped(q) {
		return Discarded
	}
	// With LO only the last request of a group interrupts, and does so too if it
	// is lost to an overflow (§6.3.36).
	when := whenFirst
	if d.regs.get(wPRIQIRQ2)&smmuv3.PRIQ_IRQ_CFG2_LO != 0 {
		when = never
		if r.Last() {
			when = always
		}
	}
	// Unlike that of the event queue, an overflow blocks the queue until it is
	// acknowledged (§8.1).
	at, _, ok := d.end(q)
	if !ok || d.overflowing(q) {
		d.irq.mu.Lock()
		defer d.irq.mu.Unlock()
		d.overflow(q)
		if when == always {
			d.raise(srcPRIQ)
		}
		return Overflowed
	}
	r.Put((*[smmuv3.PageReqSize]byte)(q.record[:]))
	if !d.put(q, at, when) {
		return Aborted
	}
	return Recorded
}

// autoResponse is how the SMMU itself answers a request that it did not record
// (§8.1, §8.2): whether the answer has the request's SubstreamID, its code, and
// whether there is one. ppar tells STE.PPAR of the stream, or that it has no usable
// STE.
func autoResponse(r smmuv3.PageRequest, f Fate, pps bool, ppar func(smmuv3.StreamID) (v, ok bool)) (ssv bool, code smmuv3.PRGResponse, answered bool) {
	switch {
	case f == Recorded || r.StopMarker():
		return false, 0, false
	case f != Overflowed:
		return false, smmuv3.PRGFailure, true
	case !r.Last():
		return false, 0, false
	case !r.SSV() || pps:
		return r.SSV(), smmuv3.PRGSuccess, true
	}
	ssv, ok := ppar(r.StreamID())
	if !ok {
		return false, smmuv3.PRGFailure, true
	}
	return ssv, smmuv3.PRGSuccess, true
}

// ppar reads STE.PPAR, of a stream that may have asked on any goroutine: from
// memory rather than from what the engine knows, since STEs need not be cached.
// priq.mu is held, and SMMUEN set.
func (d *Device) ppar(sid smmuv3.StreamID) (v, ok bool) {
	e := d.priq.reader.Lookup(d.streamTable(), sid)
	if e.Fault != 0 || e.STE.Illegal(d.ids) != nil {
		return false, false
	}
	return e.STE.PPAR(), true
}

// priResp is CMD_PRI_RESP (§4.5.2), which is ignored while the SMMU is disabled.
// Without substreams SSV is taken for 0.
func (d *Device) priResp(c *smmuv3.Command) {
	st := d.streams.Get(c.StreamID())
	if st == nil || d.regs.get(wCR0ACK)&smmuv3.CR0_SMMUEN == 0 {
		return
	}
	ssv := c.SSV() && d.ids.Has(smmuv3.SSIDSIZE)
	d.respond(hostOf(st), st.ID, c.SubstreamID(), ssv, c.PRGIndex(), c.Resp())
}

// respond has a host answer a group. If it fails, the endpoint is left without an
// answer, and no DMA comes of that.
func (d *Device) respond(h *host, sid smmuv3.StreamID, ssid smmuv3.SubstreamID, ssv bool, group uint16, code smmuv3.PRGResponse) {
	if !ssv {
		ssid = 0
	}
	if err := h.Host.(bridge.PageRequester).Respond(bridge.PageResponse{
		StreamID: sid, SSV: ssv, SubstreamID: ssid, PRGIndex: group, Response: code,
	}); err != nil {
		d.hostFailed("host failed to answer a page request", err)
	}
}
