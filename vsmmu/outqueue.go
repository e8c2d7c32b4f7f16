package vsmmu

import (
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// outputQueue is a queue that the SMMU fills and the guest empties (§3.5): the
// event queue and the PRI queue. Its lock keeps records in order, and is what the
// acknowledgement of its enable waits for.
type outputQueue struct {
	*queueRegs
	mu      sync.Mutex
	enabled bool
	queue   smmuv3.Queue
	record  [smmuv3.EventSize]byte // on its way to memory
}

// queueRegs is where a queue's registers are, and what it is made of.
type queueRegs struct {
	base, prod, cons word
	entrySize        uint64
	size             smmuv3.IDField
	abort            uint32 // of GERROR
	irq              source
}

var (
	eventqRegs = queueRegs{wEVENTQBase, wEVENTQProd, wEVENTQCons, smmuv3.EventSize, smmuv3.EVENTQS, smmuv3.GERROR_EVENTQ_ABT_ERR, srcEVENTQ}
	priqRegs   = queueRegs{wPRIQBase, wPRIQProd, wPRIQCons, smmuv3.PageReqSize, smmuv3.PRIQS, smmuv3.GERROR_PRIQ_ABT_ERR, srcPRIQ}
)

// trigger says which records raise the queue's interrupt.
type trigger uint8

const (
	whenFirst trigger = iota // that the queue was empty before
	always
	never
)

// setQueue takes on a queue's enable. q.mu is held.
func (d *Device) setQueue(q *outputQueue, enabled bool) {
	if enabled && !q.enabled {
		q.queue = d.queueAt(q.base, q.entrySize, q.size)
	}
	q.enabled = enabled
}

// queueAt is where a queue's base register puts it.
func (d *Device) queueAt(base word, entrySize uint64, size smmuv3.IDField) smmuv3.Queue {
	return smmuv3.QueueBase(d.regs.get64(base)).Queue(entrySize, d.ids.Get(size), d.ids.OutputMask())
}

// stopped reports whether the queue takes no records whatever room it has
// (§7.2.1, §8.2). q.mu is held.
func (d *Device) stopped(q *outputQueue) bool {
	return !q.enabled || d.active(q.abort) || d.failed.Load()
}

// end is where the next record goes, and how many the guest has not consumed. ok
// is false if there is no room, or if the indices make no sense, which is taken
// for the same (§3.5.1). q.mu is held.
func (d *Device) end(q *outputQueue) (at smmuv3.Index, held uint32, ok bool) {
	at = smmuv3.Index(d.regs.get(q.prod)) & q.queue.Mask()
	held, ok = q.queue.Len(at, d.cons(q))
	return at, held, ok && held != 1<<q.queue.Log2Size
}

// cons is how far the guest has consumed the queue. q.mu is held.
func (d *Device) cons(q *outputQueue) smmuv3.Index {
	return smmuv3.Index(d.regs.get(q.cons)) & q.queue.Mask()
}

// overflowing reports whether an overflow has not been acknowledged (§7.4, §8.1).
func (d *Device) overflowing(q *outputQueue) bool {
	return (d.regs.get(q.prod)^d.regs.get(q.cons))&smmuv3.OverflowFlag != 0
}

// overflow tells of one. q.mu is held.
func (d *Device) overflow(q *outputQueue) {
	if !d.overflowing(q) {
		d.regs.set(q.prod, d.regs.get(q.prod)^smmuv3.OverflowFlag)
	}
}

// put writes what is in q.record as the entry at the queue's end, where
// there is room for it. It reports false if that was aborted (§7.2.2). q.mu is held.
func (d *Device) put(q *outputQueue, at smmuv3.Index, when trigger) bool {
	if err := d.write(q.record[:q.entrySize], guestmem.GPA(q.queue.Entry(at))); err != nil {
		d.activate(q.abort)
		return false
	}
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	// The record first, then PROD, then the interrupt (§3.5.2, §3.18).
	d.regs.set(q.prod, d.regs.get(q.prod)&smmuv3.OverflowFlag|uint32(q.queue.Next(at, 1)))
	// The queue was empty if the guest had consumed all when PROD moved, so
	// that CONS has to be looked at again: a guest that read PROD before it
	// moved waits for this interrupt.
	if when == always || when == whenFirst && d.cons(q) == at {
		d.raise(q.irq)
	}
	return true
}
