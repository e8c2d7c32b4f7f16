package transcript

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestReadRefusesNilReaders(t *testing.T) {
	for _, r := range []io.Reader{nil, (*bytes.Buffer)(nil), (*os.File)(nil)} {
		_, err := Read(r)
		require.ErrorContains(t, err, "transcript: read header: nil reader")
		_, err = NewReader(r)
		require.ErrorContains(t, err, "transcript: read header: nil reader")
	}
}

// An error of the underlying reader is neither a cut nor corruption.
func TestReadReturnsErrorsOfItsReader(t *testing.T) {
	g := newGuest(t, Options{})
	g.attach(0x10)
	g.up()
	packed := g.closed()
	broken := errors.New("input/output error")
	for cut := range packed {
		r := io.MultiReader(bytes.NewReader(packed[:cut]), iotest.ErrReader(broken))
		tr, err := Read(r)
		require.ErrorIs(t, err, broken, "after %d bytes", cut)
		require.NotErrorIs(t, err, ErrCut)
		require.NotErrorIs(t, err, ErrCorrupt)
		require.NotErrorIs(t, err, ErrForeign)
		if tr != nil {
			require.NoError(t, Replay(t.Context(), &Transcript{Header: tr.Header, Entries: tr.Entries, Cut: "test"}))
		}
	}
	_, err := Read(iotest.OneByteReader(bytes.NewReader(packed)))
	require.NoError(t, err)
}

func TestReaderReturnsTheSameErrorAgain(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"end":     {file(t, `{}`, []byte{19, 0, 0}), io.EOF},
		"cut":     {file(t, `{}`), ErrCut},
		"corrupt": {file(t, `{}`, []byte{99, 0}, []byte{19, 0, 0}), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := NewReader(bytes.NewReader(c.file))
			require.NoError(t, err)
			defer r.Close()
			if name == "end" {
				_, err := r.Next()
				require.NoError(t, err)
			}
			for range 3 {
				_, err := r.Next()
				require.ErrorIs(t, err, c.want)
			}
		})
	}
}

// Each layer is named once.
func TestErrorsOfReadingNameEachLayerOnce(t *testing.T) {
	for want, b := range map[string][]byte{
		"transcript: read header: not a transcript of a vsmmu device":                                             []byte("#!/bin/sh"),
		"transcript: read header: newer version of the transcript format: version 3 (this program reads up to 2)": []byte("vsmmu-tr\x03\x00"),
		"transcript: read header: transcript cut off":                                                             []byte("vsmmu-tr\x02\x00"),
		"transcript: read entry 0: corrupt transcript: unknown kind 99":                                           file(t, `{}`, []byte{99, 0}),
		"transcript: read entry 1: corrupt transcript: entry ends early":                                          file(t, `{}`, []byte{18, 0, 0}, []byte{18, 0, 1}),
	} {
		_, err := Read(bytes.NewReader(b))
		require.EqualError(t, err, want)
	}
}

func TestReplayRefusesInvalidTranscripts(t *testing.T) {
	good := Transcript{Header: Header{IDs: guestIDs}}
	with := func(bodies ...Body) *Transcript {
		tr := good
		for _, b := range bodies {
			tr.Entries = append(tr.Entries, Entry{Body: b})
		}
		return &tr
	}
	many := make([]Body, maxHosts+1)
	for i := range many {
		many[i] = &Call{Op: OpAttach, Host: uint32(i)}
	}
	for want, tr := range map[string]*Transcript{
		"transcript: replay: nil transcript":                                       nil,
		"transcript: replay: entry 1: nil body":                                    with(&Note{}, nil),
		"transcript: replay: entry 0: nil body":                                    with((*Load)(nil)),
		"transcript: replay: entry 1024: corrupt transcript: more than 1024 hosts": with(many...),
	} {
		require.EqualError(t, Replay(t.Context(), tr), want)
		require.EqualError(t, ReplayRestored(t.Context(), tr), want)
	}
	var none context.Context
	require.EqualError(t, Replay(none, with()), "transcript: replay: nil context")
	require.ErrorContains(t, Replay(t.Context(), &Transcript{}), "transcript: replay: vsmmu: ")
}

// A transcript of any entries takes at most the memory that Read allows, even if it claims more.
func TestReadBoundsTheMemoryOfEveryKind(t *testing.T) {
	for kind, make := range kinds {
		if make == nil || kind == int(numbers[reflect.TypeFor[*End]()]) {
			continue
		}
		e := make()
		if b, ok := e.(*HostInvalidate); ok {
			b.Commands = slices.Repeat([]smmuv3.Command{{}}, 1000) // of two bytes each
		}
		c := coder{b: []byte{byte(kind), 0}}
		e.question(&c)
		e.answer(&c)
		const entries = 100
		bomb := file(t, `{}`, slices.Repeat([][]byte{c.b}, entries)...)
		tr, err := read(bytes.NewReader(bomb), entries, maxMemory)
		require.NoError(t, err)
		require.Len(t, tr.Entries, entries)

		each := uint64(reflect.TypeFor[Entry]().Size() + reflect.TypeOf(e).Elem().Size())
		if _, ok := e.(*HostInvalidate); ok {
			each += 1000 * smmuv3.CommandSize
		}
		tr, err = read(bytes.NewReader(bomb), entries, 10*each)
		require.ErrorIs(t, err, ErrCorrupt, "%T", e)
		require.ErrorContains(t, err, "bytes of memory")
		assert.Len(t, tr.Entries, 10, "%T", e)
	}
}

// A list that is longer than its frame takes no memory before it is refused.
func TestListsAreNoLongerThanTheirFrame(t *testing.T) {
	frame := append([]byte{12, 0, 0, 0xff, 0xff, 0x03}, make([]byte, 0xffff)...) // 65535 commands in 65535 bytes
	_, err := Read(bytes.NewReader(file(t, `{}`, frame[:maxFrame])))
	require.ErrorIs(t, err, ErrCorrupt)
	c := &coder{b: frame[3:], decode: true}
	var cmds []smmuv3.Command
	c.commands(&cmds)
	require.Error(t, c.err)
	assert.Nil(t, cmds)
}

// Faults of hosts that were never attached take no memory of a replay.
func TestReplayKeepsNothingOfUnknownHosts(t *testing.T) {
	tr := &Transcript{Header: Header{IDs: guestIDs}, Cut: "test"}
	for i := range uint32(1000) {
		tr.Entries = append(tr.Entries, Entry{Body: &Fault{Host: i}}, Entry{Body: &PageFault{Host: i}})
	}
	r := newReplay(tr, stall, false)
	require.NoError(t, r.all(t.Context()))
	assert.Empty(t, r.hosts)
}
