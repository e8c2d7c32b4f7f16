package trap

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Outcome is how a look at a stream's configuration ended.
type Outcome uint8

const (
	// Kept: the stream does already what it has to.
	Kept Outcome = iota
	// Moved: the host has taken a new stage.
	Moved
	// Refused: the host did not take the stage, and the stream aborts.
	Refused
	// Lost: the host took neither the stage nor an abort. DMA may be using what
	// the guest has withdrawn.
	Lost
)

// ErrNotAttached is matched by the error of Detach for a StreamID that no endpoint has.
var ErrNotAttached = errors.New("StreamID not attached")

var errStale = errors.New("the host may hold stale translations")

// BindFunc is told of each call of Stream.Bind, with its answer.
type BindFunc func(smmuv3.StreamID, bridge.GuestStage, error)

// Streams are the streams of one SMMU: what each has to do, and what it does.
// One goroutine at a time may use it.
type Streams struct {
	ids    smmuv3.IDRegs
	regs   Regs
	reader *Reader
	entry  Entry // looked up last; here because it would be an allocation on the stack
	bound  BindFunc
	sorted []*Stream // by StreamID
}

// Stream is an attached stream.
type Stream struct {
	ID       smmuv3.StreamID
	Host     bridge.Host
	endpoint bridge.Endpoint
	bridge   bridge.Stream     // nil once it has been cut off
	stage    bridge.GuestStage // what the host does
	usedATS  bool
	walked   path

	// What Decide made of an entry, for as long as the registers stay. Guests
	// have an STE looked at again far more often than they change it.
	judged  bool
	entry   Entry
	verdict bridge.GuestStage
}

// Stage is what the stream does.
func (s *Stream) Stage() bridge.GuestStage { return s.stage }

// HasUsedATS reports whether the guest has ever allowed the endpoint to ask for
// translations, which the endpoint may still hold.
func (s *Stream) HasUsedATS() bool { return s.usedATS }

// NewStreams returns an empty set. Each call of a host's Bind is told to bound,
// which may be nil.
func NewStreams(mem guestmem.Memory, ids smmuv3.IDRegs, bound BindFunc) *Streams {
	if bound == nil {
		bound = func(smmuv3.StreamID, bridge.GuestStage, error) {}
	}
	return &Streams{ids: ids, reader: NewReader(mem), bound: bound}
}

// search is where a stream is in sorted, or would be. Every CFGI command comes by
// here, which is why it is not slices.BinarySearchFunc: that costs three times as
// much.
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

// All returns the attached streams, ordered by StreamID. The slice is valid
// until the next Attach or Detach.
func (s *Streams) All() []*Stream { return s.sorted }

// Range returns the attached streams from first to last, both included. What
// it costs depends on the number of streams, not on the range. The slice is
// valid until the next Attach or Detach.
func (s *Streams) Range(first, last smmuv3.StreamID) []*Stream {
	lo, _ := s.search(first)
	hi, found := s.search(last)
	if found {
		hi++
	}
	return s.sorted[lo:max(lo, hi)]
}

// Attach takes an endpoint in, which aborts until it is refreshed. The error is the
// host's, or matches bridge.ErrInUse if the StreamID is attached already.
func (s *Streams) Attach(sid smmuv3.StreamID, host bridge.Host, ep bridge.Endpoint) (*Stream, error) {
	i, found := s.search(sid)
	if found {
		return nil, fmt.Errorf("trap: attach of stream %v: the StreamID is %w", sid, bridge.ErrInUse)
	}
	b, err := host.Attach(sid, ep)
	if err != nil {
		return nil, fmt.Errorf("trap: attach of stream %v: %w", sid, err)
	}
	st := &Stream{ID: sid, Host: host, endpoint: ep, bridge: b}
	s.sorted = slices.Insert(s.sorted, i, st)
	return st, nil
}

// Detach gives a stream up.
func (s *Streams) Detach(sid smmuv3.StreamID) error {
	i, found := s.search(sid)
	if !found {
		return fmt.Errorf("%w: %v", ErrNotAttached, sid)
	}
	st := s.sorted[i]
	s.sorted = slices.Delete(s.sorted, i, i+1)
	if st.bridge == nil {
		return nil
	}
	if err := st.bridge.Close(); err != nil {
		return fmt.Errorf("trap: detach of stream %v: %w", sid, err)
	}
	return nil
}

// SetRegs says what the registers are from now on. The streams follow when
// they are refreshed.
func (s *Streams) SetRegs(r Regs) {
	s.regs = r
	for _, st := range s.sorted {
		st.judged = false
	}
}

// Refresh reads the stream's configuration anew and moves the stream to where
// it says. The stages replace each other in one call of Bind, and where nothing
// has changed there is no call. When the host fails, the stream is made to
// abort: with C_BAD_STE as its cause, since to the guest a stage that the SMMU
// does not take is a bad STE. So it is made to abort if it would translate while
// translate is false, as its host may hold translations that the guest withdrew; a
// stream that bypasses makes no use of them.
func (s *Streams) Refresh(st *Stream, translate bool) (Outcome, error) {
	s.entry, st.walked = Entry{}, path{}
	if s.regs.Enabled {
		s.reader.lookup(&s.regs.Table, st.ID, &s.entry, &st.walked)
	}
	if !st.judged || s.entry != st.entry {
		st.judged, st.entry, st.verdict = true, s.entry, Decide(&s.regs, &s.entry, &s.ids)
	}
	want := st.verdict
	switch {
	case want.Disposition.Translates() && !translate:
		return s.Abort(st, fmt.Errorf("trap: stream %v: %w", st.ID, errStale))
	case want == st.stage:
		return Kept, nil
	}
	err := s.bind(st, want)
	if transient(err) {
		err = s.bind(st, want)
	}
	if err == nil {
		return Moved, nil
	}
	return s.Abort(st, fmt.Errorf("trap: bind of stream %v to %v: %w", st.ID, want, err))
}

// Abort makes a stream abort because its host cannot be relied on, or will not
// do what the guest's configuration says; why is returned.
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
	return Lost, errors.Join(why, fmt.Errorf("trap: abort of stream %v: %w", st.ID, err))
}

// Cut takes a stream from its host: what is left when the host takes no abort.
// The stream stays attached, and aborts until Mend. If it cannot be cut either,
// it does what it did.
func (s *Streams) Cut(st *Stream) error {
	if err := st.bridge.Close(); err != nil && !noDMA(err) {
		return fmt.Errorf("trap: cut of stream %v: %w", st.ID, err)
	}
	st.bridge, st.stage = nil, bridge.GuestStage{}
	return nil
}

// Mend attaches a stream again that has been cut off. It aborts until it is
// refreshed. Streams that have not been cut off are left alone.
func (s *Streams) Mend(st *Stream) error {
	if st.bridge != nil {
		return nil
	}
	b, err := st.Host.Attach(st.ID, st.endpoint)
	if err != nil {
		return fmt.Errorf("trap: mending stream %v: %w", st.ID, err)
	}
	st.bridge = b
	return nil
}

func (s *Streams) bind(st *Stream, g bridge.GuestStage) error {
	if st.bridge == nil {
		return bridge.ErrClosed
	}
	err := st.bridge.Bind(g)
	s.bound(st.ID, g, err)
	if err == nil {
		st.stage = g
		st.usedATS = st.usedATS || g.EATS != smmuv3.EATSNone
	}
	return err
}

// noDMA reports whether an error says that the stream does no more DMA to the
// guest's memory.
func noDMA(err error) bool {
	return errors.Is(err, bridge.ErrGone) || errors.Is(err, bridge.ErrClosed)
}

// transient reports whether a second try may end otherwise.
func transient(err error) bool {
	return err != nil && !errors.Is(err, bridge.ErrRejected) && !noDMA(err)
}
