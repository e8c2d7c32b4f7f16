package vsmmu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// ErrState means that the bytes are not a saved state, or that this device can never be in it.
var ErrState = errors.New("not a state of this device")

// stateError returns an error that matches ErrState.
func stateError(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrState, fmt.Sprintf(format, a...))
}

// Save returns the state of the device: everything that the guest can observe. Restore puts the
// state into a device with the same ID registers. The state matches the contents of the guest's
// memory when Save returns. It takes at most 2 KiB, and 128 bytes for each stream;
// docs/save-format.md describes the encoding.
//
// Save waits for work in progress, and executes the commands that the guest issued before the call:
// at most a full queue. The device keeps running afterwards.
//
// If the VMM has stopped the vCPUs and the endpoints, the device does nothing after Save returns:
// the guest's memory matches the state, and stays so. If they still run, the state may be outdated
// when Save returns.
//
// The state does not include what the hosts hold: translations, stalled transactions, and page
// requests without an answer.
func (d *Device) Save() ([]byte, error) {
	var s state
	err := d.do("Save", func() error {
		d.rest()
		d.save(&s)
		return nil
	})
	if err != nil {
		return nil, opError(err, "save")
	}
	return s.encode(), nil
}

// rest executes all pending work. Pending work in a saved state would be executed twice: by this
// device and by the restored one. The second execution can find memory that the first one changed.
// Linux, for example, lets the MSI of a SYNC overwrite the SYNC in the queue.
//
// A guest that still runs delays rest only briefly. rest ends after the commands that were in the
// queue at its start, or after the same number of turns.
func (d *Device) rest() {
	d.turn(budget{left: budgetWorker}) // it may enable the queue
	from, n := d.waiting()
	for range n + idleTurns { // each of n turns consumes at least one command
		at, left := d.waiting()
		if !d.pending.Load() || left > 0 && uint32(at-from)&uint32(d.cmdq.Mask()) >= n {
			return
		}
		d.turn(budget{left: budgetWorker})
	}
}

// idleTurns is enough turns for the work that comes before commands: refreshes of streams, and
// retries of stalled transactions, a few dozen a turn.
const idleTurns = 16

// save fills in a state. It holds every lock, so that no store of a vCPU, no event and no request
// is half done.
func (d *Device) save(s *state) {
	for _, h := range d.hosts {
		if !h.outOfSync && !d.failed.Load() {
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
	for k := range d.eventq.stalls.reported {
		s.stalled = append(s.stalled, savedStall{uint32(k.sid), k.stag})
	}
	slices.SortFunc(s.stalled, func(a, b savedStall) int {
		return cmp.Or(cmp.Compare(a.StreamID, b.StreamID), cmp.Compare(a.STAG, b.STAG))
	})
	for _, st := range d.streams.All() {
		s.streams = append(s.streams, saveStream(st))
	}
}

func saveStream(st *trap.Stream) savedStream {
	v := st.Save()
	g := v.Stage
	s := savedStream{
		StreamID: uint32(v.ID), Disposition: uint8(g.Disposition),
		Cause: uint8(g.Cause), FetchAddr: uint64(g.FetchAddr),
		Walked: [2]uint64{uint64(v.Walked[0].GPA), uint64(v.Walked[1].GPA)},
	}
	if g.Disposition.Translates() {
		ste := g.STE()
		s.STE = [4]uint64(ste[:4])
	}
	for flag, on := range map[uint16]bool{
		streamDisabled: g.Disabled, streamUsedATS: v.UsedATS, streamOutOfSync: hostOf(st).outOfSync,
		streamL1STD: v.Walked[0].Len != 0, streamSTE: v.Walked[1].Len != 0,
	} {
		if on {
			s.Flags |= flag
		}
	}
	return s
}

// SavedIDs returns the ID registers of the saved device. The Config of the device to restore must
// have the same. Attach then refuses a host that lacks one of their features (see idr.Satisfies).
// An error matches ErrState.
func SavedIDs(state []byte) (smmuv3.IDRegs, error) {
	s, err := decodeState(state)
	if err == nil {
		if err = idr.CheckDevice(s.IDs); err != nil {
			err = fmt.Errorf("%w: %w", ErrState, err)
		}
	}
	if err != nil {
		return smmuv3.IDRegs{}, opError(err, "saved IDs")
	}
	return s.IDs, nil
}

// SavedStreams returns the StreamIDs of the saved device, in ascending order. Restore requires that
// exactly these are attached. An error matches ErrState.
func SavedStreams(state []byte) ([]smmuv3.StreamID, error) {
	s, err := decodeState(state)
	if err != nil {
		return nil, opError(err, "saved streams")
	}
	sids := make([]smmuv3.StreamID, len(s.streams))
	for i, st := range s.streams {
		sids[i] = smmuv3.StreamID(st.StreamID)
	}
	return sids, nil
}

// Restore puts a device into the state that Save returned. The device is in its reset state: it is
// new, or was reset, and no guest has run on it since. It has the ID registers of the saved device
// (see SavedIDs), and the same streams attached. The hosts may differ. The guest's memory is in
// place.
//
// Restore fails with ErrNotReset if the device is not in its reset state, and with ErrState if the
// state does not fit the device. Both leave the device unchanged. Any other error names the streams
// whose stage a host refused: these streams abort, and everything else is restored.
//
// The hosts do not hold the transactions that had stalled before. The guest may still resume them,
// without effect.
func (d *Device) Restore(state []byte) error {
	err := d.do("Restore", func() error {
		s, err := decodeState(state)
		if err != nil {
			return err
		}
		if err := d.check(s); err != nil {
			return err
		}
		if err := d.checkReset(); err != nil {
			return err
		}
		return d.restore(s)
	})
	return opError(err, "restore")
}

// checkReset returns an error that matches ErrNotReset if the device is not in its reset state.
func (d *Device) checkReset() error {
	if d.restored {
		return fmt.Errorf("%w: already restored (call Reset, or restore onto a new device)", ErrNotReset)
	}
	for w, v := range d.reset {
		if now := d.regs.get(word(w)); now != v {
			return fmt.Errorf("%w: %s is %#x (call Reset, or restore onto a new device)",
				ErrNotReset, smmuv3.RegisterName(4*uint64(w)), now)
		}
	}
	return nil
}

func (d *Device) restore(s *state) error {
	d.restored = true
	d.eventq.enable(false)
	d.priq.enable(false)
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
		d.failure = fmt.Errorf("%w: the device was saved in it", ErrServiceFailure)
	}
	d.failed.Store(d.failure != nil)

	// The acknowledged settings are in effect. The worker applies the others.
	ack := values[wCR0ACK]
	enabled := ack&smmuv3.CR0_SMMUEN != 0
	d.cmdq = d.queueAt(wCMDQBase, smmuv3.CommandSize, smmuv3.CMDQS)
	d.eventq.enable(ack&smmuv3.CR0_EVENTQEN != 0)
	d.priq.enable(enabled && ack&smmuv3.CR0_PRIQEN != 0)
	d.eventq.restore(s)

	d.streams.SetRegs(d.trapRegs(enabled))
	var errs []error
	for i := range s.streams {
		saved, _ := restoredStream(&s.streams[i], d.ids)
		errs = append(errs, d.restoreStream(d.streams.Get(saved.ID), saved, s.streams[i].Flags&streamOutOfSync != 0))
	}
	d.notifyWatch()
	d.request()
	return errors.Join(errs...)
}

func (q *eventQueue) restore(s *state) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.last, q.lastAt, q.merge = s.Last, smmuv3.Index(s.LastAt), s.Flags&stateMerge != 0
	q.stalls = newStalls(q.d.ids)
	for _, k := range s.stalled {
		q.stalls.reported[stall{smmuv3.StreamID(k.StreamID), k.STAG}] = false
	}
}

// restoreStream binds the saved stage of a stream. A stream that aborted because its host was out
// of sync gets the stage that its configuration describes: this host holds nothing stale. In
// Service Failure Mode all streams abort, including streams that the old host failed to abort.
func (d *Device) restoreStream(st *trap.Stream, v trap.Saved, outOfSync bool) error {
	if d.failed.Load() {
		v.Stage = bridge.GuestStage{}
	}
	outcome, err := d.streams.Restore(st, v)
	err = streamError("bind", st, err)
	d.settle(st, outcome, err)
	if outOfSync && err == nil {
		_, err = d.refresh(st)
	}
	return err
}

// check returns an error that matches ErrState if the device, with the streams attached to it,
// cannot be in a state.
func (d *Device) check(s *state) error {
	for _, f := range smmuv3.IDFields() {
		if was, is := s.IDs.Get(f), d.ids.Get(f); was != is {
			return stateError("saved %v is %d, and the device has %d", f, was, is)
		}
	}
	if s.IDs != *d.ids {
		return stateError("saved ID registers have reserved bits set")
	}
	for w, v := range s.Regs {
		if fixed := ^d.changing(word(w)); v&fixed != d.reset[w]&fixed {
			return stateError("register at %#x cannot be %#x", 4*w, v)
		}
	}
	switch {
	case s.Regs[wIRQCtrl] != s.Regs[wIRQCtrlAck]:
		return stateError("IRQ_CTRLACK differs from IRQ_CTRL")
	case s.Flags&^stateFlags != 0 || s.GBPA&^uint32(smmuv3.GBPA_Mask&^smmuv3.GBPA_Update) != 0:
		return stateError("flags or GBPA have undefined bits set")
	case len(s.stalled) > d.eventq.stalls.most:
		return stateError("%d stalled transactions (at most %d)", len(s.stalled), d.eventq.stalls.most)
	}
	return d.checkStreams(s.streams)
}

// changing returns the bits of a word that change during the life of a device.
func (d *Device) changing(w word) uint32 {
	switch w {
	case wCR0ACK:
		w = wCR0
	case wIRQCtrlAck:
		w = wIRQCtrl
	case wGERROR:
		w = wGERRORN
	}
	m := d.access[w].parts[0].mask | d.access[w].parts[1].mask
	if w == wCMDQCons {
		m |= smmuv3.CMDQ_CONS_ERR
	}
	return m
}

func (d *Device) checkStreams(saved []savedStream) error {
	for i := range saved {
		s, sid := &saved[i], smmuv3.StreamID(saved[i].StreamID)
		switch {
		case i > 0 && saved[i-1].StreamID >= s.StreamID:
			return stateError("stream %v is out of order", sid)
		case d.streams.Get(sid) == nil:
			return stateError("stream %v is not attached (attach the streams of SavedStreams first)", sid)
		}
		if _, ok := restoredStream(s, d.ids); !ok {
			return stateError("stream %v has an impossible stage", sid)
		}
	}
	all := d.streams.All()
	if len(all) == len(saved) {
		return nil // the same streams: all saved ones are attached
	}
	for _, st := range all {
		if !slices.ContainsFunc(saved, func(s savedStream) bool { return s.StreamID == uint32(st.ID) }) {
			return stateError("stream %v is attached but not saved", st.ID)
		}
	}
	return nil
}

// restoredStream decodes a saved stream. ok is false if no stream can be in that state.
func restoredStream(s *savedStream, ids *smmuv3.IDRegs) (v trap.Saved, ok bool) {
	g := bridge.GuestStage{
		Disposition: bridge.Disposition(s.Disposition), Disabled: s.Flags&streamDisabled != 0,
		Cause: smmuv3.EventType(s.Cause), FetchAddr: guestmem.GPA(s.FetchAddr),
	}
	reported := g.Cause != 0 || g.FetchAddr != 0
	switch g.Disposition {
	case bridge.Abort:
		switch g.Cause {
		case 0, smmuv3.CBadStreamID, smmuv3.FSTEFetch, smmuv3.CBadSTE:
			ok = !(g.Disabled && reported) && (g.FetchAddr == 0 || g.Cause == smmuv3.FSTEFetch)
		}
		ok = ok && s.STE == [4]uint64{}
	case bridge.Bypass:
		ok = !reported && s.STE == [4]uint64{}
	case bridge.Translate, bridge.TranslateS2, bridge.TranslateNested:
		ok = !reported && !g.Disabled
		ste := smmuv3.STE(append(s.STE[:], 0, 0, 0, 0))
		g = trap.StageOf(ste, ids)
		ok = ok && g.Disposition == bridge.Disposition(s.Disposition) && g.STE() == ste
	}
	v = trap.Saved{ID: smmuv3.StreamID(s.StreamID), Stage: g, UsedATS: s.Flags&streamUsedATS != 0}
	for i, walked := range [...]struct {
		flag uint16
		size uint64
	}{{streamL1STD, smmuv3.L1STDSize}, {streamSTE, smmuv3.STESize}} {
		if s.Flags&walked.flag != 0 {
			v.Walked[i] = guestmem.Range{GPA: guestmem.GPA(s.Walked[i]), Len: walked.size}
		}
	}
	return v, ok && s.Flags&^streamFlags == 0
}
