// Package record is a bridge.Host without hardware: it remembers every call
// that a device makes, keeps the rules that package bridge states, and fails
// when it is told to. VMMs use it to test how they embed the device; the device
// itself is tested on it.
package record

import (
	"fmt"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Op names a method of bridge.Host or bridge.Stream.
type Op string

const (
	Attach      Op = "attach"
	Bind        Op = "bind"
	CloseStream Op = "close stream"
	Invalidate  Op = "invalidate"
	CloseHost   Op = "close host"
)

// Call is a call that was made.
type Call struct {
	Op       Op
	StreamID smmuv3.StreamID   // of Attach, Bind and CloseStream
	Endpoint bridge.Endpoint   // of Attach
	Stage    bridge.GuestStage // of Bind
	Commands []smmuv3.Command  // of Invalidate
	Err      error             // what it returned
}

// String is the call on one line.
func (c Call) String() string {
	s := string(c.Op)
	switch c.Op {
	case Attach, CloseStream:
		s += " " + c.StreamID.String()
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

// Host is the fake. Its methods may be called from any goroutine.
type Host struct {
	mu      sync.Mutex
	caps    bridge.Capabilities
	calls   []Call
	fail    func(Call) error
	sink    func(smmuv3.Event)
	streams map[smmuv3.StreamID]*stream
	closed  bool
}

// New returns a host with these capabilities.
func New(caps bridge.Capabilities) *Host {
	return &Host{caps: caps, streams: map[smmuv3.StreamID]*stream{}}
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

// Emit sends an event to the device, as a fault of an endpoint would be.
func (h *Host) Emit(ev smmuv3.Event) {
	h.mu.Lock()
	sink := h.sink
	h.mu.Unlock()
	if sink != nil {
		sink(ev)
	}
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
	return h.do(Call{Op: Invalidate, Commands: slices.Clone(cmds)}, func() error {
		if h.closed {
			return bridge.ErrClosed
		}
		return nil
	})
}

// Events implements bridge.Host.
func (h *Host) Events(sink func(smmuv3.Event)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sink = sink
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
		return nil
	})
}
