package vsmmu

import (
	"fmt"
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// stalls is the book of stalled transactions (§3.12.2), which are held by their
// hosts: those that the guest has been told of, and will resume or terminate, and
// those whose event found no room. These are never recorded later: when there is
// room, they are tried again (§7.2.1), so that no record can tell of a configuration
// that a SYNC has done away with meanwhile (§4.7.3).
type stalls struct {
	most    int            // that the guest can be told of at a time; 0 if nothing stalls
	told    map[stall]bool // true if the transaction is there, false if it is of before Restore
	waiting []stall
}

// stall names a stalled transaction. Hosts give STAGs out, each its own, so that it
// takes the StreamID as well.
type stall struct {
	sid  smmuv3.StreamID
	stag uint16
}

// waitingMax is as many as there are STAGs; hosts stall far fewer.
const waitingMax = 1 << 16

// stallsShown reports whether the guest was shown an SMMU in which faults may stall.
func stallsShown(ids *smmuv3.IDRegs) bool {
	return ids.Get(smmuv3.StallModel) != smmuv3.StallTerminate
}

func newStalls(ids *smmuv3.IDRegs) stalls {
	if !stallsShown(ids) {
		return stalls{}
	}
	return stalls{most: max(1, int(ids.Get(smmuv3.StallMax))), told: map[stall]bool{}}
}

// recordStall records the event of a stalled transaction, or sees to it that it is
// tried again. eventq.mu is held.
func (d *Device) recordStall(ev smmuv3.Event) Fate {
	b := &d.eventq.stalls
	s := stall{ev.StreamID(), ev.STAG()}
	// While SMMUEN goes to 1 streams translate before that is acknowledged.
	if (d.regs.get(wCR0)|d.regs.get(wCR0ACK))&smmuv3.CR0_SMMUEN == 0 || len(b.waiting) == waitingMax {
		return Discarded // SMMUEN has ended it, or ends it; or the host knows no bounds
	}
	if d.tellable(s) && d.recordEvent(ev) == Recorded {
		b.told[s] = true
		return Recorded
	}
	b.waiting = append(b.waiting, s)
	// The guest may have made room since that was looked at.
	d.pending.Store(true)
	d.wakeWorker()
	return Held
}

// tellable reports whether an event for a stall would be recorded now. eventq.mu is
// held.
func (d *Device) tellable(s stall) bool { return !d.eventq.stalls.inHand(s) && d.oneMore() }

// inHand: a STAG that the guest has been told of cannot mean another transaction of the
// stream.
func (b *stalls) inHand(s stall) bool {
	_, told := b.told[s]
	return told
}

// oneMore reports whether the event queue would take another stall. eventq.mu is held.
func (d *Device) oneMore() bool {
	b, q := &d.eventq.stalls, &d.eventq.outputQueue
	_, _, room := d.end(q)
	return len(b.told) < b.most && room && !d.stopped(q)
}

// retryStalled has stalled transactions tried again that the guest could be told of
// now. It reports false if the budget did not allow all.
func (d *Device) retryStalled(b *budget) (done bool) {
	if d.eventq.stalls.most == 0 {
		return true
	}
	for d.failure == nil {
		i, ok := d.nextWaiting()
		if !ok {
			break
		}
		if !b.spend(1 + costHost) {
			return false
		}
		s := d.takeWaiting(i)
		if st := d.streams.Get(s.sid); st != nil {
			d.resume(st, s.stag, bridge.Retry)
		}
	}
	return true
}

// nextWaiting finds the first that the guest could be told of. Only the engine takes
// any out.
func (d *Device) nextWaiting() (i int, ok bool) {
	d.eventq.mu.Lock()
	defer d.eventq.mu.Unlock()
	if !d.oneMore() {
		return 0, false
	}
	b := &d.eventq.stalls
	i = slices.IndexFunc(b.waiting, func(s stall) bool { return !b.inHand(s) })
	return i, i >= 0
}

func (d *Device) takeWaiting(i int) stall {
	d.eventq.mu.Lock()
	defer d.eventq.mu.Unlock()
	w := &d.eventq.stalls.waiting
	s := (*w)[i]
	*w = slices.Delete(*w, i, i+1)
	return s
}

// strike takes a stream's transactions out of the book.
func (d *Device) strike(sid smmuv3.StreamID) {
	b := &d.eventq.stalls
	d.eventq.mu.Lock()
	defer d.eventq.mu.Unlock()
	b.waiting = slices.DeleteFunc(b.waiting, func(s stall) bool { return s.sid == sid })
	maps.DeleteFunc(b.told, func(s stall, _ bool) bool { return s.sid == sid })
	if len(b.waiting) != 0 {
		// Those of other streams may now be told.
		d.pending.Store(true)
		d.wakeWorker()
	}
}

// resumeStalled is CMD_RESUME (§4.7.1). It does nothing for a transaction that the
// guest has not been told of, or has resumed or terminated already.
func (d *Device) resumeStalled(c *smmuv3.Command) {
	s := stall{c.StreamID(), c.STAG()}
	d.eventq.mu.Lock()
	there := d.eventq.stalls.told[s]
	delete(d.eventq.stalls.told, s)
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

// resume has a host resume a transaction. If it fails, that stays stalled, and does
// no DMA.
func (d *Device) resume(st *trap.Stream, stag uint16, how bridge.Resumption) {
	if err := hostOf(st).Host.(bridge.Staller).Resume(st.ID, stag, how); err != nil {
		d.hostFailed("host failed to resume a stalled transaction", err)
	}
}

// endStalled ends every stalled transaction of a stream with an abort, as
// CMD_STALL_TERM does (§4.7.2).
func (d *Device) endStalled(st *trap.Stream) {
	if d.eventq.stalls.most == 0 {
		return
	}
	// Out of the book first: of one that stalls from here on the guest is told, and
	// if the host ends it with the others, to resume it does nothing.
	d.strike(st.ID)
	d.terminate(st)
}

// endAllStalled is SMMUEN going to 0 (§6.3.9.6), and reset: whatever the book has, of
// streams that have been detached meanwhile too.
func (d *Device) endAllStalled() {
	if d.eventq.stalls.most == 0 {
		return
	}
	b := &d.eventq.stalls
	d.eventq.mu.Lock()
	clear(b.told)
	b.waiting = nil
	d.eventq.mu.Unlock()
	for _, st := range d.streams.All() {
		d.terminate(st)
	}
}

func (d *Device) terminate(st *trap.Stream) {
	if err := hostOf(st).Host.(bridge.Staller).TerminateStalled(st.ID); err != nil {
		d.hostFailed("host failed to end stalled transactions", err)
	}
}

// mayStall reports whether a host can keep what the guest was shown of stalls.
func (d *Device) mayStall(b bridge.Host) error {
	if _, ok := b.(bridge.Staller); !ok && d.eventq.stalls.most != 0 {
		return fmt.Errorf("%w: a host of type %T has an IDR0.STALL_MODEL with stalls and is no Staller", ErrConfig, b)
	}
	return nil
}

// stallsUnasked reports whether a host would have transactions stall if a CD says so,
// for a guest that was shown an SMMU where none does.
func stallsUnasked(host, guest smmuv3.IDRegs) bool {
	return host.Get(smmuv3.StallModel) == smmuv3.StallBoth && guest.Get(smmuv3.StallModel) == smmuv3.StallTerminate
}

// Attach attaches a stream. One that must not stall is kept from it as §3.12.2.3 has
// it, by S1STALLD: a CD with S = 1 is then as illegal as it is where nothing stalls.
func (h *host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	st, err := h.Host.Attach(sid, ep)
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
