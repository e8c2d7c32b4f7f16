package vsmmu

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// A failure of a host has one of three consequences. If a host refuses a stage, the stream aborts.
// If a host fails to invalidate, all its streams that translate abort, until a resync succeeds. If
// a host fails to make a stream abort, the device enters Service Failure Mode.

// settle handles the result of a change of a stream's stage.
func (d *Device) settle(st *trap.Stream, outcome trap.Outcome, err error) {
	switch outcome {
	case trap.Refused:
		d.stats.refused.Add(1)
		d.report("stream aborts because its host refused the stage", err)
		if st.Stage().Cause == smmuv3.CBadSTE {
			// The host's hardware may abort without an event, so the device reports the event once.
			d.deliver(smmuv3.NewEvent(smmuv3.CBadSTE, st.ID))
		}
	case trap.Lost:
		d.fail(err)
	}
}

// abort makes a stream abort if it translates. why is the failure of its host.
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

// noDMA reports whether an error means that the host or the stream is closed or gone. Such a host
// or stream does no more DMA.
func noDMA(err error) bool { return errors.Is(err, bridge.ErrClosed) || errors.Is(err, bridge.ErrGone) }

// endpointFailed handles an ATC_INV that timed out. The host has executed all other commands. The
// next SYNC reports the timeout to the guest.
func (d *Device) endpointFailed(err error) {
	d.hostFailed("ATC_INV timed out at an endpoint", err)
	d.atcTimeout = true
}

// resync invalidates everything that a host may hold for this guest, after an error that leaves
// open which commands the host has executed. If that fails, the host is out of sync: its streams
// that translate abort, until a resync at a later SYNC succeeds.
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

// invalidateEverything invalidates everything that a host may hold for this guest: the
// translations, each stream's Context Descriptors, and the caches of endpoints with ATS. That
// covers the batch. It continues after an endpoint's timeout. Any other error takes precedence over
// the timeout.
func (d *Device) invalidateEverything(h *host) (err error) {
	h.discard()
	flush := func() {
		if err == nil || errors.Is(err, bridge.ErrATCTimeout) {
			if e := h.invalidate(); e != nil {
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

// fail enters Service Failure Mode (§12.3): DMA may still use stale configuration, and the host has
// failed to make a stream abort. fail makes every stream abort. It detaches a stream from its host
// if the host fails to do that. The queues stop until the device is reset.
func (d *Device) fail(why error) {
	if d.failed.Swap(true) {
		return
	}
	d.failure = fmt.Errorf("%w: %w", ErrServiceFailure, why)
	d.stats.serviceFailures.Add(1)
	d.report("service failure mode: host failed to make a stream abort", d.failure)
	for _, st := range d.streams.All() {
		if outcome, err := d.streams.Abort(st, why); outcome == trap.Lost {
			d.report(
				"stream detached from its host",
				streamError("abort", st, errors.Join(err, hostOf(st).count(CallDetach, d.streams.DetachHost(st)))),
			)
		}
	}
	d.terminateAllStalled() // the guest's commands are no longer executed
	d.activate(smmuv3.GERROR_SFM_ERR)
}
