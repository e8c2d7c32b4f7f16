package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// eventQueue is the event queue's producer (§7.2 to §7.4).
type eventQueue struct {
	outputQueue
	stalls stalls

	// The last record written and where, for as long as the guest has not
	// consumed it: an event that repeats it is merged into it.
	last   smmuv3.Event
	lastAt smmuv3.Index
	merge  bool
}

// Fate is what became of an event, or of a page request.
type Fate uint8

const (
	// Recorded: it is in the queue.
	Recorded Fate = iota
	// Merged: the queue holds the same event already; requests never are (§7.3.1).
	Merged
	// Discarded: the queue was disabled, or stopped by an abort (§7.2.1, §8.2).
	Discarded
	// Overflowed: the queue was full (§7.4), or the PRI queue had been (§8.1).
	Overflowed
	// Aborted: the record could not be written (§7.2.2, §8.2).
	Aborted
	// Held: the queue took no events, or the guest has been told of as many stalled
	// transactions as IDR5.STALL_MAX allows. This one is tried again later (§7.2.1).
	Held

	numFates = iota
)

func (f Fate) String() string {
	return [...]string{"recorded", "merged", "discarded", "overflowed", "aborted", "held"}[f]
}

// setEventQueue takes on EVENTQEN. When it returns, no record of before is
// still being written.
func (d *Device) setEventQueue(enabled bool) {
	q := &d.eventq
	q.mu.Lock()
	defer q.mu.Unlock()
	if enabled && !q.enabled {
		q.merge = false
	}
	d.setQueue(&q.outputQueue, enabled)
}

// deliver records an event, or says what else became of it. It never waits for
// the guest.
func (d *Device) deliver(ev smmuv3.Event) {
	d.eventq.mu.Lock()
	var fate Fate
	if ev.Stall() && d.eventq.stalls.most != 0 {
		fate = d.recordStall(ev)
	} else {
		fate = d.recordEvent(ev)
	}
	d.eventq.mu.Unlock()
	d.stats.events[fate].Add(1)
	d.trace.event(ev, fate)
}

// recordEvent writes an event to the queue, if that is writable (§7.2.1). eventq.mu
// is held.
func (d *Device) recordEvent(ev smmuv3.Event) Fate {
	q := &d.eventq
	if d.stopped(&q.outputQueue) {
		return Discarded
	}
	at, held, ok := d.end(&q.outputQueue)
	if q.merge && held != 0 && held <= 1<<q.queue.Log2Size && sameEvent(ev, q.last) && q.queue.Next(q.lastAt, 1) == at {
		return Merged
	}
	if !ok {
		d.overflow(&q.outputQueue)
		return Overflowed
	}
	ev.Put(&q.record)
	if !d.put(&q.outputQueue, at, whenFirst) {
		return Aborted
	}
	q.last, q.lastAt, q.merge = ev, at, !ev.Stall()
	return Recorded
}

// sameEvent reports whether two events may be merged: they do not stall, and
// are the same in all but what the events' descriptions have ignored for the
// purpose, which is where in a page the access was (§7.3.1). STE.MEV need not
// be honoured by software implementations (§3.5.5).
func sameEvent(a, b smmuv3.Event) bool {
	if a.Stall() || b.Stall() || a.Type() != b.Type() {
		return false
	}
	switch a.Type() {
	case smmuv3.FTranslForbidden, smmuv3.FWalkEABT, smmuv3.FTLBConflict,
		smmuv3.FTranslation, smmuv3.FAddrSize, smmuv3.FAccess, smmuv3.FPermission:
		a[2] &^= 0xfff
		b[2] &^= 0xfff
	}
	return a == b
}
