package vsmmu

import (
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// outputQueue is a queue that the SMMU fills and the guest empties (§3.5): the event queue or the
// PRI queue. It owns the queue's indices, its memory and its interrupt. Its lock keeps records in
// order. The engine takes the lock before it acknowledges the queue's enable.
type outputQueue struct {
	*queueRegs
	d *Device

	mu      sync.Mutex // guards the following fields
	enabled bool
	queue   smmuv3.Queue
	fates   [NumFates]uint64             // counts the records by their outcome
	record  [smmuv3.EventSize / 8]uint64 // on its way to memory
}

// queueRegs has the registers of an output queue, and its constants.
type queueRegs struct {
	base, prod, cons word
	entrySize        uint64
	size             smmuv3.IDField
	abort            uint32 // the error in GERROR if a write of a record aborts
	irq              source
}

var (
	eventqRegs = queueRegs{
		wEVENTQBase,
		wEVENTQProd,
		wEVENTQCons,
		smmuv3.EventSize,
		smmuv3.EVENTQS,
		smmuv3.GERROR_EVENTQ_ABT_ERR,
		srcEVENTQ,
	}
	priqRegs = queueRegs{
		wPRIQBase,
		wPRIQProd,
		wPRIQCons,
		smmuv3.PageReqSize,
		smmuv3.PRIQS,
		smmuv3.GERROR_PRIQ_ABT_ERR,
		srcPRIQ,
	}
)

// trigger says which records raise the queue's interrupt.
type trigger uint8

const (
	whenFirst trigger = iota // a record that finds the queue empty
	always
	never
)

// queueAt returns the queue that a base register configures.
func (d *Device) queueAt(base word, entrySize uint64, size smmuv3.IDField) smmuv3.Queue {
	return smmuv3.QueueBase(d.regs.get64(base)).Queue(entrySize, d.ids.Get(size), d.ids.OutputMask())
}

// apply applies the queue's enable. q.mu is held.
func (q *outputQueue) apply(enabled bool) {
	if enabled && !q.enabled {
		q.queue = q.d.queueAt(q.base, q.entrySize, q.size)
	}
	q.enabled = enabled
}

// stopped reports whether the queue takes no records even if it has room (§7.2.1, §8.2). q.mu is
// held.
func (q *outputQueue) stopped() bool {
	return !q.enabled || q.d.active(q.abort) || q.d.failed.Load()
}

// end returns the index of the next record, and the number of records that the guest has not
// consumed. ok is false if the queue is full. Invalid indices count as a full queue (§3.5.1). q.mu
// is held.
func (q *outputQueue) end() (at smmuv3.Index, held uint32, ok bool) {
	at = smmuv3.Index(q.d.regs.get(q.prod)) & q.queue.Mask()
	held, ok = q.queue.Len(at, q.consumed())
	return at, held, ok && held != 1<<q.queue.Log2Size
}

// consumed returns CONS. q.mu is held.
func (q *outputQueue) consumed() smmuv3.Index {
	return smmuv3.Index(q.d.regs.get(q.cons)) & q.queue.Mask()
}

// overflowing reports whether an overflow is not acknowledged (§7.4, §8.1).
func (q *outputQueue) overflowing() bool {
	return (q.d.regs.get(q.prod)^q.d.regs.get(q.cons))&smmuv3.OverflowFlag != 0
}

// overflow reports an overflow to the guest. q.mu is held.
func (q *outputQueue) overflow() {
	if !q.overflowing() {
		q.d.regs.set(q.prod, q.d.regs.get(q.prod)^smmuv3.OverflowFlag)
	}
}

// put writes q.record as the entry at the queue's end, which has room for it. It returns false if
// the write aborts (§7.2.2). q.mu is held.
func (q *outputQueue) put(at smmuv3.Index, when trigger) bool {
	d := q.d
	gpa := guestmem.GPA(q.queue.Entry(at))
	if err := d.mem.Write(q.record[:q.entrySize/8], gpa); err != nil {
		d.activate(q.abort)
		return false
	}
	d.wrote(gpa, int(q.entrySize))
	// The record first, then PROD, then the interrupt (§3.5.2, §3.18).
	d.regs.set(q.prod, d.regs.get(q.prod)&smmuv3.OverflowFlag|uint32(q.queue.Next(at, 1)))
	// The queue was empty if the guest had consumed all records when PROD changed. CONS is read
	// after that: a guest that read the old PROD waits for this interrupt.
	if when == always || when == whenFirst && q.consumed() == at {
		q.signal()
	}
	return true
}

// signal raises the queue's interrupt if it is enabled. The caller holds q.mu, and changes of
// IRQ_CTRL hold it, too. A change thus applies to a whole record or not at all (§3.18.1, §6.3.16).
func (q *outputQueue) signal() {
	d := q.d
	if d.regs.get(wIRQCtrl)&sources[q.irq].enable == 0 {
		return
	}
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	d.raise(q.irq)
}

// count copies the counts of records by their outcome.
func (q *outputQueue) count(to Counts[Fate]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for f, n := range q.fates {
		to[Fate(f)] = n
	}
}
