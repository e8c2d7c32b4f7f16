package trap

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Outcome is the result of a Refresh, Restore or Abort.
type Outcome uint8

const (
	// Kept means that the stream was already bound to its stage.
	Kept Outcome = iota
	// Moved means that the host bound a new stage.
	Moved
	// Refused means that the host did not bind the stage, and the stream aborts.
	Refused
	// Lost means that the host bound neither the stage nor an abort. DMA may use stale
	// configuration.
	Lost
)

var errSIDInUse = fmt.Errorf("StreamID %w", bridge.ErrInUse)

var errStale = errors.New("host may hold stale translations")

// BindFunc is called after each call of Stream.Bind, with its result.
type BindFunc func(*Stream, bridge.GuestStage, error)

// Streams is the set of attached streams of one SMMU. One goroutine at a time may use it.
type Streams struct {
	ids    smmuv3.IDRegs
	regs   Regs
	reader *Reader
	bound  BindFunc
	sorted []*Stream // by StreamID
}

// Stream is an attached stream.
type Stream struct {
	ID       smmuv3.StreamID
	Host     bridge.Host
	endpoint bridge.Endpoint
	bridge   bridge.Stream // nil once detached from its host
	usedATS  bool

	// verdict is Decide's result for entry, if judged is set. SetRegs clears judged. settled is set
	// if the stream is bound to the verdict. Both help, since guests invalidate an STE far more
	// often than they change it.
	judged, settled bool
	walked          path
	entry           Entry
	verdict         bridge.GuestStage
	stage           bridge.GuestStage // bound on the host
}

// Stage returns the stage that the stream is bound to.
func (s *Stream) Stage() bridge.GuestStage { return s.stage }

// EATS returns the EATS of the stage that the stream is bound to.
func (s *Stream) EATS() smmuv3.EATS { return s.stage.EATS }

// HasUsedATS reports whether the guest has ever enabled ATS for the stream. The endpoint may still
// cache translations.
func (s *Stream) HasUsedATS() bool { return s.usedATS }

// NewStreams returns an empty set. bound may be nil.
func NewStreams(mem guestmem.Memory, ids smmuv3.IDRegs, bound BindFunc) *Streams {
	if bound == nil {
		bound = func(*Stream, bridge.GuestStage, error) {}
	}
	return &Streams{ids: ids, reader: NewReader(mem), bound: bound}
}

// search returns the index of a stream in sorted, or the index at which to insert it. Every CFGI
// command calls search. It is faster than slices.BinarySearchFunc.
func (s *Streams) search(sid smmuv3.StreamID) (i int, found bool) {
	lo, hi := 0, len(s.sorted)
	for lo < hi {
		mid := int(uint(lo+hi) >> 1)
		if s.sorted[mid].ID < sid {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, lo < len(s.sorted) && s.sorted[lo].ID == sid
}

// Get returns an attached stream, or nil.
func (s *Streams) Get(sid smmuv3.StreamID) *Stream {
	if i, ok := s.search(sid); ok {
		return s.sorted[i]
	}
	return nil
}

// All returns the attached streams, ordered by StreamID. The slice is valid until the next Attach
// or Detach.
func (s *Streams) All() []*Stream { return s.sorted }

// Range returns the attached streams from first to last, both included. Its cost depends on the
// number of streams, not on the range. The slice is valid until the next Attach or Detach.
func (s *Streams) Range(first, last smmuv3.StreamID) []*Stream {
	lo, found := s.search(first)
	hi := lo
	if last != first {
		hi, found = s.search(last)
	}
	if found {
		hi++
	}
	return s.sorted[lo:max(lo, hi)]
}

// Attach attaches an endpoint to a host and adds its stream, which aborts until Refresh. The error
// is the host's, or matches bridge.ErrInUse if the StreamID is attached already.
func (s *Streams) Attach(sid smmuv3.StreamID, host bridge.Host, ep bridge.Endpoint) (*Stream, error) {
	i, found := s.search(sid)
	if found {
		return nil, errSIDInUse
	}
	b, err := host.Attach(sid, ep)
	if err != nil {
		return nil, err
	}
	st := &Stream{ID: sid, Host: host, endpoint: ep, bridge: b}
	s.sorted = slices.Insert(s.sorted, i, st)
	return st, nil
}

// Detach removes an attached stream, and detaches it from its host. It removes the stream even if
// the host fails.
func (s *Streams) Detach(st *Stream) error {
	if i, found := s.search(st.ID); found && s.sorted[i] == st {
		s.sorted = slices.Delete(s.sorted, i, i+1)
	}
	if st.bridge == nil {
		return nil
	}
	return st.bridge.Close()
}

// SetRegs replaces the registers. They take effect on a stream with its next Refresh.
func (s *Streams) SetRegs(r Regs) {
	s.regs = r
	for _, st := range s.sorted {
		st.judged = false
	}
}

// Refresh reads the stream's configuration and binds the stream to its stage. One call of Bind
// replaces the earlier stage; there is no call if the stage is the same.
//
// If the host fails, the stream aborts with cause C_BAD_STE: the guest sees an illegal STE. If
// translate is false, a stream that would translate aborts as well: its host may hold stale
// translations. A stream that bypasses does not use them.
func (s *Streams) Refresh(st *Stream, translate bool) (Outcome, error) {
	s.lookup(st)
	if !st.judged || !sameEntry(&s.reader.entry, &st.entry) {
		s.judge(st)
	}
	switch want := &st.verdict; {
	case !translate && want.Disposition.Translates():
		return s.Abort(st, errStale)
	case st.settled:
		return Kept, nil
	case *want == st.stage:
		st.settled = true
		return Kept, nil
	}
	want := st.verdict
	err := s.bind(st, want)
	if transient(err) {
		err = s.bind(st, want)
	}
	if err == nil {
		return Moved, nil
	}
	return s.Abort(st, fmt.Errorf("%v: %w", want, err))
}

// lookup reads the entry of a stream into the reader. It is empty while the SMMU is disabled.
func (s *Streams) lookup(st *Stream) {
	if s.regs.Enabled {
		s.reader.lookup(&s.regs.Table, st.ID, &st.walked)
		return
	}
	s.reader.entry, st.walked = Entry{}, path{}
}

// sameEntry reports whether two entries are equal. It compares words, as the reader has just stored
// them: wider loads would wait for the stores.
func sameEntry(a, b *Entry) bool {
	var diff uint64
	for i := range a.STE {
		diff |= a.STE[i] ^ b.STE[i]
	}
	return diff == 0 && a.Fault == b.Fault && a.FetchAddr == b.FetchAddr
}

// judge decides on the stage for the entry in the reader.
func (s *Streams) judge(st *Stream) {
	st.entry = s.reader.entry
	st.verdict = Decide(&s.regs, &st.entry, &s.ids)
	st.judged, st.settled = true, false
}

// Abort makes a stream abort, because its host failed or may hold stale translations. The returned
// error includes why.
func (s *Streams) Abort(st *Stream, why error) (Outcome, error) {
	abort := bridge.GuestStage{Disabled: true}
	if s.regs.Enabled {
		abort = bridge.GuestStage{Cause: smmuv3.CBadSTE}
	}
	if st.stage == abort {
		return Refused, why
	}
	err := s.bind(st, abort)
	if transient(err) {
		err = s.bind(st, abort)
	}
	if err == nil || st.stage.Disposition == bridge.Abort || noDMA(err) {
		return Refused, why
	}
	return Lost, errors.Join(why, fmt.Errorf("abort: %w", err))
}

// DetachHost detaches a stream from a host that failed to bind an abort. The stream stays in the
// set, and aborts until Reattach. If the host fails, the stream keeps its stage.
func (s *Streams) DetachHost(st *Stream) error {
	if err := st.bridge.Close(); err != nil && !noDMA(err) {
		return fmt.Errorf("detach: %w", err)
	}
	st.bridge, st.stage, st.settled = nil, bridge.GuestStage{}, false
	return nil
}

// Reattach attaches a stream to its host again after DetachHost. The stream aborts until Refresh.
// It has no effect on other streams.
func (s *Streams) Reattach(st *Stream) error {
	if st.bridge != nil {
		return nil
	}
	b, err := st.Host.Attach(st.ID, st.endpoint)
	if err != nil {
		return fmt.Errorf("attach: %w", err)
	}
	st.bridge = b
	return nil
}

func (s *Streams) bind(st *Stream, g bridge.GuestStage) error {
	if st.bridge == nil {
		return bridge.ErrClosed
	}
	err := st.bridge.Bind(g)
	s.bound(st, g, err)
	if err == nil {
		st.stage, st.settled = g, false
		st.usedATS = st.usedATS || g.EATS != smmuv3.EATSNone
	}
	return err
}

// noDMA reports whether an error says that the stream no longer does DMA to guest memory.
func noDMA(err error) bool {
	return errors.Is(err, bridge.ErrGone) || errors.Is(err, bridge.ErrClosed)
}

// transient reports whether a second attempt may succeed.
func transient(err error) bool {
	return err != nil && !errors.Is(err, bridge.ErrRejected) && !noDMA(err)
}
