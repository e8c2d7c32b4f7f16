package vsmmu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// Save returns all that the guest can observe of the device or has been promised by
// it: to be restored, with the guest's memory as it is now, into a device made of the
// same ID registers. It takes at most 2 KiB, and 128 bytes for each stream; see
// docs/save-format.md.
//
// It waits for what is under way, and carries out what the guest has asked for up to
// the call: of that, all the commands of a full queue. The device goes on afterwards.
//
// A VMM that has stopped the vCPUs and the endpoints finds the device at rest when
// Save returns: the guest's memory fits the state, and goes on to do so. One that has
// not gets the state of a moment that is past.
//
// What the hosts hold is not saved: neither translations, nor stalled transactions,
// nor page requests that wait for an answer.
func (d *Device) Save() ([]byte, error) {
	var s state
	err := d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		d.rest()
		d.save(&s)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s.encode(), nil
}

// rest does what there is to do. Whatever was left to be done after the cut would be
// done twice: by this device and by the one that is restored, which would find in
// memory that it has been done; the word that a SYNC's MSI has put over the SYNC
// itself, say, as Linux has it do.
//
// A guest that runs meanwhile does not hold it up for long: it ends with the commands
// that were in the queue when it began, or after as many turns.
func (d *Device) rest() {
	d.turn(budget{left: budgetWorker}) // which may be what enables the queue
	from, n := d.waiting()
	for range n + idleTurns { // the others consume at least one command each
		at, left := d.waiting()
		if !d.pending.Load() || left > 0 && uint32(at-from)&uint32(d.cmdq.Mask()) >= n {
			return
		}
		d.turn(budget{left: budgetWorker})
	}
}

// idleTurns are enough for what comes before commands: to look at streams again, and to
// have stalled transactions tried again, a few dozen a turn.
const idleTurns = 16

// save fills a state in, in one cut: with every lock held, so that no store of a
// vCPU, no event and no request is half done.
func (d *Device) save(s *state) {
	for _, h := range d.hosts {
		if !h.suspect && !d.failed.Load() {
			d.flushHost(h)
		}
	}
	d.regMu.Lock()
	defer d.regMu.Unlock()
	d.eventq.mu.Lock()
	defer d.eventq.mu.Unlock()
	d.priq.mu.Lock()
	defer d.priq.mu.Unlock()
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	s.IDs, s.GBPA = *d.ids, uint32(d.gbpa)
	for w := range s.Regs {
		s.Regs[w] = d.regs.get(word(w))
	}
	s.Last, s.LastAt = d.eventq.last, uint32(d.eventq.lastAt)
	for flag, on := range map[uint32]bool{
		stateFailed: d.failed.Load(), stateRefetch: d.refetch.Load(),
		stateATCTimeout: d.atcTimeout, stateMerge: d.eventq.merge,
	} {
		if on {
			s.Flags |= flag
		}
	}
	for k := range d.eventq.stalls.told {
		s.stalled = append(s.stalled, savedStall{uint32(k.sid), k.stag})
	}
	slices.SortFunc(s.stalled, func(a, b savedStall) int {
		return cmp.Or(cmp.Compare(a.StreamID, b.StreamID), cmp.Compare(a.STAG, b.STAG))
	})
	for _, st := range d.streams.All() {
		s.streams = append(s.streams, saveStream(st))
	}
}

// Restore puts a device into the state that Save returned. It is for a device on
// which no guest has run, with the ID registers of the saved one (see SavedIDs) and
// the same streams attached; the hosts may be others. The guest's memory is in place
// before.
//
// An error that matches ErrState says what does not fit, and nothing has been changed.
// Any other names the streams, by StreamID, that a host did not take as they were:
// everything else has been restored, and these abort.
//
// The guest goes on resuming stalled transactions that are no longer there, which has
// no effect.
func (d *Device) Restore(state []byte) error {
	s, err := decodeState(state)
	if err != nil {
		return err
	}
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		if err := d.check(s); err != nil {
			return err
		}
		return d.restore(s)
	})
}

func (d *Device) restore(s *state) error {
	d.setEventQueue(false)
	d.setPRIQueue(false)
	values := *d.reset
	copy(values[:], s.Regs[:])
	d.putRegisters(&values)
	for w, a := range d.access {
		if a.base != 0 {
			d.trimIndex(word(w), a.base)
		}
	}

	d.gbpa = smmuv3.GBPA(s.GBPA)
	d.atcTimeout = s.Flags&stateATCTimeout != 0
	d.refetch.Store(s.Flags&stateRefetch != 0)
	d.failure = nil
	if s.Flags&stateFailed != 0 {
		d.failure = fmt.Errorf("%w: so it was saved", ErrServiceFailure)
	}
	d.failed.Store(d.failure != nil)

	// What the acknowledgements say is in effect. The rest the worker will find.
	ack := values[wCR0ACK]
	enabled := ack&smmuv3.CR0_SMMUEN != 0
	d.cmdq = d.queueAt(wCMDQBase, smmuv3.CommandSize, smmuv3.CMDQS)
	d.setEventQueue(ack&smmuv3.CR0_EVENTQEN != 0)
	d.setPRIQueue(enabled && ack&smmuv3.CR0_PRIQEN != 0)
	d.restoreEvents(s)

	d.streams.SetRegs(d.trapRegs(enabled))
	var errs []error
	for i := range s.streams {
		saved, _ := s.streams[i].stream(d.ids)
		errs = append(errs, d.restoreStream(d.streams.Get(saved.ID), saved, s.streams[i].Flags&streamSuspect != 0))
	}
	d.tellWatch()
	d.pending.Store(true)
	d.wakeWorker()
	return errors.Join(errs...)
}

func (d *Device) restoreEvents(s *state) {
	q := &d.eventq
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last, q.lastAt, q.merge = s.Last, smmuv3.Index(s.LastAt), s.Flags&stateMerge != 0
	q.stalls = newStalls(d.ids)
	for _, k := range s.stalled {
		q.stalls.told[stall{smmuv3.StreamID(k.StreamID), k.STAG}] = false
	}
}

// restoreStream has a stream do what it did. One that aborted because its host was
// suspect follows its configuration at once: this host owes nothing.
// In Service Failure Mode all abort, whatever the old host could not be kept from.
func (d *Device) restoreStream(st *trap.Stream, v trap.Saved, suspect bool) error {
	if d.failed.Load() {
		v.Stage = bridge.GuestStage{}
	}
	outcome, err := d.streams.Restore(st, v)
	err = streamError("bind", st, err)
	d.settle(st, outcome, err)
	if suspect && err == nil {
		_, err = d.refresh(st)
	}
	return err
}
