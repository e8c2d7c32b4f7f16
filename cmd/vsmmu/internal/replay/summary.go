// Package replay shows transcripts: as figures, as text, and as a trace for a viewer.
package replay

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Debian is the transcript of a boot of Debian's kernel with DMA by two disks.
//
//go:embed debian.vsmmu
var Debian []byte

// Summary describes a transcript and the result of its replay. Lists have at most maxListed
// elements; LeftOut counts the others.
type Summary struct {
	Title    string    `json:"title"`
	Recorded time.Time `json:"recorded,omitzero"`
	Seconds  float64   `json:"seconds"` // the length of the recording
	Entries  int       `json:"entries"`
	Cut      string    `json:"cut,omitempty"` // why the recording ends before the device

	// Restored means that the replay saved the device at every step and restored it into a new one.
	Restored bool `json:"restored,omitempty"`
	// OK means that the device behaved the same. Otherwise Difference describes the first
	// difference.
	OK            bool              `json:"ok"`
	Difference    string            `json:"difference,omitempty"`
	ReplaySeconds float64           `json:"replay_seconds"`
	IDs           []ID              `json:"id_registers"`
	Streams       []Stream          `json:"streams"`
	Loads         uint64            `json:"register_loads"`
	Stores        uint64            `json:"register_stores"`
	Commands      map[string]uint64 `json:"commands"` // by opcode
	Invalidations uint64            `json:"invalidate_calls"`
	Events        map[string]uint64 `json:"events"`     // by type, and by outcome if not recorded
	Interrupts    map[string]uint64 `json:"interrupts"` // by line; "MSI" for messages
	Faults        []Fault           `json:"faults"`     // the first maxFaults
	Stages        []Stage           `json:"stages"`

	LeftOut LeftOut `json:"left_out,omitzero"`
}

// LeftOut counts the elements that a Summary omits.
type LeftOut struct {
	StreamEntries uint64 `json:"stream_entries,omitempty"` // entries of streams after the first maxListed
	Binds         uint64 `json:"binds,omitempty"`          // of all streams
	Stages        uint64 `json:"stages,omitempty"`
}

// ID is a field of the ID registers.
type ID struct {
	asjson.ID
	Meaning string `json:"meaning,omitempty"` // of the guest's value
}

// Stream is the history of one StreamID.
type Stream struct {
	StreamID uint32 `json:"stream_id"`
	Name     string `json:"name,omitempty"`
	Binds    []Bind `json:"binds"`
	// DMA counts the accesses of the endpoint and their bytes.
	DMA struct {
		Reads   uint64 `json:"reads"`
		Writes  uint64 `json:"writes"`
		Read    uint64 `json:"bytes_read"`
		Written uint64 `json:"bytes_written"`
		Refused uint64 `json:"refused"`
	} `json:"dma"`
}

// Bind is one Bind of a guest stage.
type Bind struct {
	Seconds float64 `json:"at"`
	asjson.Bind
}

// Fault is an event that the device reports to the guest.
type Fault struct {
	Seconds  float64   `json:"at"`
	Stage    string    `json:"while,omitempty"`
	StreamID uint32    `json:"stream_id"`
	Name     string    `json:"name"`
	Text     string    `json:"text"`
	Fate     string    `json:"fate"`
	Words    [4]uint64 `json:"words"`
}

// Stage is the start of a stage of the guest's boot.
type Stage struct {
	Seconds float64 `json:"at"`
	Name    string  `json:"name"`
}

const (
	// maxFaults bounds the events that are listed one by one.
	maxFaults = 16
	// maxListed bounds the streams, the binds of all streams, and the stages that are listed.
	maxListed = 4096
)

// Run replays a transcript and returns its summary. If restored is set, a new device is restored at
// every step. Run fails if ctx ends, or if no device can replay the transcript.
func Run(ctx context.Context, t *transcript.Transcript, restored bool) (*Summary, error) {
	replay := transcript.Replay
	if restored {
		replay = transcript.ReplayRestored
	}
	began := time.Now()
	err := replay(ctx, t)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if errors.Is(err, transcript.ErrCorrupt) || errors.Is(err, vsmmu.ErrConfig) {
		return nil, err
	}
	s := Summarize(t)
	s.Restored = restored
	s.ReplaySeconds = time.Since(began).Seconds()
	var d *transcript.Difference
	switch s.OK = err == nil; {
	case errors.As(err, &d):
		s.Difference = d.String()
	case err != nil:
		s.Difference = err.Error()
	}
	return s, nil
}

// Summarize returns the summary of a transcript, without a replay.
func Summarize(t *transcript.Transcript) *Summary {
	s := &Summary{
		Title: t.Title, Recorded: t.Recorded, Seconds: t.Lasted().Seconds(), Entries: len(t.Entries), Cut: t.Cut,
		Commands: map[string]uint64{}, Events: map[string]uint64{}, Interrupts: map[string]uint64{}, IDs: ids(t.Header),
	}
	streams := map[smmuv3.StreamID]int{}
	var other Stream
	stream := func(sid smmuv3.StreamID) *Stream {
		i, ok := streams[sid]
		if !ok {
			if i = len(s.Streams); i == maxListed {
				s.LeftOut.StreamEntries++
				return &other
			}
			streams[sid] = i
			s.Streams = append(s.Streams, Stream{StreamID: uint32(sid), Name: t.Streams[sid], Binds: []Bind{}})
		}
		return &s.Streams[i]
	}
	binds := 0
	stage := ""
	for _, e := range t.Entries {
		at := e.At.Seconds()
		switch b := e.Body.(type) {
		case *transcript.Load:
			s.Loads++
		case *transcript.Store:
			s.Stores++
		case *transcript.Command:
			name := b.Command.Opcode().String()
			if b.Code != smmuv3.CERROR_NONE {
				name += " (" + b.Code.String() + ")"
			}
			s.Commands[name]++
		case *transcript.HostAttach:
			stream(b.StreamID)
		case *transcript.HostBind:
			to := stream(b.StreamID)
			if to == &other || binds == maxListed {
				s.LeftOut.Binds++
				break
			}
			var err error
			if b.Err != nil {
				err = b.Err
			}
			binds++
			to.Binds = append(to.Binds, Bind{at, asjson.BindOf(b.Stage, err)})
		case *transcript.HostInvalidate:
			s.Invalidations++
		case *transcript.Pulse:
			s.Interrupts[b.Line.String()]++
		case *transcript.MSI:
			s.Interrupts["MSI"]++
		case *transcript.DMA:
			stream(b.StreamID).count(b)
		case *transcript.Event:
			name := b.Event.Type().String()
			if b.Fate != vsmmu.Recorded {
				name += " (" + b.Fate.String() + ")"
			}
			s.Events[name]++
			if len(s.Faults) < maxFaults {
				s.Faults = append(s.Faults, Fault{
					at, stage, uint32(b.Event.StreamID()), b.Event.Type().String(),
					b.Event.String() + ": " + b.Event.Type().Words(), b.Fate.String(), b.Event,
				})
			}
		case *transcript.Note:
			stage = b.Text
			if len(s.Stages) == maxListed {
				s.LeftOut.Stages++
				break
			}
			s.Stages = append(s.Stages, Stage{at, b.Text})
		}
	}
	return s
}

func (s *Stream) count(b *transcript.DMA) {
	switch d := &s.DMA; {
	case b.Err != nil:
		d.Refused++
	case b.Write:
		d.Writes++
		d.Written += b.Len
	default:
		d.Reads++
		d.Read += b.Len
	}
}

// ids explains the ID registers. It adds the host's values and the reasons if the transcript has
// the inputs of the derivation.
func ids(h transcript.Header) []ID {
	var derived idr.Result
	err := errors.New("no hosts in the transcript")
	if len(h.Hosts) > 0 {
		derived, err = idr.Derive(idr.Policy(h.Policy), h.Hosts...)
	}
	all := make([]ID, 0, len(smmuv3.IDFields()))
	for i, f := range smmuv3.IDFields() {
		v := h.IDs.Get(f)
		id := ID{asjson.ID{Register: f.Register(), Field: f.String(), Guest: v}, f.Meaning(v)}
		if err == nil {
			d := derived.Fields[i]
			id.Host, id.Reason = d.Host, d.Reason
			if d.Guest != v {
				id.Reason += fmt.Sprintf("; the current rules give %d", d.Guest)
			}
		}
		all = append(all, id)
	}
	return all
}
