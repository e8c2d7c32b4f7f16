package vsmmu

import (
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// stalls lists the stalled transactions (§3.12.2), which their hosts hold. A reported transaction
// waits until the guest resumes or terminates it. A transaction whose event found no room is
// retried when there is room (§7.2.1), and its event is not recorded later. Therefore no record
// reports a configuration that was stale before a completed SYNC (§4.7.3).
type stalls struct {
	most     int            // limit of reported transactions; 0 if faults do not stall
	reported map[stall]bool // false if the transaction stalled before Restore and no longer exists
	waiting  []stall        // in the order in which they are retried
}

// stall names a stalled transaction. Each host assigns STAGs of its own, so the StreamID is part of
// the name.
type stall struct {
	sid  smmuv3.StreamID
	stag uint16
}

// waitingMax is the number of STAGs. Hosts stall far fewer transactions.
const waitingMax = 1 << 16

// stallsShown reports whether the guest's ID registers allow stalls.
func stallsShown(ids *smmuv3.IDRegs) bool {
	return ids.Get(smmuv3.StallModel) != smmuv3.StallTerminate
}

func newStalls(ids *smmuv3.IDRegs) stalls {
	if !stallsShown(ids) {
		return stalls{}
	}
	return stalls{most: max(1, int(ids.Get(smmuv3.StallMax))), reported: map[stall]bool{}}
}

// recordStall records the event of a stalled transaction, or queues the transaction for a retry.
// q.mu is held.
func (q *eventQueue) recordStall(ev smmuv3.Event) Fate {
	d, b := q.d, &q.stalls
	s := stall{ev.StreamID(), ev.STAG()}
	// When SMMUEN becomes 1, streams translate before CR0ACK follows.
	if (d.regs.get(wCR0)|d.regs.get(wCR0ACK))&smmuv3.CR0_SMMUEN == 0 || len(b.waiting) == waitingMax {
		return Discarded // SMMUEN=0 terminates the transaction, or the host stalls without bound
	}
	if !b.has(s) && q.roomForStall() && q.recordEvent(ev) == Recorded {
		b.reported[s] = true
		return Recorded
	}
	b.waiting = append(b.waiting, s)
	d.request() // the guest may have made room in the queue
	return Held
}

// has reports whether the STAG was reported to the guest. Until the guest answers, the STAG cannot
// name another transaction of the stream.
func (b *stalls) has(s stall) bool {
	_, ok := b.reported[s]
	return ok
}

// roomForStall reports whether the queue would take another stall now. q.mu is held.
func (q *eventQueue) roomForStall() bool {
	_, _, room := q.end()
	return len(q.stalls.reported) < q.stalls.most && room && !q.stopped()
}

// retryStalled makes hosts retry the stalled transactions that could be reported now. done is false
// if the budget does not cover all of them.
func (d *Device) retryStalled(b *budget) (done bool) {
	if d.eventq.stalls.most == 0 {
		return true
	}
	for d.failure == nil {
		i, ok := d.eventq.nextWaiting()
		if !ok {
			break
		}
		if !b.spend(1 + costHost) {
			return false
		}
		s := d.eventq.takeWaiting(i)
		if st := d.streams.Get(s.sid); st != nil {
			d.resume(st, s.stag, bridge.Retry)
		}
	}
	return true
}

// nextWaiting returns the index of the first waiting transaction that could be reported. The index
// stays valid, as only the engine removes transactions.
func (q *eventQueue) nextWaiting() (i int, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.roomForStall() {
		return 0, false
	}
	i = slices.IndexFunc(q.stalls.waiting, func(s stall) bool { return !q.stalls.has(s) })
	return i, i >= 0
}

func (q *eventQueue) takeWaiting(i int) stall {
	q.mu.Lock()
	defer q.mu.Unlock()
	w := &q.stalls.waiting
	s := (*w)[i]
	*w = slices.Delete(*w, i, i+1)
	if len(*w) == 0 {
		*w = nil // frees the memory of a burst
	}
	return s
}

// forgetStalls removes a stream's transactions from the list.
func (d *Device) forgetStalls(sid smmuv3.StreamID) {
	q := &d.eventq
	q.mu.Lock()
	defer q.mu.Unlock()
	b := &q.stalls
	b.waiting = slices.DeleteFunc(b.waiting, func(s stall) bool { return s.sid == sid })
	maps.DeleteFunc(b.reported, func(s stall, _ bool) bool { return s.sid == sid })
	if len(b.waiting) != 0 {
		d.request() // transactions of other streams may now be reported
	}
}

// resumeStalled executes CMD_RESUME (§4.7.1). It has no effect on a transaction that was not
// reported to the guest, or that the guest has resumed or terminated already.
func (d *Device) resumeStalled(c *smmuv3.Command) {
	s := stall{c.StreamID(), c.STAG()}
	d.eventq.mu.Lock()
	there := d.eventq.stalls.reported[s]
	delete(d.eventq.stalls.reported, s)
	d.eventq.mu.Unlock()
	st := d.streams.Get(s.sid)
	if !there || st == nil {
		return
	}
	how := bridge.TerminateRAZWI
	switch {
	case c.ResumeRetry():
		how = bridge.Retry
	case c.ResumeAbort() || d.ids.Has(smmuv3.TermModel):
		how = bridge.TerminateAbort
	}
	d.resume(st, s.stag, how)
}

// resume makes a host resume a transaction. If that fails, the transaction stays stalled and does
// no DMA.
func (d *Device) resume(st *trap.Stream, stag uint16, how bridge.Resumption) {
	h := hostOf(st)
	if err := h.count(CallResume, h.Host.(bridge.Staller).Resume(st.ID, stag, how)); err != nil {
		d.hostFailed("host failed to resume a stalled transaction", err)
	}
}

// terminateStalled terminates every stalled transaction of a stream with an abort, as
// CMD_STALL_TERM does (§4.7.2).
func (d *Device) terminateStalled(st *trap.Stream) {
	if d.eventq.stalls.most == 0 {
		return
	}
	// The list is cleared first: a transaction that stalls afterwards is reported to the guest. If
	// the host then terminates it with the others, the guest's CMD_RESUME has no effect.
	d.forgetStalls(st.ID)
	d.terminate(st)
}

// terminateAllStalled terminates every stalled transaction, as SMMUEN=0 (§6.3.9.6) and reset do. It
// empties the whole list, which may have transactions of detached streams, too.
func (d *Device) terminateAllStalled() {
	if d.eventq.stalls.most == 0 {
		return
	}
	b := &d.eventq.stalls
	d.eventq.mu.Lock()
	clear(b.reported)
	b.waiting = nil
	d.eventq.mu.Unlock()
	for _, st := range d.streams.All() {
		d.terminate(st)
	}
}

func (d *Device) terminate(st *trap.Stream) {
	h := hostOf(st)
	if err := h.count(CallTerminateStalled, h.Host.(bridge.Staller).TerminateStalled(st.ID)); err != nil {
		d.hostFailed("host failed to terminate stalled transactions", err)
	}
}

// stallsUnshown reports whether a CD could make the host stall transactions although the guest's ID
// registers exclude stalls.
func stallsUnshown(host, guest smmuv3.IDRegs) bool {
	return host.Get(smmuv3.StallModel) == smmuv3.StallBoth && guest.Get(smmuv3.StallModel) == smmuv3.StallTerminate
}

// Attach attaches a stream. Where faults must not stall, the stream's stages have S1STALLD set
// (§3.12.2.3): a CD with S = 1 is then illegal, as it is on an SMMU without stalls.
func (h *host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	st, err := h.Host.Attach(sid, ep)
	_ = h.count(CallAttach, err)
	if err != nil || !h.unstalled {
		return st, err
	}
	return unstalled{st}, nil
}

type unstalled struct{ bridge.Stream }

func (s unstalled) Bind(g bridge.GuestStage) error {
	g.S1STALLD = g.Disposition.Stage1()
	return s.Stream.Bind(g)
}
