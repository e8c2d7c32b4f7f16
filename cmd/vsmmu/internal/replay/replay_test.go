package replay

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

func debian(t *testing.T) *transcript.Transcript {
	tr, err := transcript.Read(bytes.NewReader(Debian))
	require.NoError(t, err)
	require.True(t, tr.Complete())
	return tr
}

func TestSummaryOfDebian(t *testing.T) {
	assert.LessOrEqual(t, len(Debian), 1<<20)
	s, err := Run(t.Context(), debian(t), false)
	require.NoError(t, err)
	assert.True(t, s.OK, s.Difference)
	require.Len(t, s.Streams, 3)
	for i, want := range []struct {
		sid   uint32
		cdMax uint8
		s1dss string
	}{{0x10, 0, "terminate"}, {0x21, 6, "substream 0"}, {0x32, 0, "terminate"}} {
		st := s.Streams[i]
		assert.Equal(t, want.sid, st.StreamID)
		last := st.Binds[slices.IndexFunc(st.Binds, func(b Bind) bool { return b.Disposition == "translate" })]
		assert.Equal(t, want.cdMax, last.S1CDMax)
		assert.Equal(t, want.s1dss, last.S1DSS)
		assert.Equal(t, "linear", last.S1Fmt)
		assert.EqualValues(t, []uint8{1, 1, 3}, []uint8{last.S1CIR, last.S1COR, last.S1CSH})
		assert.NotZero(t, last.S1ContextPtr)
	}
	for _, st := range s.Streams[:2] {
		assert.GreaterOrEqual(t, st.DMA.Written, uint64(16<<20))
		assert.GreaterOrEqual(t, st.DMA.Read, uint64(16<<20))
		assert.Zero(t, st.DMA.Refused)
	}
	require.Len(t, s.Faults, 1)
	assert.Equal(t, "F_TRANSLATION", s.Faults[0].Name)
	assert.Equal(t, uint64(0x5bad_0000_0000), s.Faults[0].Words[2])
	assert.Contains(t, s.Faults[0].Stage, "an endpoint makes a DMA that the guest never mapped")
	assert.Equal(t, uint64(1), s.Streams[2].DMA.Refused)
	assert.Positive(t, s.Commands["SYNC"])
	assert.Equal(t, map[string]uint64{"F_TRANSLATION": 1}, s.Events)
	assert.Positive(t, s.Interrupts["eventq"])
	for _, id := range s.IDs {
		assert.NotEmpty(t, id.Reason, id.Field)
	}
}

// A transcript that no device can produce is an error, not a difference.
func TestRunRefusesImpossibleTranscripts(t *testing.T) {
	many := &transcript.Transcript{Header: debian(t).Header}
	for i := range uint32(2000) {
		many.Entries = append(many.Entries, transcript.Entry{Body: &transcript.Call{Host: i}})
	}
	for _, restored := range []bool{false, true} {
		_, err := Run(t.Context(), &transcript.Transcript{}, restored)
		require.ErrorIs(t, err, vsmmu.ErrConfig)
		_, err = Run(t.Context(), many, restored)
		require.ErrorIs(t, err, transcript.ErrCorrupt)
	}
}

func TestTextIsPlainOrColoured(t *testing.T) {
	s := Summarize(debian(t))
	s.Difference = "something"
	var plain, coloured bytes.Buffer
	require.NoError(t, s.Text(&plain, 100, false))
	require.NoError(t, s.Text(&coloured, 100, true))
	assert.NotContains(t, plain.String(), "\x1b")
	assert.Contains(t, plain.String(), "NOT OK: something")
	assert.Contains(t, coloured.String(), "\x1b[31mNOT OK: something\x1b[0m")
}

// A long cell continues on the next line, in its column.
func TestTextIsWrappedAtItsWidth(t *testing.T) {
	s := Summarize(debian(t))
	words := func(width int) []string {
		var text bytes.Buffer
		require.NoError(t, s.Text(&text, width, false))
		for line := range strings.Lines(text.String()) {
			assert.LessOrEqual(t, utf8.RuneCountInString(strings.TrimSuffix(line, "\n")), width, line)
		}
		return strings.Fields(text.String())
	}
	assert.Equal(t, words(1000), words(80))

	var text bytes.Buffer
	printer{Buffer: &text, width: 20}.table([][]string{{"a", "one two three four"}, {"bcd", "unbreakable-and-long"}, {""}})
	assert.Equal(t, "  a    one two three\n       four\n  bcd  unbreakable-and-long\n  \n", text.String())
}

// Text from a transcript contains no escape sequences and no line breaks.
func TestTextIsPrintable(t *testing.T) {
	const evil = "evil\x1b]0;title\a\nOK: replayed"
	s := Summarize(&transcript.Transcript{
		Header: transcript.Header{Title: evil, Streams: map[smmuv3.StreamID]string{7: evil}},
		Entries: []transcript.Entry{
			{Body: &transcript.Note{Text: evil}},
			{Body: &transcript.HostBind{StreamID: 7, Err: &transcript.Error{Text: evil}}},
			{Body: &transcript.Event{}},
		},
		Cut: evil,
	})
	s.Difference = "evil\x1b[2J"
	for _, colour := range []bool{false, true} {
		var text bytes.Buffer
		require.NoError(t, s.Text(&text, 1000, colour))
		assert.NotContains(t, text.String(), "\a")
		assert.NotContains(t, text.String(), "\x1b]")
		assert.NotContains(t, text.String(), "\x1b[2J")
		assert.NotContains(t, text.String(), "\nOK")
		assert.Equal(t, 6, strings.Count(text.String(), "evil"))
	}
}

// Without hosts in the header there are no reasons, and there is no column of host values.
func TestIDsWithoutHostsHaveNoReasons(t *testing.T) {
	tr := &transcript.Transcript{}
	tr.IDs.Set(smmuv3.S1P, 1)
	var text bytes.Buffer
	require.NoError(t, Summarize(tr).Text(&text, 100, false))
	assert.Contains(t, text.String(), "  IDR0  S1P    1      yes\n")
}

// Empty transcripts and entries with few fields have a summary and a trace.
func TestIncompleteEntriesAreShown(t *testing.T) {
	odd := &transcript.Transcript{
		Entries: []transcript.Entry{
			{At: 1, Body: &transcript.HostBind{StreamID: 7, Stage: bridge.GuestStage{Cause: smmuv3.CBadSTE}, Err: &transcript.Error{Text: "no"}}},
			{At: 2, Body: &transcript.HostDetach{StreamID: 8}},
			{At: 2, Body: &transcript.DMA{StreamID: 9, Err: &transcript.Error{Text: "no"}}},
			{At: 3, Body: &transcript.Event{Event: smmuv3.Event{0xee}, Fate: 4}},
			{At: 3, Body: &transcript.Command{Command: smmuv3.Command{0x99}, Code: 9}},
			{At: 3, Body: &transcript.MSI{Addr: 1}},
		},
		Cut: "so",
	}
	for _, tr := range []*transcript.Transcript{{}, odd} {
		var text, trace bytes.Buffer
		require.NoError(t, Summarize(tr).Text(&text, 100, false))
		assert.NotEmpty(t, text.String())
		require.NoError(t, Chrome(&trace, tr))
		assert.True(t, json.Valid(trace.Bytes()))
	}
	assert.Equal(t, map[string]uint64{"event 0xee (aborted)": 1}, Summarize(odd).Events)
}

func TestListsAreBounded(t *testing.T) {
	tr := &transcript.Transcript{}
	for sid := range smmuv3.StreamID(maxListed + 10) {
		for _, b := range []transcript.Body{
			&transcript.Note{Text: "stage"},
			&transcript.HostAttach{StreamID: sid},
			&transcript.HostBind{StreamID: sid, Stage: bridge.GuestStage{Disposition: bridge.Bypass}},
			&transcript.HostBind{StreamID: sid},
			&transcript.DMA{StreamID: sid, Len: 1},
			&transcript.HostDetach{StreamID: sid},
		} {
			tr.Entries = append(tr.Entries, transcript.Entry{Body: b})
		}
	}
	s := Summarize(tr)
	assert.Len(t, s.Streams, maxListed)
	assert.Len(t, s.Stages, maxListed)
	binds := 0
	for _, st := range s.Streams {
		binds += len(st.Binds)
	}
	assert.Equal(t, maxListed, binds)
	assert.Equal(t, LeftOut{StreamEntries: 40, Binds: maxListed + 20, Stages: 10}, s.LeftOut)

	var b bytes.Buffer
	c := newTracer(&b, tr)
	require.NoError(t, c.all())
	assert.True(t, json.Valid(b.Bytes()))
	assert.Len(t, c.rows, maxListed)
	assert.LessOrEqual(t, len(c.moved), maxListed)
	assert.Empty(t, c.stages)
	assert.Equal(t, 1, strings.Count(b.String(), `"other streams"`))
}

// The row of a stream shows the bound stage at any time.
func TestChromeTrace(t *testing.T) {
	tr := debian(t)
	var b bytes.Buffer
	require.NoError(t, Chrome(&b, tr))
	var file struct{ TraceEvents []traceEvent }
	require.NoError(t, json.Unmarshal(b.Bytes(), &file))
	rows := map[string]int{}
	for _, e := range file.TraceEvents {
		if e.Name == "thread_name" {
			rows[e.Args["name"].(string)] = e.TID
		}
	}
	for _, name := range []string{
		"the guest", "command queue", "event queue", "host calls", "interrupts", "stream 0x10 (plain)", "stream 0x21 (pasid)", "stream 0x32 (rogue)",
	} {
		assert.Contains(t, rows, name)
	}
	var names []string
	var end int64
	for _, e := range file.TraceEvents {
		if e.TID != rows["stream 0x10 (plain)"] || e.Phase != phaseSpan {
			continue
		}
		if end != 0 {
			assert.InDelta(t, end, e.At, 1, "no gap before %s", e.Name)
		}
		names, end = append(names, e.Name), e.At+e.Dur
	}
	assert.Equal(t, []string{"abort (SMMU disabled)", "abort", "abort", "translate", "abort (SMMU disabled)"}, names)
}
