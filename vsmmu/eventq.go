package vsmmu

import (
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// eventQueue is the event queue's producer (§3.5, §7.2 to §7.4). Its lock keeps
// records in order, and is what EVENTQEN's acknowledgement waits for.
type eventQueue struct {
	mu      sync.Mutex
	enabled bool
	queue   smmuv3.Queue
	record  [smmuv3.EventSize]byte

	// The last record written and where, for as long as the guest has not
	// consumed it: an event that repeats it is merged into it.
	last   smmuv3.Event
	lastAt smmuv3.Index
	merge  bool
}

// Fate is what became of an event.
type Fate uint8

const (
	// Recorded: the event is in the queue.
	Recorded Fate = iota
	// Merged: the queue holds the same event already (§7.3.1).
	Merged
	// Discarded: the queue was disabled, or stopped by an abort (§7.2.1).
	Discarded
	// Overflowed: the queue was full (§7.4).
	Overflowed
	// Aborted: the record could not be written (§7.2.2).
	Aborted

	numFates = iota
)

func (f Fate) String() string {
	return [...]string{"recorded", "merged", "discarded", "overflowed", "aborted"}[f]
}

// setEventQueue takes on EVENTQEN. When it returns, no record of before is
// still being written.
func (d *Device) setEventQueue(enabled bool) {
	q := &d.eventq
	q.mu.Lock()
	defer q.mu.Unlock()
	if enabled && !q.enabled {
		q.queue = smmuv3.QueueBase(d.regs.get64(wEVENTQBase)).Queue(
			smmuv3.EventSize, d.ids.Get(smmuv3.EVENTQS), d.ids.OutputMask())
		q.merge = false
	}
	q.enabled = enabled
}

// deliver records an event, or says what else became of it. It never waits for
// the guest.
func (d *Device) deliver(ev smmuv3.Event) {
	q := &d.eventq
	q.mu.Lock()
	fate, nonEmpty, abort := d.record(ev)
	if nonEmpty {
		d.raise(srcEVENTQ)
	}
	if abort {
		d.activate(smmuv3.GErrorEVENTQAbt)
	}
	q.mu.Unlock()
	d.stats.events[fate].Add(1)
	d.trace.event(ev, fate)
}

// record writes an event to the queue: the record first, then PROD, so that
// whoever sees PROD sees the record (§3.5.2). nonEmpty says that the queue was
// empty before.
func (d *Device) record(ev smmuv3.Event) (fate Fate, nonEmpty, abort bool) {
	q := &d.eventq
	if !q.enabled || d.active(smmuv3.GErrorEVENTQAbt) || d.failed.Load() {
		return Discarded, false, false
	}
	prod := d.regs.get(wEVENTQProd)
	cons := d.regs.get(wEVENTQCons)
	at := smmuv3.Index(prod) & q.queue.Mask()
	held, ok := q.queue.Len(at, smmuv3.Index(cons)&q.queue.Mask())
	if q.merge && held != 0 && ok && sameEvent(ev, q.last) && q.queue.Next(q.lastAt, 1) == at {
		return Merged, false, false
	}
	// Indices that make no sense are taken as a full queue (§3.5.1).
	if !ok || held == 1<<q.queue.Log2Size {
		if (prod^cons)&smmuv3.OverflowFlag == 0 {
			d.regs.set(wEVENTQProd, prod^smmuv3.OverflowFlag)
		}
		return Overflowed, false, false
	}
	ev.Put(&q.record)
	if err := d.mem.WriteAt(q.record[:], guestmem.GPA(q.queue.Entry(at))); err != nil {
		return Aborted, false, true
	}
	next := q.queue.Next(at, 1)
	d.regs.set(wEVENTQProd, prod&smmuv3.OverflowFlag|uint32(next))
	q.last, q.lastAt, q.merge = ev, at, !ev.Stall()
	// The queue was empty if the guest had consumed all when PROD moved: CONS
	// has to be looked at after PROD, not before.
	cons = d.regs.get(wEVENTQCons)
	return Recorded, smmuv3.Index(cons)&q.queue.Mask() == at, false
}

// sameEvent reports whether two events that do not stall may be merged: they
// are the same in all that is not ignored for the purpose (§7.3.1, and the
// descriptions of the translation events).
func sameEvent(a, b smmuv3.Event) bool {
	if a.Stall() || b.Stall() || a.Type() != b.Type() {
		return false
	}
	switch a.Type() {
	case smmuv3.FTranslation, smmuv3.FAddrSize, smmuv3.FAccess, smmuv3.FPermission, smmuv3.FWalkEABT:
		a[2] &^= 0xfff
		b[2] &^= 0xfff
	}
	return a == b
}
