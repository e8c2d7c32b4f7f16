package vsmmu

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// eventQueue produces the event queue (§7.2 to §7.4). outputQueue.mu guards all its fields.
type eventQueue struct {
	outputQueue
	stalls stalls

	// last is the last record, and lastAt its index. While merge is set and the guest has not
	// consumed the record, equal events are merged into it.
	last   smmuv3.Event
	lastAt smmuv3.Index
	merge  bool
}

// Fate is the outcome of an event or a page request.
type Fate uint8

const (
	// Recorded means that the queue holds the record.
	Recorded Fate = iota
	// Merged means that the queue already holds the same event. Page requests are never merged
	// (§7.3.1).
	Merged
	// Discarded means that the queue was disabled, or had stopped after an abort (§7.2.1, §8.2).
	Discarded
	// Overflowed means that the event queue was full (§7.4), or the PRI queue had overflowed
	// (§8.1).
	Overflowed
	// Aborted means that the write of the record aborted (§7.2.2, §8.2).
	Aborted
	// Held means that the stalled transaction is retried later (§7.2.1): the queue took no events,
	// or IDR5.STALL_MAX stalled transactions were reported to the guest already.
	Held

	// NumFates is the number of fates.
	NumFates = iota
)

// String returns the outcome as a word.
func (f Fate) String() string {
	if names := [NumFates]string{
		"recorded",
		"merged",
		"discarded",
		"overflowed",
		"aborted",
		"held",
	}; int(f) < len(names) {
		return names[f]
	}
	return fmt.Sprintf("Fate(%d)", uint8(f))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (f Fate) Format(s fmt.State, verb rune) { verbs.Code(s, verb, f.String(), uint8(f)) }

// enable applies CR0.EVENTQEN. On return, no record begun under the old setting is in flight.
func (q *eventQueue) enable(enabled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if enabled && !q.enabled {
		q.merge = false
	}
	q.apply(enabled)
}

// deliver records an event, and counts and traces the outcome. It never waits for the guest.
func (d *Device) deliver(ev smmuv3.Event) {
	q := &d.eventq
	q.mu.Lock()
	var fate Fate
	if ev.Stall() && q.stalls.most != 0 {
		fate = q.recordStall(ev)
	} else {
		fate = q.recordEvent(ev)
	}
	q.fates[fate]++
	q.mu.Unlock()
	d.trace.event(ev, fate)
}

// recordEvent writes an event to the queue, if the queue is writable (§7.2.1). q.mu is held.
func (q *eventQueue) recordEvent(ev smmuv3.Event) Fate {
	if q.stopped() {
		return Discarded
	}
	at, held, ok := q.end()
	if q.merge && held != 0 && held <= 1<<q.queue.Log2Size && sameEvent(ev, q.last) && q.queue.Next(q.lastAt, 1) == at {
		return Merged
	}
	if !ok {
		q.overflow()
		return Overflowed
	}
	q.record = ev
	if !q.put(at, whenFirst) {
		return Aborted
	}
	q.last, q.lastAt, q.merge = ev, at, !ev.Stall()
	return Recorded
}

// sameEvent reports whether two events may be merged (§7.3.1): neither stalls, and they differ at
// most in the address bits below a page. A software implementation need not honour STE.MEV
// (§3.5.5).
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
