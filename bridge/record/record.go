// Package record provides a [bridge.Host] without hardware. It records every call that a device
// makes, follows the rules of package bridge, and fails on request. VMMs use it to test how they
// embed the device.
//
// A test makes a host with New, passes it to the device, and checks Calls afterwards. FailWith
// makes any call fail. Emit and Request act as the endpoints: they report faults and page requests.
package record

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Op is a method of bridge.Host, bridge.Stream or an optional interface of a host.
type Op string

// The methods that a Host records.
const (
	Capabilities Op = "capabilities"
	Events       Op = "events"
	SetGuestIDs  Op = "set guest IDs"
	Attach       Op = "attach"
	Bind         Op = "bind"
	CloseStream  Op = "close stream"
	Invalidate   Op = "invalidate"
	CloseHost    Op = "close host"

	PageRequests     Op = "page requests"
	Respond          Op = "respond"
	Resume           Op = "resume"
	TerminateStalled Op = "terminate stalled"
	SetSTERefetch    Op = "STE refetch"
)

// ops are all methods that a Host records.
var ops = []Op{
	Capabilities, Events, SetGuestIDs, Attach, Bind, CloseStream, Invalidate, CloseHost,
	PageRequests, Respond, Resume, TerminateStalled, SetSTERefetch,
}

// claims reports whether the method is one that Claims returns. Calls returns the others.
func (o Op) claims() bool {
	switch o {
	case Capabilities, Events, SetGuestIDs, PageRequests, SetSTERefetch:
		return true
	}
	return false
}

// Call is a call of the host.
type Call struct {
	Op       Op
	StreamID smmuv3.StreamID     // of calls that concern one stream
	Endpoint bridge.Endpoint     // of Attach
	Stage    bridge.GuestStage   // of Bind
	Commands []smmuv3.Command    // of Invalidate
	Response bridge.PageResponse // of Respond
	STAG     uint16              // of Resume
	How      bridge.Resumption   // of Resume
	GuestIDs smmuv3.IDRegs       // of SetGuestIDs
	Release  bool                // of Events, PageRequests and SetSTERefetch: the function is nil
	Err      error               // the result
}

// String returns the call on one line.
func (c Call) String() string {
	var s strings.Builder
	s.WriteString(string(c.Op))
	switch c.Op {
	case Events, PageRequests, SetSTERefetch:
		if c.Release {
			s.WriteString(" nil")
		}
	case Attach, CloseStream, TerminateStalled:
		fmt.Fprintf(&s, " %v", c.StreamID)
	case Respond:
		fmt.Fprintf(&s, " %v", c.Response)
	case Resume:
		fmt.Fprintf(&s, " %v STAG %#x: %v", c.StreamID, c.STAG, c.How)
	case Bind:
		fmt.Fprintf(&s, " %v: %v", c.StreamID, c.Stage)
	case Invalidate:
		for _, cmd := range c.Commands {
			fmt.Fprintf(&s, " %v", cmd.Opcode())
		}
	}
	if c.Err != nil {
		fmt.Fprintf(&s, " -> %v", c.Err)
	}
	return s.String()
}

// Host is a fake bridge.Host. It also implements bridge.PageRequester and bridge.Staller. Its
// methods may be called from any goroutine.
type Host struct {
	mu       sync.Mutex // guards all following fields
	caps     bridge.Capabilities
	guest    *smmuv3.IDRegs // nil before SetGuestIDs
	calls    []Call
	claims   []Call
	fail     func(Call) error
	sink     func(smmuv3.Event)
	requests func(smmuv3.PageRequest)
	streams  map[smmuv3.StreamID]*stream
	stalled  map[stall]bool
	closed   bool
}

var (
	_ bridge.Host          = (*Host)(nil)
	_ bridge.PageRequester = (*Host)(nil)
	_ bridge.Staller       = (*Host)(nil)
)

// stall identifies a stalled transaction.
type stall struct {
	sid  smmuv3.StreamID
	stag uint16
}

// New returns a host with these capabilities.
func New(caps bridge.Capabilities) *Host {
	return &Host{caps: caps, streams: map[smmuv3.StreamID]*stream{}, stalled: map[stall]bool{}}
}

// FailWith sets a function that decides whether a call fails. The host calls f before it executes
// any call. If f returns an error, the call returns it and has no other effect. A nil f removes the
// function. f must not call the host. SetSTERefetch cannot fail.
func (h *Host) FailWith(f func(Call) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = f
}

// FailOp makes all calls of one method fail with err, as FailWith does. It panics if there is no
// such method, since a test would then fail no call.
func (h *Host) FailOp(op Op, err error) {
	if !slices.Contains(ops, op) {
		panic(fmt.Sprintf("record: fail %q: no such method (use a constant such as record.Bind)", op))
	}
	h.FailWith(func(c Call) error {
		if c.Op == op {
			return err
		}
		return nil
	})
}

// Calls returns the calls so far that concern streams. Claims returns the others.
func (h *Host) Calls() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.calls)
}

// Claims returns the calls so far that claim the host: Capabilities, Events, SetGuestIDs,
// PageRequests, and SetSTERefetch of a Refetcher.
func (h *Host) Claims() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.claims)
}

// Forget returns Calls and drops them.
func (h *Host) Forget() []Call {
	h.mu.Lock()
	defer h.mu.Unlock()
	calls := h.calls
	h.calls = nil
	return calls
}

// Stage returns the stage of an attached stream. ok is false if the stream is not attached.
func (h *Host) Stage(sid smmuv3.StreamID) (stage bridge.GuestStage, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.streams[sid]; s != nil {
		return s.stage, true
	}
	return bridge.GuestStage{}, false
}

// Claimed reports whether the host has a sink for events, which means that it belongs to a device.
func (h *Host) Claimed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sink != nil
}

// GuestIDs returns the ID registers that the guest reads: those of the last SetGuestIDs, or the
// Capabilities.
func (h *Host) GuestIDs() smmuv3.IDRegs {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.guest == nil {
		return h.caps.IDs
	}
	return *h.guest
}

// Emit reports an event to the device, as a fault of an endpoint's DMA does. With Stall set the
// transaction stalls. Without a sink the event is dropped.
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

// Request sends a page request to the device, as an endpoint does. Without a sink it is dropped.
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

// do records a call, and calls f unless FailWith makes the call fail.
func (h *Host) do(c Call, f func() error) error {
	if h == nil || h.streams == nil {
		return errNotMade
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail != nil {
		c.Err = h.fail(c)
	}
	if c.Err == nil {
		c.Err = f()
	}
	if c.Op.claims() {
		h.claims = append(h.claims, c)
	} else {
		h.calls = append(h.calls, c)
	}
	return c.Err
}

// errNotMade is the error of a nil or zero Host.
var errNotMade = errors.New("host was not made by record.New")

// Errors of a closed host and a closed stream. They match bridge.ErrClosed.
var (
	errHostClosed   = fmt.Errorf("host %w", bridge.ErrClosed)
	errStreamClosed = fmt.Errorf("stream %w", bridge.ErrClosed)
)

// Capabilities implements bridge.Host.
func (h *Host) Capabilities() (caps bridge.Capabilities, err error) {
	err = h.do(Call{Op: Capabilities}, func() error {
		caps = h.caps
		return nil
	})
	return caps, err
}

// Attach implements bridge.Host. It accepts any endpoint but nil.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	s := &stream{host: h, sid: sid, endpoint: ep}
	err := h.do(Call{Op: Attach, StreamID: sid, Endpoint: ep}, func() error {
		switch {
		case h.closed:
			return errHostClosed
		case ep == nil:
			return bridge.ErrEndpoint
		case h.streams[sid] != nil:
			return fmt.Errorf("StreamID %w", bridge.ErrInUse)
		}
		for _, other := range h.streams {
			if same(other.endpoint, ep) {
				return fmt.Errorf("endpoint %w", bridge.ErrInUse)
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

// same reports whether two endpoints are equal. Endpoints that cannot be compared are never equal.
func same(a, b bridge.Endpoint) bool {
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// Invalidate implements bridge.Host.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	return h.do(Call{Op: Invalidate, Commands: slices.Clone(cmds)}, h.open)
}

// Events implements bridge.Host.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	return h.do(Call{Op: Events, Release: sink == nil}, func() error {
		switch {
		case sink == nil:
			h.guest = nil
		case h.closed:
			return errHostClosed
		case h.sink != nil:
			return fmt.Errorf("host %w", bridge.ErrInUse)
		}
		h.sink = sink
		return nil
	})
}

// SetGuestIDs implements bridge.Host.
func (h *Host) SetGuestIDs(ids smmuv3.IDRegs) error {
	return h.do(Call{Op: SetGuestIDs, GuestIDs: ids}, func() error {
		if h.closed {
			return errHostClosed
		}
		h.guest = &ids
		return nil
	})
}

// PageRequests implements bridge.PageRequester.
func (h *Host) PageRequests(sink func(smmuv3.PageRequest)) error {
	return h.do(Call{Op: PageRequests, Release: sink == nil}, func() error {
		switch {
		case sink == nil:
		case h.closed:
			return errHostClosed
		case h.requests != nil:
			return fmt.Errorf("page requests of the host %w", bridge.ErrInUse)
		}
		h.requests = sink
		return nil
	})
}

// Respond implements bridge.PageRequester.
func (h *Host) Respond(r bridge.PageResponse) error {
	return h.do(Call{Op: Respond, StreamID: r.StreamID, Response: r}, h.open)
}

// Resume implements bridge.Staller.
func (h *Host) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	return h.do(Call{Op: Resume, StreamID: sid, STAG: stag, How: how}, func() error {
		delete(h.stalled, stall{sid, stag})
		return h.open()
	})
}

// TerminateStalled implements bridge.Staller.
func (h *Host) TerminateStalled(sid smmuv3.StreamID) error {
	return h.do(Call{Op: TerminateStalled, StreamID: sid}, func() error {
		h.terminate(sid)
		return h.open()
	})
}

// terminate ends the stalled transactions of a stream. h.mu is held.
func (h *Host) terminate(sid smmuv3.StreamID) {
	maps.DeleteFunc(h.stalled, func(s stall, _ bool) bool { return s.sid == sid })
}

// open fails if the host is closed. h.mu is held.
func (h *Host) open() error {
	if h.closed {
		return errHostClosed
	}
	return nil
}

// Close implements bridge.Host.
func (h *Host) Close() error {
	err := h.do(Call{Op: CloseHost}, func() error {
		if h.closed {
			return errHostClosed
		}
		h.closed = true
		clear(h.streams)
		clear(h.stalled)
		return nil
	})
	if errors.Is(err, errHostClosed) || errors.Is(err, errNotMade) {
		return fmt.Errorf("record: close: %w", err)
	}
	return err
}

type stream struct {
	host     *Host
	sid      smmuv3.StreamID
	endpoint bridge.Endpoint
	stage    bridge.GuestStage
}

// open fails if the stream, or its host, is closed. The host's mu is held.
func (s *stream) open() error {
	if s.host.streams[s.sid] != s {
		return errStreamClosed
	}
	return nil
}

func (s *stream) Bind(g bridge.GuestStage) error {
	return s.host.do(Call{Op: Bind, StreamID: s.sid, Stage: g}, func() error {
		if err := s.open(); err != nil {
			return err
		}
		s.stage = g
		return nil
	})
}

func (s *stream) Close() error {
	return s.host.do(Call{Op: CloseStream, StreamID: s.sid}, func() error {
		if err := s.open(); err != nil {
			return err
		}
		delete(s.host.streams, s.sid)
		s.host.terminate(s.sid)
		return nil
	})
}
