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
	d.eventq.mu.Lock()
	fate := d.record(ev)
	d.eventq.mu.Unlock()
	d.stats.events[fate].Add(1)
	d.trace.event(ev, fate)
}

// record writes an event to the queue, if that is writable (§7.2.1). eventq.mu
// is held.
func (d *Device) record(ev smmuv3.Event) Fate {
	q := &d.eventq
	if !q.enabled || d.active(smmuv3.GErrorEVENTQAbt) || d.failed.Load() {
		return Discarded
	}
	prod := d.regs.get(wEVENTQProd)
	at := smmuv3.Index(prod) & q.queue.Mask()
	held, ok := q.queue.Len(at, d.eventCons())
	if q.merge && held != 0 && ok && sameEvent(ev, q.last) && q.queue.Next(q.lastAt, 1) == at {
		return Merged
	}
	// Indices that make no sense are taken as a full queue (§3.5.1).
	if !ok || held == 1<<q.queue.Log2Size {
		if (prod^d.regs.get(wEVENTQCons))&smmuv3.OverflowFlag == 0 {
			d.regs.set(wEVENTQProd, prod^smmuv3.OverflowFlag)
		}
		return Overflowed
	}
	ev.Put(&q.record)
	if err := d.mem.WriteAt(q.record[:], guestmem.GPA(q.queue.Entry(at))); err != nil {
		d.activate(smmuv3.GErrorEVENTQAbt)
		return Aborted
	}
	q.last, q.lastAt, q.merge = ev, at, !ev.Stall()

	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	// The record first, then PROD, then the interrupt (§3.5.2, §3.18).
	d.regs.set(wEVENTQProd, prod&smmuv3.OverflowFlag|uint32(q.queue.Next(at, 1)))
	// The queue was empty if the guest had consumed all when PROD moved, so
	// that CONS has to be looked at again: a guest that read PROD before it
	// moved waits for this interrupt.
	if d.eventCons() == at {
		d.raise(srcEVENTQ)
	}
	return Recorded
}

// eventCons is how far the guest has consumed events. eventq.mu is held.
func (d *Device) eventCons() smmuv3.Index {
	return smmuv3.Index(d.regs.get(wEVENTQCons)) & d.eventq.queue.Mask()
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
