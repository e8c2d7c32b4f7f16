package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/transcript"
)

// traceEvent is an event of the Trace Event Format. Times are in microseconds.
type traceEvent struct {
	Name  string         `json:"name"`
	Phase string         `json:"ph"`
	At    int64          `json:"ts"`
	Dur   int64          `json:"dur,omitempty"`
	PID   int            `json:"pid"`
	TID   int            `json:"tid"`
	Scope string         `json:"s,omitempty"`
	Args  map[string]any `json:"args,omitempty"`
}

// Phases of the format.
const (
	phaseSpan     = "X"
	phaseInstant  = "i"
	phaseCounter  = "C"
	phaseMetadata = "M"
)

// The rows. The first maxListed streams have one each from rowStreams on; all others share one.
const (
	rowBoot = iota + 1
	rowCommands
	rowEvents
	rowHost
	rowInterrupts
	rowOthers
	rowStreams
)

// counterEvery is the least time between two values of a stream's DMA counter.
const counterEvery = 10 * time.Millisecond

// chromeHead starts every trace.
const chromeHead = `{"displayTimeUnit":"ms","traceEvents":[`

// IsChrome reports whether a file that starts with head is a trace that Chrome wrote.
func IsChrome(head []byte) bool { return bytes.HasPrefix(head, []byte(chromeHead)) }

// tracer turns entries into events.
type tracer struct {
	t       *transcript.Transcript
	out     *bufio.Writer
	n       int
	err     error
	rows    map[smmuv3.StreamID]int // at most maxListed
	others  bool                    // rowOthers has its name
	stages  map[smmuv3.StreamID]*span
	stage   *span         // of the boot
	command time.Duration // the start of the current command
	moved   map[smmuv3.StreamID]*moved
}

type span struct {
	name  string
	since time.Duration
	args  map[string]any
}

type moved struct {
	read, written uint64
	shown         time.Duration // the time of the last counter value
}

// Chrome writes a transcript as a trace for ui.perfetto.dev and chrome://tracing. It has a row for
// the stages of the boot, the command queue, the event queue, the calls of hosts, the interrupts,
// and each stream with the stages that were bound.
func Chrome(w io.Writer, t *transcript.Transcript) error { return newTracer(w, t).all() }

func newTracer(w io.Writer, t *transcript.Transcript) *tracer {
	return &tracer{
		t: t, out: bufio.NewWriter(w), rows: map[smmuv3.StreamID]int{},
		stages: map[smmuv3.StreamID]*span{}, moved: map[smmuv3.StreamID]*moved{},
	}
}

func (c *tracer) all() error {
	c.write(chromeHead)
	c.meta("process_name", 0, map[string]any{"name": "vsmmu: " + c.t.Title})
	for row, name := range map[int]string{
		rowBoot: "the guest", rowCommands: "command queue", rowEvents: "event queue",
		rowHost: "host calls", rowInterrupts: "interrupts",
	} {
		c.row(row, name)
	}
	for _, e := range c.t.Entries {
		c.entry(e)
	}
	end := c.t.Lasted()
	c.close(rowBoot, c.stage, end)
	for sid, s := range c.stages {
		c.close(c.stream(sid), s, end)
	}
	c.write("\n]}\n")
	if c.err == nil {
		c.err = c.out.Flush()
	}
	return c.err
}

func (c *tracer) entry(e transcript.Entry) {
	switch b := e.Body.(type) {
	case *transcript.Note:
		c.close(rowBoot, c.stage, e.At)
		c.stage = &span{name: b.Text, since: e.At}
	case *transcript.MemRead:
		if b.Command {
			c.command = e.At
		}
	case *transcript.Command:
		c.span(rowCommands, b.Command.Opcode().String(), c.command, e.At-c.command,
			map[string]any{"command": b.String()})
		c.command = e.At
	case *transcript.Event:
		c.instant(rowEvents, b.Event.Type().String(), e.At, map[string]any{"event": b.String()})
	case *transcript.HostBind:
		c.span(rowHost, "bind", e.At-b.Took, b.Took, map[string]any{"call": b.String()})
		if b.Err == nil {
			row := c.stream(b.StreamID)
			if row == rowOthers {
				return
			}
			c.close(row, c.stages[b.StreamID], e.At)
			c.stages[b.StreamID] = &span{short(b.Stage), e.At, map[string]any{"stage": b.Stage.String()}}
		}
	case *transcript.HostAttach:
		c.stream(b.StreamID)
		c.span(rowHost, "attach", e.At-b.Took, b.Took, map[string]any{"call": b.String()})
	case *transcript.HostDetach:
		c.span(rowHost, "detach", e.At-b.Took, b.Took, map[string]any{"call": b.String()})
		c.close(c.stream(b.StreamID), c.stages[b.StreamID], e.At)
		delete(c.stages, b.StreamID)
	case *transcript.HostInvalidate:
		c.span(rowHost, "invalidate", e.At-b.Took, b.Took,
			map[string]any{"commands": len(b.Commands), "call": b.String()})
	case *transcript.Pulse:
		c.instant(rowInterrupts, b.Line.String(), e.At, nil)
	case *transcript.MSI:
		c.instant(rowInterrupts, "MSI", e.At, map[string]any{"message": b.String()})
	case *transcript.DMA:
		c.dma(e.At, b)
	}
}

func (c *tracer) dma(at time.Duration, b *transcript.DMA) {
	if b.Err != nil {
		c.instant(c.stream(b.StreamID), "DMA refused", at, map[string]any{"dma": b.String()})
		return
	}
	if c.stream(b.StreamID) == rowOthers {
		return
	}
	m := c.moved[b.StreamID]
	if m == nil {
		m = &moved{shown: -counterEvery}
		c.moved[b.StreamID] = m
	}
	if b.Write {
		m.written += b.Len
	} else {
		m.read += b.Len
	}
	if at-m.shown >= counterEvery {
		m.shown = at
		c.event(traceEvent{Name: "DMA of " + c.name(b.StreamID), Phase: phaseCounter, At: at.Microseconds(),
			Args: map[string]any{"bytes read": m.read, "bytes written": m.written}})
	}
}

// short returns a stage in two words.
func short(g bridge.GuestStage) string {
	if g.Disabled {
		return g.Disposition.String() + " (SMMU disabled)"
	}
	return g.Disposition.String()
}

func (c *tracer) name(sid smmuv3.StreamID) string {
	if n := c.t.Streams[sid]; n != "" {
		return fmt.Sprintf("stream %v (%s)", sid, n)
	}
	return fmt.Sprintf("stream %v", sid)
}

// stream returns the row of a stream.
func (c *tracer) stream(sid smmuv3.StreamID) int {
	row, ok := c.rows[sid]
	switch {
	case ok:
		return row
	case len(c.rows) == maxListed:
		if !c.others {
			c.others = true
			c.row(rowOthers, "other streams")
		}
		return rowOthers
	}
	row = rowStreams + len(c.rows)
	c.rows[sid] = row
	c.row(row, c.name(sid))
	return row
}

func (c *tracer) row(row int, name string) {
	c.meta("thread_name", row, map[string]any{"name": name})
	c.meta("thread_sort_index", row, map[string]any{"sort_index": row})
}

func (c *tracer) meta(name string, row int, args map[string]any) {
	c.event(traceEvent{Name: name, Phase: phaseMetadata, TID: row, Args: args})
}

func (c *tracer) close(row int, s *span, at time.Duration) {
	if s != nil {
		c.span(row, s.name, s.since, at-s.since, s.args)
	}
}

func (c *tracer) span(row int, name string, at, lasts time.Duration, args map[string]any) {
	c.event(traceEvent{
		Name: name, Phase: phaseSpan, At: at.Microseconds(), Dur: max(1, lasts.Microseconds()), TID: row, Args: args,
	})
}

func (c *tracer) instant(row int, name string, at time.Duration, args map[string]any) {
	c.event(traceEvent{Name: name, Phase: phaseInstant, At: at.Microseconds(), TID: row, Scope: "t", Args: args})
}

func (c *tracer) event(e traceEvent) {
	e.PID = 1
	b, err := json.Marshal(e)
	if err != nil && c.err == nil {
		c.err = err
	}
	if c.n++; c.n > 1 {
		c.write(",")
	}
	c.write("\n" + string(b))
}

func (c *tracer) write(s string) {
	if _, err := c.out.WriteString(s); err != nil && c.err == nil {
		c.err = err
	}
}
