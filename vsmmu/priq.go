package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// priQueue produces the PRI queue (Chapter 8). outputQueue.mu guards all its fields.
type priQueue struct {
	outputQueue
	reader *trap.Reader // of STEs, for STE.PPAR
}

// enable applies the effective value of CR0.PRIQEN, which is 0 while SMMUEN is 0 (§6.3.9.5).
func (q *priQueue) enable(enabled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.apply(enabled)
}

// pageRequest records a request from a host. A request that is not recorded gets the SMMU's own
// answer at once (§8.1, §8.2). pageRequest never waits for the guest.
func (d *Device) pageRequest(h *host, r smmuv3.PageRequest) {
	if !d.ids.Has(smmuv3.SSIDSIZE) {
		if r.StopMarker() {
			return // an SMMU without substreams has no stop markers
		}
		r = r.WithoutSubstream()
	}
	r = r.Defined()
	q := &d.priq
	q.mu.Lock()
	fate := q.recordRequest(r)
	ssv, code, answered := autoResponse(r, fate, d.ids.Has(smmuv3.PPS), q.ppar)
	q.fates[fate]++
	q.mu.Unlock()
	d.trace.pageRequest(r, fate)
	if answered {
		d.respond(h, r.StreamID(), r.SubstreamID(), ssv, r.PRGIndex(), code)
	}
}

// recordRequest writes a request to the queue, if the queue takes it. q.mu is held.
func (q *priQueue) recordRequest(r smmuv3.PageRequest) Fate {
	if q.stopped() {
		return Discarded
	}
	// With LO, only the last request of a group interrupts, even if it is lost to an overflow
	// (§6.3.36).
	when := whenFirst
	if q.d.regs.get(wPRIQIRQ2)&smmuv3.PRIQ_IRQ_CFG2_LO != 0 {
		when = never
		if r.Last() {
			when = always
		}
	}
	// Unlike in the event queue, an overflow blocks the queue until the guest acknowledges it
	// (§8.1).
	at, _, ok := q.end()
	if !ok || q.overflowing() {
		q.overflow()
		if when == always {
			q.signal()
		}
		return Overflowed
	}
	copy(q.record[:], r[:])
	if !q.put(at, when) {
		return Aborted
	}
	return Recorded
}

// autoResponse returns the SMMU's own answer to a request that it did not record (§8.1, §8.2). ssv
// is true if the answer has the request's SubstreamID. answered is false if there is no answer.
// ppar returns STE.PPAR of a stream, and false if the stream has no usable STE.
func autoResponse(
	r smmuv3.PageRequest,
	f Fate,
	pps bool,
	ppar func(smmuv3.StreamID) (v, ok bool),
) (ssv bool, code smmuv3.PRGResponse, answered bool) {
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

// ppar reads STE.PPAR of a stream from memory: the request may come on any goroutine, and STEs need
// not be cached. q.mu is held, and SMMUEN is set.
func (q *priQueue) ppar(sid smmuv3.StreamID) (v, ok bool) {
	e := q.reader.Lookup(q.d.streamTable(), sid)
	if e.Fault != 0 || e.STE.Illegal(q.d.ids) != nil {
		return false, false
	}
	return e.STE.PPAR(), true
}

// priResp executes CMD_PRI_RESP (§4.5.2), which is ignored while the SMMU is disabled. Without
// substreams SSV counts as 0.
func (d *Device) priResp(c *smmuv3.Command) {
	st := d.streams.Get(c.StreamID())
	if st == nil || d.regs.get(wCR0ACK)&smmuv3.CR0_SMMUEN == 0 {
		return
	}
	ssv := c.SSV() && d.ids.Has(smmuv3.SSIDSIZE)
	d.respond(hostOf(st), st.ID, c.SubstreamID(), ssv, c.PRGIndex(), c.Resp())
}

// respond makes a host answer a page request group. If the host fails, the endpoint gets no answer,
// and its DMA waits.
func (d *Device) respond(
	h *host,
	sid smmuv3.StreamID,
	ssid smmuv3.SubstreamID,
	ssv bool,
	group uint16,
	code smmuv3.PRGResponse,
) {
	if !ssv {
		ssid = 0
	}
	err := h.Host.(bridge.PageRequester).Respond(bridge.PageResponse{
		StreamID: sid, SSV: ssv, SubstreamID: ssid, PRGIndex: group, Response: code,
	})
	if h.countResponse(err) != nil {
		d.hostFailed("host failed to answer a page request", err)
	}
}
