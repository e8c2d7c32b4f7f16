// Package record is a bridge.Host without hardware: it remembers every call
// that a device makes, keeps the rules that package bridge states, and fails
// when it is told to. VMMs use it to test how they embed the device; the device
// itself is tested on it.
package record

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Op names a method of bridge.Host or bridge.Stream, or of what a Host may be
// besides.
type Op string

const (
	Attach      Op = "attach"
	Bind        Op = "bind"
	CloseStream Op = "close stream"
	Invalidate  Op = "invalidate"
	CloseHost   Op = "close host"

	Respond          Op = "respond"
	Resume           Op = "resume"
	TerminateStalled Op = "terminate stalled"
)

// Call is a call that was made.
type Call struct {
	Op       Op
	StreamID smmuv3.StreamID     // of all but Invalidate and CloseHost
	Endpoint bridge.Endpoint     // of Attach
	Stage    bridge.GuestStage   // of Bind
	Commands []smmuv3.Command    // of Invalidate
	Response bridge.PageResponse // of Respond
	STAG     uint16              // of Resume
	How      bridge.Resumption   // of Resume
	Err      error               // what it returned
}

// String is the call on one line.
func (c Call) String() string {
	s := string(c.Op)
	switch c.Op {
	case Attach, CloseStream, TerminateStalled:
		s += " " + c.StreamID.String()
	case Respond:
		s += fmt.Sprintf(" %v group %d: %v", c.StreamID, c.Response.PRGIndex, c.Response.Response)
	case Resume:
		s += fmt.Sprintf(" %v STAG %#x: %v", c.StreamID, c.STAG, c.How)
	case Bind:
		s += fmt.Sprintf(" %v: %v", c.StreamID, c.Stage)
	case Invalidate:
		for _, cmd := range c.Commands {
			s += " " + cmd.Opcode().String()
		}
	}
	if c.Err != nil {
		s += fmt.Sprintf(" -> %v", c.Err)
	}
	return s
}

// Host is the fake. It is a bridge.PageRequester and a bridge.Staller too. Its
// methods may be called from any goroutine.
type Host struct {
	mu       sync.Mutex
	caps     bridge.Capabilities
	guest    smmuv3.IDRegs
	calls    []Call
	fail     func(Call) error
	sink     func(smmuv3.Event)
	requests func(smmuv3.PageRequest)
	streams  map[smmuv3.StreamID]*stream
	stalled  map[stall]bool
	closed   bool
}

// stall names a stalled transaction.
type stall struct {
	sid  smmuv3.StreamID
	stag uint16
}

// New returns a host with these capabilities.
func New(caps bridge.Capabilities) *Host {
	return &Host{caps: caps, streams: map[smmuv3.StreamID]*stream{}, stalled: map[stall]bool{}}
}

// FailWith has f asked, before each call is carried out, whether it is to fail:
// if f returns an error the call does so, and has no other effect. nil ends
// that. f must not call the host.
func (h *Host) FailWith(f func(Call) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = f
}

// Calls returns the calls made so far.
func (h *Host) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// Forget empties the record, and returns what was in it.
func (h *Host) Forget() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// Stage is what an attached stream does; ok is false if it is not attached.
func (h *Host) Stage(sid smmuv3.StreamID) (stage bridge.GuestStage, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[sid]; s != nil {
		return s.stage, true
	}
	return bridge.GuestStage{}, false
}

// Emit sends an event to the device, as a fault of an endpoint would be. If it says
// that a transaction stalls, there is one from then on.
func (h *Host) Emit(ev smmuv3.Event) {
	h.mu.Lock()
	if ev.Stall() {
		h.stalled[stall{ev.StreamID(), ev.STAG()}] = true
	}
	sink := h.sink
	h.mu.Unlock()
	if sink != nil {
		sink(ev)
	}
}

// Request sends a page request to the device, as an endpoint would.
func (h *Host) Request(r smmuv3.PageRequest) {
	h.mu.Lock()
	sink := h.requests
	h.mu.Unlock()
	if sink != nil {
		sink(r)
	}
}

// Stalled reports whether a stream has a stalled transaction with this STAG.
func (h *Host) Stalled(sid smmuv3.StreamID, stag uint16) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.stalled[stall{sid, stag}]
}

// do records a call and carries it out, unless it is to fail. h.mu is held.
func (h *Host) do(c Call, f func() error) error {
	if h.fail != nil {
		c.Err = h.fail(c)
	}
	if c.Err == nil {
		c.Err = f()
	}
	h.calls = append(h.calls, c)
	return c.Err
}

// Capabilities implements bridge.Host.
func (h *Host) Capabilities() (bridge.Capabilities, error) { return h.caps, nil }

// Attach implements bridge.Host. Any endpoint but nil will do.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &stream{host: h, sid: sid, endpoint: ep}
	err := h.do(Call{Op: Attach, StreamID: sid, Endpoint: ep}, func() error {
		switch {
		case h.closed:
			return bridge.ErrClosed
		case ep == nil:
			return bridge.ErrEndpoint
		case h.streams[sid] != nil:
			return fmt.Errorf("stream %v: %w", sid, bridge.ErrInUse)
		}
		for _, other := range h.streams {
			if other.endpoint == ep {
				return fmt.Errorf("endpoint %v: %w", ep, bridge.ErrInUse)
			}
		}
		h.streams[sid] = s
		return nil
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Invalidate implements bridge.Host.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: Invalidate, Commands: slices.Clone(cmds)}, h.open)
}

// Events implements bridge.Host.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sink != nil && h.sink != nil {
		return bridge.ErrInUse
	}
	h.sink = sink
	return nil
}

// SetGuestIDs implements bridge.Host.
func (h *Host) SetGuestIDs(ids smmuv3.IDRegs) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guest = ids
	return nil
}

// GuestIDs returns the ID registers that the guest was shown.
func (h *Host) GuestIDs() smmuv3.IDRegs {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guest
}

// PageRequests implements bridge.PageRequester.
func (h *Host) PageRequests(sink func(smmuv3.PageRequest)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sink != nil && h.requests != nil {
		return bridge.ErrInUse
	}
	h.requests = sink
	return nil
}

// Respond implements bridge.PageRequester.
func (h *Host) Respond(r bridge.PageResponse) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: Respond, StreamID: r.StreamID, Response: r}, h.open)
}

// Resume implements bridge.Staller.
func (h *Host) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: Resume, StreamID: sid, STAG: stag, How: how}, func() error {
		delete(h.stalled, stall{sid, stag})
		return h.open()
	})
}

// TerminateStalled implements bridge.Staller.
func (h *Host) TerminateStalled(sid smmuv3.StreamID) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: TerminateStalled, StreamID: sid}, func() error {
		h.terminate(sid)
		return h.open()
	})
}

// terminate ends the stalled transactions of a stream. h.mu is held.
func (h *Host) terminate(sid smmuv3.StreamID) {
	maps.DeleteFunc(h.stalled, func(s stall, _ bool) bool { return s.sid == sid })
}

func (h *Host) open() error {
	if h.closed {
		return bridge.ErrClosed
	}
	return nil
}

// Close implements bridge.Host.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: CloseHost}, func() error {
		if h.closed {
			return bridge.ErrClosed
		}
		h.closed = true
		clear(h.streams)
		clear(h.stalled)
		return nil
	})
}

type stream struct {
	host     *Host
	sid      smmuv3.StreamID
	endpoint bridge.Endpoint
	stage    bridge.GuestStage
}

// open reports whether the stream has been closed, by itself or with its host.
func (s *stream) open() bool { return s.host.streams[s.sid] == s }

func (s *stream) Bind(g bridge.GuestStage) error {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: Bind, StreamID: s.sid, Stage: g}, func() error {
		if !s.open() {
			return bridge.ErrClosed
		}
		s.stage = g
		return nil
	})
}

func (s *stream) Close() error {
	h := s.host
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.do(Call{Op: CloseStream, StreamID: s.sid}, func() error {
		if !s.open() {
			return bridge.ErrClosed
		}
		delete(h.streams, s.sid)
		h.terminate(s.sid)
		return nil
	})
}
