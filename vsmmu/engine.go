package vsmmu

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// The engine is everything the device does in consequence of a store: taking
// on a new CR0 or GBPA, consuming commands. One goroutine at a time is the
// engine, the one that holds d.engine. What there is to do is never handed
// over: it stands in the registers, as the difference between CR0 and CR0ACK,
// between PROD and CONS, and whoever becomes the engine finds it there.

// budget is what one turn of the engine may cost, in units of about one cheap
// command: an invalidation or a prefetch costs 1, whatever may wait for the host
// costs costHost on top of that, and an interrupt, for which the embedder may need
// a system call, costInterrupt.
type budget struct {
	left int
	// strict budgets are never overdrawn. The worker's is not strict, and only
	// says when to let others in.
	strict bool
}

// The costs are such that a store's share of 256 has room for two calls of hosts, and for
// what drivers ask for most: a TLBI and a SYNC with an interrupt, where there are two hosts.
// What comes before commands each time costs the worker no more than costAhead, or with
// enough streams or hosts it would be all that the worker ever does.
const (
	budgetWorker  = 4096
	costAhead     = budgetWorker / 4
	costHost      = 110
	costInterrupt = 31
)

// spend takes cost from the budget. If that is too much, the budget is used up
// instead and spend reports false. What costs nothing is never too much.
func (b *budget) spend(cost int) bool {
	if cost != 0 && b.left <= 0 || b.strict && cost > b.left {
		b.left = 0
		return false
	}
	b.left -= cost
	return true
}

func (b *budget) spent() bool { return b.left <= 0 }

// work says whether a store may have made some for the engine, and who does it.
type work uint8

const (
	noWork work = iota
	// handOver: the vCPU does what costs nothing, and the worker the rest. No such store
	// keeps its vCPU waiting for a host, or with commands.
	handOver
	// takePart: the vCPU has asked for commands to be carried out, and does a bounded
	// part of that itself, so that short runs need no hand-over.
	takePart
)

// shares are what a store does of the work itself.
var shares = [...]budget{handOver: {left: 0, strict: true}, takePart: {left: 256, strict: true}}

// kick has the engine look at the registers, on this goroutine as far as its share
// goes, on the worker from there on.
func (d *Device) kick(w work) {
	d.pending.Store(true)
	if d.engine.TryLock() {
		d.turn(shares[w])
		d.engine.Unlock()
	}
	// Work is left if the budget was used up, or if another holds the lock, who
	// may have looked at the registers before the store that this kick is for.
	if d.pending.Load() {
		d.wakeWorker()
	}
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

// locked runs f as the engine, on behalf of the embedder.
func (d *Device) locked(f func() error) error {
	d.engine.Lock()
	defer d.engine.Unlock()
	return f()
}

// turn does what there is to do, within the budget. If anything is left,
// pending is set when it returns.
func (d *Device) turn(b budget) {
	d.pending.Store(false)
	if d.closed {
		return
	}
	// One that was cut is gone on with: what a guest asks for next is not carried out
	// before what it has asked for, whoever is the engine.
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

// control takes on what the guest has asked for in CR0 and GBPA, and
// acknowledges it. It reports false if the budget did not allow that.
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
		_ = d.configure(enabled) // which is reported
		if was && !enabled {
			d.endAllStalled()
		}
	}
	if cr0&^ack&smmuv3.CR0_CMDQEN != 0 {
		d.cmdq = d.queueAt(wCMDQBase, smmuv3.CommandSize, smmuv3.CMDQS)
	}
	d.setEventQueue(cr0&smmuv3.CR0_EVENTQEN != 0)
	d.setPRIQueue(enabled && cr0&smmuv3.CR0_PRIQEN != 0)

	d.regMu.Lock()
	defer d.regMu.Unlock()
	d.regs.set(wCR0ACK, cr0)
	if update {
		d.regs.set(wGBPA, uint32(d.gbpa))
	}
	return true
}

// configure has every stream follow the registers. The error is of the streams that
// abort instead.
func (d *Device) configure(enabled bool) (err error) {
	d.streams.SetRegs(d.trapRegs(enabled))
	for _, st := range d.streams.All() {
		_, failed := d.refresh(st)
		err = errors.Join(err, failed)
	}
	d.tellWatch()
	return err
}

// trapRegs is what the registers say to streams.
func (d *Device) trapRegs(enabled bool) trap.Regs {
	r := trap.Regs{Enabled: enabled, GBPA: d.gbpa}
	if enabled {
		r.RecInvSID = d.regs.get(wCR2)&smmuv3.CR2_RECINVSID != 0
		r.Table = d.streamTable()
	}
	return r
}

// streamTable is where the registers have the stream table.
func (d *Device) streamTable() smmuv3.StreamTable {
	return smmuv3.NewStreamTable(d.regs.get64(wSTRTABBase), d.regs.get(wSTRTABCfg), *d.ids)
}

// refresh moves a stream to where its configuration says, and deals with hosts
// that fail. It reports whether the stream did already what it has to, or why it does
// not now. In Service Failure Mode nothing is bound, and on a suspect host nothing that
// translates: makeGood comes back to its streams.
func (d *Device) refresh(st *trap.Stream) (kept bool, err error) {
	if d.failed.Load() {
		return false, nil
	}
	h, used, hadATS := hostOf(st), usesATS(st), st.HasUsedATS()
	if used && h.atc {
		d.flushHost(h) // while the endpoint answers
	}
	outcome, err := d.streams.Refresh(st, !h.suspect)
	err = streamError("bind", st, err)
	d.settle(st, outcome, err)
	if outcome == trap.Moved && !used && usesATS(st) && hadATS {
		// What the guest has invalidated meanwhile the endpoint may still hold.
		d.dropATC(st)
	}
	return outcome == trap.Kept, err
}

// abort has a stream abort that translates, because of its host.
func (d *Device) abort(st *trap.Stream, why error) {
	if d.failed.Load() || !st.Stage().Disposition.Translates() {
		return
	}
	outcome, err := d.streams.Abort(st, why)
	d.settle(st, outcome, streamError("bind", st, err))
}

// streamError adds the operation and the stream to an error of package trap.
func streamError(op string, st *trap.Stream, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s stream %v: %w", op, st.ID, err)
}

func (d *Device) settle(st *trap.Stream, outcome trap.Outcome, err error) {
	switch outcome {
	case trap.Refused:
		d.stats.refused.Add(1)
		d.report("a stream aborts because of its host", err)
		if st.Stage().Cause == smmuv3.CBadSTE {
			// A host whose hardware aborts in silence will not say it.
			d.deliver(smmuv3.NewEvent(smmuv3.CBadSTE, st.ID))
		}
	case trap.Lost:
		d.fail(err)
	}
}

// tellWatch tells the embedder where the streams' configuration lies, if that
// has changed.
func (d *Device) tellWatch() {
	if d.watch == nil {
		return
	}
	now := d.streams.Watched()
	if !slices.Equal(now, d.watched) {
		d.watched = now
		d.watch(now)
	}
}

// GuestWrote says that the guest has written to the range: for VMMs that
// write-protect what Config.Watch names, and would not wait for the guest's
// CFGI command. Streams whose configuration lies there follow it at once.
func (d *Device) GuestWrote(r guestmem.Range) {
	_ = d.locked(func() error {
		if d.closed {
			return nil
		}
		for _, st := range d.streams.Written(r) {
			d.refresh(st)
		}
		d.tellWatch()
		return nil
	})
}

// fail enters Service Failure Mode (§12.3): DMA that the guest has withdrawn may
// go on, and the host takes no abort. Every stream that still can is made to
// abort, the others are cut off, and the queues are not touched again until the
// device is reset.
func (d *Device) fail(why error) {
	if d.failed.Swap(true) {
		return
	}
	d.failure = fmt.Errorf("%w: %w", ErrServiceFailure, why)
	d.stats.serviceFailures.Add(1)
	d.report("the host takes neither a stage nor an abort", d.failure)
	for _, st := range d.streams.All() {
		if outcome, err := d.streams.Abort(st, why); outcome == trap.Lost {
			d.report("stream detached from its host", streamError("abort", st, errors.Join(err, d.streams.DetachHost(st))))
		}
	}
	d.endAllStalled() // the guest cannot any more
	d.activate(smmuv3.GERROR_SFM_ERR)
}
