package vm

import (
	"maps"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// maxEvents is the number of events that the report keeps, and of answers to stalls.
const maxEvents = 16

// recorder records what the device does, for the report. A guest cannot make it grow without a
// limit: the names of its counters come from byte values.
type recorder struct {
	endpoints map[smmuv3.StreamID]*endpoint // filled before the device has streams

	mu         sync.Mutex
	commands   map[string]uint64
	tables     report.RemovedTables
	events     map[string]uint64
	interrupts map[string]uint64
	kept       []report.Event
	resumed    []report.Resume
}

func newRecorder() *recorder {
	return &recorder{
		endpoints: map[smmuv3.StreamID]*endpoint{},
		commands:  map[string]uint64{}, events: map[string]uint64{}, interrupts: map[string]uint64{},
	}
}

// trace returns the functions that the device calls.
func (r *recorder) trace() vsmmu.Trace {
	return vsmmu.Trace{
		Command: func(c smmuv3.Command, code smmuv3.CmdqErr) {
			name := c.Opcode().String()
			if code != smmuv3.CERROR_NONE {
				name += " (error)"
			}
			r.count(r.commands, name)
			r.countTable(c)
			if c.Opcode() == smmuv3.OpResume {
				r.resume(c)
			}
		},
		Bind:      func(sid smmuv3.StreamID, s bridge.GuestStage, err error) { r.endpoints[sid].bind(s, err) },
		Event:     r.event,
		Interrupt: func(line vsmmu.Line) { r.count(r.interrupts, line.String()) },
	}
}

// countTable counts TLBIs by address with Leaf = 0.
func (r *recorder) countTable(c smmuv3.Command) {
	switch c.Opcode() {
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA, smmuv3.OpTLBIS2IPA:
	default:
		return
	}
	if c.Leaf() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tables.TLBI++
	if c.TTL() != 0 {
		r.tables.Hinted++
	}
}

// message counts an MSI of an endpoint that the ITS has received.
func (r *recorder) message(sid smmuv3.StreamID) {
	e := r.endpoints[sid]
	e.sent[e.bound.Load()].Add(1)
}

func (r *recorder) event(e smmuv3.Event, fate vsmmu.Fate) {
	if fate != vsmmu.Recorded {
		r.count(r.events, e.Type().String()+" ("+fate.String()+")")
		return
	}
	r.count(r.events, e.Type().String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) < maxEvents {
		r.kept = append(r.kept, report.Event{
			Type: uint8(
				e.Type(),
			),
			Name:     e.Type().String(),
			StreamID: uint32(e.StreamID()),
			Address:  e.InputAddr(),
			Words:    e,
			Stage2:   e.S2(),
			Stall:    e.Stall(),
			STAG:     e.STAG(),
		})
	}
}

func (r *recorder) resume(c smmuv3.Command) {
	how := "RAZ/WI"
	switch {
	case c.ResumeRetry():
		how = "retry"
	case c.ResumeAbort():
		how = report.ResumeAbort
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.resumed) < maxEvents {
		r.resumed = append(r.resumed, report.Resume{StreamID: uint32(c.StreamID()), STAG: c.STAG(), How: how})
	}
}

func (r *recorder) count(counts map[string]uint64, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts[name]++
}

// fill adds what was recorded so far to the report.
func (r *recorder) fill(out *report.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out.Commands, out.Events, out.Interrupts = maps.Clone(r.commands), maps.Clone(r.events), maps.Clone(r.interrupts)
	out.Removed = r.tables
	for _, sid := range slices.Sorted(maps.Keys(r.endpoints)) {
		out.Streams = append(out.Streams, r.endpoints[sid].report())
	}
	out.Fault.Resumes = slices.Clone(r.resumed)
	out.Fault.Device = slices.DeleteFunc(slices.Clone(r.kept), func(e report.Event) bool {
		return e.StreamID != out.Fault.StreamID
	})
}
