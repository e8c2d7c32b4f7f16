package vsmmu

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// A failure of a host leads to one of three states, each safer than the one before fails: the
// stream aborts; all streams of the host that translate abort, until a resync succeeds; Service
// Failure Mode.

// settle deals with the result of a change of a stream's stage.
func (d *Device) settle(st *trap.Stream, outcome trap.Outcome, err error) {
	switch outcome {
	case trap.Refused:
		d.stats.refused.Add(1)
		d.report("a stream aborts because of its host", err)
		if st.Stage().Cause == smmuv3.CBadSTE {
			// A host whose hardware aborts in silence does not report it.
			d.deliver(smmuv3.NewEvent(smmuv3.CBadSTE, st.ID))
		}
	case trap.Lost:
		d.fail(err)
	}
}

// abort makes a stream abort that translates, because of its host.
func (d *Device) abort(st *trap.Stream, why error) {
	if d.failed.Load() || !st.Stage().Disposition.Translates() {
		return
	}
	outcome, err := d.streams.Abort(st, why)
	d.settle(st, outcome, streamError("bind", st, err))
}

// streamError adds the operation and the stream to an error.
func streamError(op string, st *trap.Stream, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s stream %v: %w", op, st.ID, err)
}

// noDMA reports whether an error says that the host or the stream is closed or gone, and makes no
// more DMA.
func noDMA(err error) bool { return errors.Is(err, bridge.ErrClosed) || errors.Is(err, bridge.ErrGone) }

// endpointFailed handles an ATC_INV that timed out. The host has executed everything else, and the
// next SYNC reports the timeout to the guest.
func (d *Device) endpointFailed(err error) {
	d.hostFailed("an endpoint did not drop its translations", err)
	d.atcTimeout = true
}

// resync makes a host drop all that it may hold of this guest, after an error that leaves open what
// the host has executed. If that fails, the host is out of sync: its streams that translate abort,
// until a resync at a later SYNC succeeds.
func (d *Device) resync(h *host) error {
	err := d.invalidateEverything(h)
	was, late := h.outOfSync, errors.Is(err, bridge.ErrATCTimeout)
	h.outOfSync = err != nil && !late
	if late {
		d.endpointFailed(err)
	}
	if h.outOfSync {
		d.stats.hostErrors.Add(1)
		d.owed = true
		err = fmt.Errorf("host may hold stale translations: %w", err)
		d.streamsOf(h, func(st *trap.Stream) { d.abort(st, err) })
	} else if was {
		d.streamsOf(h, func(st *trap.Stream) { d.refresh(st) })
		d.notifyWatch()
	}
	return err
}

// invalidateEverything invalidates what a host may hold of this guest: the translations, each
// stream's Context Descriptors, and what endpoints with ATS cache. The batch is part of that. An
// endpoint that does not answer does not keep the rest from being invalidated, and any other error
// takes precedence over its error.
func (d *Device) invalidateEverything(h *host) (err error) {
	h.discard()
	flush := func() {
		if err == nil || errors.Is(err, bridge.ErrATCTimeout) {
			if e := h.Invalidate(h.batch[:h.n]); e != nil {
				err = e
			}
		}
		h.n = 0
	}
	add := func(c smmuv3.Command) {
		if h.n == batchMax {
			flush()
		}
		h.batch[h.n] = c
		h.n++
	}
	add(smmuv3.NewTLBINSNHAll())
	d.streamsOf(h, func(st *trap.Stream) {
		if d.ids.Has(smmuv3.S1P) {
			add(smmuv3.NewCfgiCDAll(st.ID))
		}
		if usesATS(st) {
			for _, c := range smmuv3.NewATCInvAll(st.ID) {
				add(c)
			}
		}
	})
	flush()
	return err
}

// fail enters Service Failure Mode (§12.3): DMA may still use stale configuration, and the host
// takes no abort. Every stream that can is made to abort. The others are detached from their host.
// The queues stop until the device is reset.
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
	d.terminateAllStalled() // the guest cannot do so any more
	d.activate(smmuv3.GERROR_SFM_ERR)
}
