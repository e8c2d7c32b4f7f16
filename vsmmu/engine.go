package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The engine does what follows from a store: it applies a new CR0 or GBPA and consumes commands.
// Whichever goroutine holds d.engine is the engine. Work is never queued. It stands in the
// registers, as the difference between CR0 and CR0ACK, or PROD and CONS, and whoever becomes the
// engine finds it there.

// budget is what one turn of the engine may cost, in units of about one cheap command. An
// invalidation or a prefetch costs 1. Whatever may wait for a host costs costHost more. An
// interrupt, for which the embedder may need a system call, costs costInterrupt.
type budget struct {
	left int
	// strict is set if the budget must never be overdrawn. The worker's is not strict: it only says
	// when to let others in.
	strict bool
}

// A store's share of 256 covers two calls of hosts. It also covers what drivers ask for most: a
// TLBI and a SYNC with an interrupt, with two hosts. What comes before commands costs the worker at
// most costAhead each time, or with enough streams or hosts the worker would do nothing else.
const (
	budgetWorker  = 4096
	costAhead     = budgetWorker / 4
	costHost      = 110
	costInterrupt = 31
)

// spend takes cost from the budget. If that is too much, it uses the budget up and returns false. A
// cost of 0 is never too much.
func (b *budget) spend(cost int) bool {
	if cost != 0 && b.left <= 0 || b.strict && cost > b.left {
		b.left = 0
		return false
	}
	b.left -= cost
	return true
}

func (b *budget) spent() bool { return b.left <= 0 }

// work says whether a store may have made work for the engine, and who does it.
type work uint8

const (
	noWork work = iota
	// handOver: the vCPU does what costs nothing, and the worker the rest. Such a store never makes
	// its vCPU wait for a host or for commands.
	handOver
	// takePart: the vCPU has asked for commands to be executed, and does a bounded part of that
	// itself, so that short runs need no hand-over.
	takePart
)

// shares are what a store does of the work itself.
var shares = [...]budget{handOver: {left: 0, strict: true}, takePart: {left: 256, strict: true}}

// kick makes the engine look at the registers: on this goroutine as far as the store's share goes,
// then on the worker.
func (d *Device) kick(w work) {
	d.pending.Store(true)
	if d.engine.TryLock() {
		d.turn(shares[w])
		d.engine.Unlock()
	}
	// Work is left if the share was used up. It may also be left if another goroutine holds the
	// lock: that one may have looked at the registers before this store.
	if d.pending.Load() {
		d.wakeWorker()
	}
}

// request makes the worker look for work.
func (d *Device) request() {
	d.pending.Store(true)
	d.wakeWorker()
}

func (d *Device) wakeWorker() {
	select {
	case d.wake <- struct{}{}:
	default: // it has been woken already
	}
}

// work is the worker: it is the engine for whatever no vCPU's turn got done.
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

// turn does what there is to do, within the budget. If work is left, pending is set when turn
// returns.
func (d *Device) turn(b budget) {
	d.pending.Store(false)
	if d.closed {
		return
	}
	// Retries that a turn did not finish come first: what a guest asks for next is not executed
	// before what it asked for earlier, whoever is the engine.
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

// control applies what the guest has written to CR0 and GBPA, and acknowledges it. It returns false
// if the budget does not cover that.
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
