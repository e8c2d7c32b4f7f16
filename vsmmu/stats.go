package vsmmu

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// Stats has counts of a device's actions since New, and the state of its hosts and streams. It
// marshals to JSON, so one line publishes it:
//
//	expvar.Publish("smmu", expvar.Func(func() any { return device.Stats() }))
type Stats struct {
	Commands      Counts[smmuv3.Opcode]  `json:"commands"`       // executed, or found illegal
	CommandErrors Counts[smmuv3.CmdqErr] `json:"command_errors"` // that stopped the queue
	Events        Counts[Fate]           `json:"events"`
	PageRequests  Counts[Fate]           `json:"page_requests"`

	// Hosts are those that the device has claimed, in the order of their claims.
	Hosts []HostStats `json:"hosts"`
	// Streams are the attached ones, ordered by StreamID.
	Streams []StreamStats `json:"streams"`

	Invalidations   uint64 `json:"invalidations"`    // calls of Host.Invalidate for the guest's commands
	HostErrors      uint64 `json:"host_errors"`      // failed calls of hosts, except those to bind a stage
	Refused         uint64 `json:"refused"`          // stages that a host refused
	ServiceFailures uint64 `json:"service_failures"` // activations of GERROR.SFM_ERR
	LogDropped      uint64 `json:"log_dropped"`      // log records that the rate limit dropped
}

// HostStats is the part of one host.
type HostStats struct {
	Type      string           `json:"type"`    // the Go type, such as "*soft.Host"
	Streams   int              `json:"streams"` // attached
	OutOfSync bool             `json:"out_of_sync"`
	Commands  uint64           `json:"commands"` // given to Host.Invalidate
	Calls     Counts[HostCall] `json:"calls"`
	Errors    Counts[HostCall] `json:"errors"` // of the calls, those that failed
}

// StreamStats is the state of a stream.
type StreamStats struct {
	StreamID smmuv3.StreamID
	Host     int // an index of Stats.Hosts
	Stage    bridge.GuestStage
}

// MarshalJSON returns the stream with its stage as text.
func (s StreamStats) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		StreamID    uint32 `json:"stream_id"`
		Host        int    `json:"host"`
		Disposition string `json:"disposition"`
		Stage       string `json:"stage"`
	}{uint32(s.StreamID), s.Host, s.Stage.Disposition.String(), s.Stage.String()})
}

// Counts are numbers by kind. In JSON they are an object with the kinds' names.
type Counts[K interface {
	comparable
	fmt.Stringer
}] map[K]uint64

// MarshalJSON implements json.Marshaler.
func (c Counts[K]) MarshalJSON() ([]byte, error) {
	named := make(map[string]uint64, len(c))
	for k, n := range c {
		named[k.String()] = n
	}
	return json.Marshal(named)
}

// Total returns the sum over all kinds.
func (c Counts[K]) Total() (n uint64) {
	for _, v := range c {
		n += v
	}
	return n
}

// HostCall is a method of a host or a stream, as Stats counts them.
type HostCall uint8

// The calls that Stats counts.
const (
	CallAttach HostCall = iota
	CallBind
	CallDetach // Stream.Close
	CallInvalidate
	CallRespond
	CallResume
	CallTerminateStalled

	numHostCalls = iota
)

// String returns the name of the method.
func (c HostCall) String() string {
	names := [numHostCalls]string{
		"attach", "bind", "detach", "invalidate", "respond", "resume", "terminate_stalled",
	}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("HostCall(%d)", uint8(c))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (c HostCall) Format(f fmt.State, verb rune) { verbs.Code(f, verb, c.String(), uint8(c)) }

// hostCounts counts the calls of a host. The engine guards it, except for those of answers to page
// requests, which come on any goroutine.
type hostCounts struct {
	calls, errors             [numHostCalls]uint64
	commands                  uint64
	responses, responseErrors atomic.Uint64
}

// count counts a call of the host and returns its error.
func (h *host) count(call HostCall, err error) error {
	h.counts.calls[call]++
	if err != nil {
		h.counts.errors[call]++
	}
	return err
}

// countResponse counts an answer to a page request, on any goroutine.
func (h *host) countResponse(err error) error {
	h.counts.responses.Add(1)
	if err != nil {
		h.counts.responseErrors.Add(1)
	}
	return err
}

// bound counts and traces a call of Stream.Bind.
func (d *Device) bound(st *trap.Stream, g bridge.GuestStage, err error) {
	_ = hostOf(st).count(CallBind, err)
	if d.trace.Bind != nil {
		d.trace.Bind(st.ID, g, err)
	}
}

// engineCounts counts what the engine does. The engine guards it.
type engineCounts struct {
	commands [1 << 8]uint64 // by Opcode
	stops    [1 << 2]uint64 // by CmdqErr

	invalidations uint64
}

// counters counts what any goroutine does.
type counters struct {
	hostErrors, refused, serviceFailures, logDropped atomic.Uint64
}

// Stats returns the counts. It waits for a host call in progress, as Stage does. It also works on a
// closed device.
func (d *Device) Stats() Stats {
	if d == nil || d.ids == nil {
		return Stats{}
	}
	d.enter("Stats")
	d.engine.Lock()
	defer d.engine.Unlock()
	c := &d.stats
	s := Stats{
		Commands: Counts[smmuv3.Opcode]{}, CommandErrors: Counts[smmuv3.CmdqErr]{},
		Events: Counts[Fate]{}, PageRequests: Counts[Fate]{},
		Invalidations: d.counts.invalidations, HostErrors: c.hostErrors.Load(), Refused: c.refused.Load(),
		ServiceFailures: c.serviceFailures.Load(), LogDropped: c.logDropped.Load(),
	}
	for op, n := range d.counts.commands {
		if n != 0 {
			s.Commands[smmuv3.Opcode(op)] = n
		}
	}
	for _, code := range []smmuv3.CmdqErr{smmuv3.CERROR_ILL, smmuv3.CERROR_ABT, smmuv3.CERROR_ATC_INV_SYNC} {
		s.CommandErrors[code] = d.counts.stops[code]
	}
	d.eventq.count(s.Events)
	d.priq.count(s.PageRequests)
	for _, h := range d.claims {
		s.Hosts = append(s.Hosts, h.stats())
	}
	for _, st := range d.streams.All() {
		s.Streams = append(s.Streams, StreamStats{st.ID, slices.Index(d.claims, hostOf(st)), st.Stage()})
	}
	return s
}

func (h *host) stats() HostStats {
	s := HostStats{
		Type: h.name, Streams: h.streams, OutOfSync: h.outOfSync && h.streams != 0,
		Commands: h.counts.commands, Calls: Counts[HostCall]{}, Errors: Counts[HostCall]{},
	}
	for c := range HostCall(numHostCalls) {
		s.Calls[c], s.Errors[c] = h.counts.calls[c], h.counts.errors[c]
	}
	s.Calls[CallRespond] += h.counts.responses.Load()
	s.Errors[CallRespond] += h.counts.responseErrors.Load()
	return s
}
