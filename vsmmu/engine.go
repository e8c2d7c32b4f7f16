package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The engine applies a new CR0 or GBPA and consumes commands. The goroutine that holds d.engine is
// the engine. The device does not queue work. Pending work is the difference between CR0 and
// CR0ACK, or between PROD and CONS. The next engine does it.

// budget is the cost that one turn of the engine may have. Its unit is about one cheap command: an
// invalidation or a prefetch costs 1. A step that may wait for a host costs costHost more. An
// interrupt may cost the embedder a system call: it costs costInterrupt.
type budget struct {
	left int
	// strict is set if the budget must never be exceeded. The worker's budget is not strict: it
	// only bounds how long the worker holds the lock.
	strict bool
}

// The share of a store is 256. It covers two calls of hosts, or the most frequent commands of
// drivers: a TLBI and a SYNC with an interrupt, with two hosts. Each step before commands costs the
// worker at most costAhead. Otherwise many streams or hosts could leave no budget for commands.
const (
	budgetWorker  = 4096
	costAhead     = budgetWorker / 4
	costHost      = 110
	costInterrupt = 31
)

// spend takes cost from the budget. If the budget does not cover it, spend uses the budget up and
// returns false. A cost of 0 is always covered.
func (b *budget) spend(cost int) bool {
	if cost != 0 && b.left <= 0 || b.strict && cost > b.left {
		b.left = 0
		return false
	}
	b.left -= cost
	return true
}

func (b *budget) spent() bool { return b.left <= 0 }

// work says whether a store may have made work for the engine, and which goroutine does it.
type work uint8

const (
	noWork work = iota
	// handOver means that the vCPU does the work of cost 0, and the worker the rest. The vCPU waits
	// neither for a host nor for commands.
	handOver
	// takePart means that the vCPU executes a bounded number of commands itself, so that short runs
	// need no worker.
	takePart
)

// shares are the budgets of stores, by the kind of work.
var shares = [...]budget{handOver: {left: 0, strict: true}, takePart: {left: 256, strict: true}}

// kick runs the engine after a store: on this goroutine up to the store's share, then on the
// worker.
func (d *Device) kick(w work) {
	if !d.engine.TryLock() {
		// The goroutine that holds the lock may have read the registers before this store.
		d.pending.Store(true)
		if !d.engine.TryLock() {
			d.wakeWorker()
			return
		}
	}
	d.turn(shares[w])
	d.engine.Unlock()
	if d.pending.Load() {
		d.wakeWorker() // the share is used up
	}
}

// request makes the worker run the engine.
func (d *Device) request() {
	d.pending.Store(true)
	d.wakeWorker()
}

func (d *Device) wakeWorker() {
	select {
	case d.wake <- struct{}{}:
	default: // already woken
	}
}

// work is the worker. It runs the engine until no work is left, each time it is woken.
func (d *Device) work() {
	defer close(d.done)
	for {
		select {
		case <-d.quit:
			return
		case <-d.wake:
		}
		for d.pending.Load() {
			d.engine.Lock()
			d.turn(budget{left: budgetWorker})
			d.engine.Unlock()
			select {
			case <-d.quit:
				return
			default:
			}
		}
	}
}

// turn does pending work, within the budget. If work is left, pending is set when turn returns.
func (d *Device) turn(b budget) {
	if d.pending.Load() {
		d.pending.Store(false)
	}
	if d.closed {
		return
	}
	// Retries that an earlier turn did not finish come first, so that the guest's requests are
	// executed in order.
	if d.retrying {
		d.retrying = !d.retryStalled(&b)
	}
	if d.retrying || !d.control(&b) || !d.retryFetches(&b) || !d.consume(&b) {
		d.pending.Store(true)
		return
	}
	d.retrying = !d.retryStalled(&b)
	if d.retrying {
		d.pending.Store(true)
	}
}

// control applies new values of CR0 and GBPA, and acknowledges them. done is false if the budget
// does not cover that.
func (d *Device) control(b *budget) (done bool) {
	cr0, ack := d.regs.get(wCR0), d.regs.get(wCR0ACK)
	gbpa := smmuv3.GBPA(d.regs.get(wGBPA))
	update := gbpa&smmuv3.GBPA_Update != 0
	if cr0 == ack && !update {
		return true
	}
	if update {
		d.gbpa = gbpa &^ smmuv3.GBPA_Update
	}
	enabled := cr0&smmuv3.CR0_SMMUEN != 0
	if was := ack&smmuv3.CR0_SMMUEN != 0; enabled != was || update && !enabled {
		if !b.spend(costHost * len(d.streams.All())) {
			return false
		}
		_ = d.configure(enabled) // settle has reported the error
		if was && !enabled {
			d.terminateAllStalled()
		}
	}
	if cr0&^ack&smmuv3.CR0_CMDQEN != 0 {
		d.cmdq = d.queueAt(wCMDQBase, smmuv3.CommandSize, smmuv3.CMDQS)
	}
	d.eventq.enable(cr0&smmuv3.CR0_EVENTQEN != 0)
	d.priq.enable(enabled && cr0&smmuv3.CR0_PRIQEN != 0)

	d.regMu.Lock()
	defer d.regMu.Unlock()
	d.regs.set(wCR0ACK, cr0)
	if update {
		d.regs.set(wGBPA, uint32(d.gbpa))
	}
	return true
}
