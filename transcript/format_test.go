package transcript

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// file returns a transcript with a header and frames. The last frame may be short.
func file(t testing.TB, header string, frames ...[]byte) []byte {
	var plain []byte
	for _, f := range append([][]byte{[]byte(header)}, frames...) {
		plain = append(binary.AppendUvarint(plain, uint64(len(f))), f...)
	}
	return pack(t, plain)
}

func pack(t testing.TB, plain []byte) []byte { return packAs(t, "\x02\x00", plain) }

// packAs returns a transcript of a version with an uncompressed part.
func packAs(t testing.TB, version string, plain []byte) []byte {
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	require.NoError(t, err)
	return z.EncodeAll(plain, []byte("vsmmu-tr"+version))
}

// unpack returns the uncompressed part of a transcript.
func unpack(t testing.TB, packed []byte) []byte {
	plain, err := io.ReadAll(unpacker(t, packed))
	require.NoError(t, err)
	return plain
}

func unpacker(t testing.TB, packed []byte) io.Reader {
	z, err := zstd.NewReader(bytes.NewReader(packed[10:]))
	require.NoError(t, err)
	t.Cleanup(z.Close)
	return z
}

// The wire form of each kind is the one in docs/transcript.md.
func TestWireForm(t *testing.T) {
	for _, c := range []struct {
		wire []byte
		want Body
	}{
		{[]byte{1, 5, 0x20, 4, 0x0d, 1}, &Load{smmuv3.RegCR0, 4, 0x0d, true}},
		{[]byte{2, 5, 0xac, 0x81, 0x04, 4, 3}, &Store{smmuv3.RegEVENTQ_CONS, 4, 3}},
		{[]byte{3, 5, 0, 0x10, 1, 0, 0}, &Call{Op: OpAttach, StreamID: 0x10, Host: 1}},
		{[]byte{3, 5, 3, 0, 0, 0x80, 0x20, 0x40}, &Call{Op: OpGuestWrote, Range: guestmem.Range{GPA: 0x1000, Len: 64}}},
		{[]byte{4, 5, 1, 0x10, 1, 2, 'n', 'o'}, &Return{OpDetach, 0x10, true, "no"}},
		{[]byte{5, 5, 1, 0x10, 2, 3, 4}, &Fault{1, smmuv3.Event{0x10, 2, 3, 4}}},
		{[]byte{6, 5, 0x40, 2, 1, 2, 0xaa, 0xbb, 0}, &MemRead{GPA: 0x40, Len: 2, Command: true, Data: []byte{0xaa, 0xbb}}},
		{[]byte{6, 5, 0x40, 2, 0, 0, 1, 1, 1, 'x'}, &MemRead{GPA: 0x40, Len: 2, Err: &Error{"x", 1}}},
		{[]byte{7, 5, 0x40, 1, 0xaa, 0}, &MemWrite{GPA: 0x40, Data: []byte{0xaa}}},
		{[]byte{8, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0}, &HostCapabilities{IDs: smmuv3.IDRegs{IDR: [6]uint32{1, 2, 3, 4, 5, 6}, IIDR: 7, AIDR: 8}}},
		{[]byte{9, 5, 1, 0x10, 9, 0}, &HostAttach{1, 0x10, 9 * time.Microsecond, nil}},
		{
			[]byte{10, 5, 0x10, 2, 0, 0, 0, 0x40, 5, 2, 1, 1, 2, 3, 1, 1, 7, 9, 0},
			&HostBind{0x10, bridge.GuestStage{
				Disposition: bridge.Translate, S1ContextPtr: 0x40, S1CDMax: 5, S1Fmt: 2, S1DSS: 1,
				S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: 1, S2VMID: 7,
			}, 9 * time.Microsecond, nil},
		},
		{
			[]byte{10, 5, 0x10, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x40, 24, 1, 2, 5, 1, 3, 2, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 9, 0},
			&HostBind{0x10, bridge.GuestStage{
				Disposition: bridge.TranslateS2, S2VMID: 7, S2: smmuv3.Stage2{
					TTB: 0x40, T0SZ: 24, SL0: 1, TG: 2, PS: 5, IR0: 1, OR0: 3, SH0: 2,
					AA64: true, ENDI: true, PTW: true, HA: true, HAFT: true, R: true,
				},
			}, 9 * time.Microsecond, nil},
		},
		{[]byte{11, 5, 0x10, 9, 0}, &HostDetach{0x10, 9 * time.Microsecond, nil}},
		{[]byte{12, 5, 1, 2, 0x30, 0, 0x10, 1, 9, 0}, &HostInvalidate{1, []smmuv3.Command{{0x30, 0}, {0x10, 1}}, 9 * time.Microsecond, nil}},
		{[]byte{13, 5, 2, 0}, &Pulse{vsmmu.LineCmdSync, nil}},
		{[]byte{14, 5, 0x40, 7, 1, 64, 1, 'x'}, &MSI{0x40, 7, &Error{"x", 64}}},
		{[]byte{15, 5, 0x46, 0, 1}, &Command{smmuv3.Command{0x46}, smmuv3.CERROR_ILL}},
		{[]byte{16, 5, 0x10, 2, 3, 4, 3}, &Event{smmuv3.Event{0x10, 2, 3, 4}, vsmmu.Overflowed}},
		{[]byte{17, 5, 0x10, 1, 0x40, 8, 0}, &DMA{0x10, true, 0x40, 8, nil}},
		{[]byte{18, 5, 2, 'u', 'p'}, &Note{"up"}},
		{[]byte{19, 5, 0}, &End{}},
		{[]byte{20, 5, 1, 2, 3}, &PageFault{1, smmuv3.PageRequest{2, 3}}},
		{[]byte{21, 5, 2, 3, 5}, &PageRequest{smmuv3.PageRequest{2, 3}, vsmmu.Held}},
		{[]byte{22, 5, 0x10, 2, 1, 3, 1, 0}, &HostRespond{bridge.PageResponse{StreamID: 0x10, SSV: true, SubstreamID: 2, PRGIndex: 3, Response: 1}, nil}},
		{[]byte{23, 5, 0x10, 7, 2, 0}, &HostResume{0x10, 7, bridge.TerminateRAZWI, nil}},
		{[]byte{24, 5, 0x10, 0}, &HostTerminate{0x10, nil}},
		{[]byte{26, 5, 1, 2, 1, 16, 1, 'x'}, &HostClaim{1, ClaimPageRequests, &Error{"x", 16}}},
		{[]byte{27, 5, 1, 1}, &HostRefetcher{1, true}},
		{[]byte{28, 5, 1, 0x10}, &Refetch{1, 0x10}},
		{[]byte{29, 5, 0x10, 1}, &Refetched{0x10, true}},
		{[]byte{3, 5, 5, 0, 0, 0, 0}, &Call{Op: OpSave}},
		{[]byte{25, 5, 2, 0xaa, 0xbb}, &Restore{[]byte{0xaa, 0xbb}}},
		{[]byte{4, 5, 6, 0, 0, 0}, &Return{Op: OpRestore}},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			tr, err := Read(bytes.NewReader(file(t, `{}`, c.wire)))
			require.NoError(t, err)
			require.Len(t, tr.Entries, 1)
			assert.Equal(t, Entry{5 * time.Microsecond, c.want}, tr.Entries[0])

			l := &log{begun: time.Now()}
			l.put(c.want)
			var buf bytes.Buffer
			require.NoError(t, l.buf.writeTo(&buf))
			assert.Equal(t, c.wire[0], buf.Bytes()[1])
			assert.Equal(t, c.wire[2:], buf.Bytes()[buf.Len()-len(c.wire)+2:])
		})
	}
	assert.Len(t, kinds, 30, "a new kind needs a row")
}

// An entry has a text and a channel, for any values of its fields.
func TestStringsNeverPanic(t *testing.T) {
	for _, make := range kinds {
		if make == nil {
			continue
		}
		for _, v := range []uint64{0, 1, 7, 1 << 40, ^uint64(0)} {
			b := make()
			fill(reflect.ValueOf(b).Elem(), v)
			assert.NotPanics(t, func() { _ = b.String() }, "%T of %#x", b, v)
			assert.NotPanics(t, func() { _ = b.Channel().String() }, "%T of %#x", b, v)
			d := &Difference{Want: b, ids: guestIDs}
			assert.NotPanics(t, func() { _ = d.Error() }, "%T of %#x", b, v)
		}
	}
	assert.NotPanics(t, func() { _ = new(Difference).Error() })
	assert.NotPanics(t, func() { _ = Channel{"x", 1}.String() + Op(99).String() + ClaimStep(99).String() })
}

// fill sets every number in a value to v, every flag if v is odd, and every slice to three elements.
func fill(r reflect.Value, v uint64) {
	switch r.Kind() {
	case reflect.Struct:
		for i := range r.NumField() {
			if r.Type().Field(i).IsExported() {
				fill(r.Field(i), v)
			}
		}
	case reflect.Array:
		for i := range r.Len() {
			fill(r.Index(i), v)
		}
	case reflect.Slice:
		r.Set(reflect.MakeSlice(r.Type(), 3, 3))
		for i := range 3 {
			fill(r.Index(i), v)
		}
	case reflect.Bool:
		r.SetBool(v&1 != 0)
	case reflect.Int64:
		r.SetInt(int64(v))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		r.SetUint(v & (1<<r.Type().Bits() - 1))
	case reflect.Pointer:
		r.Set(reflect.ValueOf(&Error{Text: "x", matches: uint32(v)}))
	}
}

// The bits of an error's kind are part of the format.
func TestErrorsKeepTheirBits(t *testing.T) {
	for bit, err := range []error{
		guestmem.ErrUnmapped, guestmem.ErrReadOnly,
		bridge.ErrRejected, bridge.ErrGone, bridge.ErrInUse, bridge.ErrEndpoint, bridge.ErrClosed,
		bridge.ErrATCTimeout,
	} {
		e := &Error{"x", 1 << bit}
		assert.ErrorIs(t, e, err)
		assert.NotErrorIs(t, &Error{"x", ^(uint32(1) << bit)}, err)
		assert.Equal(t, e, newError(errors.Join(errors.New("x"), nil, err)).with("x"))
	}
	assert.NoError(t, (*Error)(nil).err())
}

func (e *Error) with(text string) *Error { return &Error{text, e.matches} }

func TestHeader(t *testing.T) {
	want := Options{
		Title: "a boot", Policy: idr.Policy{smmuv3.SSIDSIZE: 10, smmuv3.STLevel: 0},
		Hosts: []bridge.Capabilities{{IDs: guestIDs}}, Streams: map[smmuv3.StreamID]string{0x10: "plain"},
	}
	g := newGuest(t, want)
	r, err := NewReader(bytes.NewReader(g.closed()))
	require.NoError(t, err)
	defer r.Close()
	h := r.Header()
	assert.Equal(t, want, Options{Title: h.Title, Policy: idr.Policy(h.Policy), Hosts: h.Hosts, Streams: h.Streams})
	assert.Equal(t, guestIDs, h.IDs)
	assert.WithinDuration(t, time.Now(), h.Recorded, time.Hour)
}

func TestReadRefusesInvalidFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"empty":                      {nil, ErrForeign},
		"another format":             {[]byte("\x1f\x8b\x08 a gzip file, say"), ErrForeign},
		"short, and another format":  {[]byte("vs\x00"), ErrForeign},
		"version 0":                  {[]byte("vsmmu-tr\x00\x00"), ErrForeign},
		"newer":                      {[]byte("vsmmu-tr\x03\x00 whatever"), ErrNewer},
		"much newer":                 {[]byte("vsmmu-tr\x00\x01 whatever"), ErrNewer},
		"cut in the magic":           {[]byte("vsmmu-"), ErrCut},
		"cut before the header":      {[]byte("vsmmu-tr\x01\x00"), ErrCut},
		"no zstd":                    {[]byte("vsmmu-tr\x01\x00 no zstd stream"), ErrCorrupt},
		"a header that is no JSON":   {file(t, `{`), ErrCorrupt},
		"a header of another shape":  {file(t, `{"policy":{"NOFIELD":1}}`), ErrCorrupt},
		"an entry of unknown kind":   {file(t, `{}`, []byte{30, 0}), ErrCorrupt},
		"an entry of kind 0":         {file(t, `{}`, []byte{0, 0}), ErrCorrupt},
		"an empty entry":             {file(t, `{}`, nil), ErrCorrupt},
		"an entry that is too short": {file(t, `{}`, []byte{1, 0, 0x20, 4}), ErrCorrupt},
		"an entry that is too long":  {file(t, `{}`, []byte{19, 0, 0, 0}), ErrCorrupt},
		"a field out of range":       {file(t, `{}`, []byte{1, 0, 0x20, 0x80, 0x02, 0}), ErrCorrupt},
		"a list that is too long":    {file(t, `{}`, []byte{12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}), ErrCorrupt},
		"a frame that is too long":   {pack(t, []byte{2, '{', '}', 0xff, 0xff, 0xff, 0x7f}), ErrCorrupt},
		"a stage of no disposition":  {file(t, `{}`, []byte{10, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}), ErrCorrupt},
		"a code of eight bits":       {file(t, `{}`, []byte{15, 0, 0x46, 0, 0x80, 0x01}), ErrCorrupt},
		"an event of no fate":        {file(t, `{}`, []byte{16, 0, 0, 0, 0, 0, 6}), ErrCorrupt},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read(bytes.NewReader(c.file))
			require.ErrorIs(t, err, c.want)
		})
	}
}

// The cuts are in the uncompressed part, between frames and within.
func TestReadReturnsWholeEntriesBeforeACut(t *testing.T) {
	g := newGuest(t, Options{})
	g.attach(0x10)
	g.up()
	g.host.Emit(translation(0x10, 0x1000))
	packed := g.closed()
	whole, err := Read(bytes.NewReader(packed))
	require.NoError(t, err)
	plain := unpack(t, packed)

	head, n := binary.Uvarint(plain)
	at, entries := n+int(head), 0
	for cut := at; cut < len(plain); cut++ {
		if size, n := binary.Uvarint(plain[at:]); cut == at+n+int(size) {
			at, entries = cut, entries+1
		}
		tr, err := Read(bytes.NewReader(pack(t, plain[:cut])))
		require.NoError(t, err)
		require.False(t, tr.Complete(), "cut at %d", cut)
		requirePrefix(t, whole.Entries, tr.Entries)
		require.Len(t, tr.Entries, entries, "cut at %d", cut)
	}
	assert.Equal(t, len(whole.Entries)-1, entries)
}

func requirePrefix(t *testing.T, whole, part []Entry) {
	require.LessOrEqual(t, len(part), len(whole))
	require.Equal(t, append([]Entry{}, whole[:len(part)]...), append([]Entry{}, part...))
}

// A stage of version 1 has no VMID and no stage 2.
func TestWireFormOfVersion1(t *testing.T) {
	read := func(frames ...byte) (*Transcript, error) {
		plain := append([]byte{2, '{', '}', byte(len(frames))}, frames...)
		return Read(bytes.NewReader(packAs(t, "\x01\x00", plain)))
	}
	tr, err := read(10, 5, 0x10, 2, 0, 0, 0, 0x40, 5, 2, 1, 1, 2, 3, 1, 1, 9, 0)
	require.NoError(t, err)
	assert.Equal(t, &HostBind{0x10, bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: 0x40, S1CDMax: 5, S1Fmt: 2, S1DSS: 1,
		S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: 1,
	}, 9 * time.Microsecond, nil}, tr.Entries[0].Body)
	_, err = read(10, 5, 0x10, 3, 0, 0, 0, 0x40, 5, 2, 1, 1, 2, 3, 1, 1, 9, 0)
	assert.ErrorIs(t, err, ErrCorrupt, "a disposition of version 2")
}

// The cuts are in the compressed file, as when a machine goes down.
func TestFlushedEntriesSurviveACut(t *testing.T) {
	g := newGuest(t, Options{})
	g.attach(0x10)
	g.up()
	var flushed []byte
	g.poll("all is flushed, soon after flushEvery", func() bool {
		flushed = g.file.written()
		tr, err := Read(bytes.NewReader(flushed))
		return err == nil && len(tr.Entries) >= 20
	})
	g.Note("not flushed")
	packed := g.closed()
	require.True(t, bytes.HasPrefix(packed, flushed))
	whole, err := Read(bytes.NewReader(packed))
	require.NoError(t, err)

	tr, err := Read(bytes.NewReader(flushed))
	require.NoError(t, err)
	assert.False(t, tr.Complete())
	requirePrefix(t, whole.Entries, tr.Entries)
	for cut := range packed[:len(packed)-1] {
		tr, err := Read(bytes.NewReader(packed[:cut]))
		if err == nil {
			require.False(t, tr.Complete())
			requirePrefix(t, whole.Entries, tr.Entries)
		} else if cut > 0 {
			require.ErrorIs(t, err, ErrCut, "cut at %d", cut)
		}
	}
}

// Entries that fill the buffer go to the compressor at once. They are flushed in time even if no
// entry follows.
func TestFlushFollowsAnEarlyWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var file bytes.Buffer
		l, err := newLog(&file, Header{}, DefaultBuffer)
		require.NoError(t, err)
		note := &Note{strings.Repeat("x", maxText)}
		l.add(note)
		notes := (drainAt + l.buf.size - 1) / l.buf.size
		for range notes - 1 {
			l.add(note)
		}
		synctest.Wait()
		l.mu.Lock()
		require.Zero(t, l.buf.size, "the last of them starts the writer")
		l.mu.Unlock()

		time.Sleep(flushEvery + time.Millisecond)
		synctest.Wait()
		tr, err := Read(bytes.NewReader(file.Bytes()))
		require.NoError(t, err)
		assert.Equal(t, notes, len(tr.Entries))
		require.NoError(t, l.end())
	})
}

// blocked is a writer that hangs.
type blocked struct{ until chan struct{} }

func (b blocked) Write(p []byte) (int, error) {
	if len(p) > 1000 {
		<-b.until
	}
	return len(p), nil
}

func TestSlowWriterCutsTheTranscript(t *testing.T) {
	disk := blocked{make(chan struct{})}
	r, err := Record(disk, vsmmu.Config{IDs: guestIDs, Memory: new(guestmem.Fake), Interrupts: wires{}}, Options{Buffer: 64 << 10})
	require.NoError(t, err)
	for i := range uint64(100_000) {
		r.Store(smmuv3.RegGERROR_IRQ_CFG1, 4, i*0x9e3779b97f4a7c15)
	}
	r.log.mu.Lock()
	assert.NotEmpty(t, r.log.cut)
	assert.Less(t, r.log.buf.size, 128<<10, "the buffer bounds the memory")
	r.log.mu.Unlock()
	close(disk.until)
	require.ErrorIs(t, r.Close(), ErrCut)
}

func TestLastEntrySaysWhyTheTranscriptIsCut(t *testing.T) {
	var file bytes.Buffer
	l, err := newLog(&file, Header{}, 1)
	require.NoError(t, err)
	for range 3 {
		l.add(&Note{"x"})
	}
	require.ErrorIs(t, l.end(), ErrCut)
	tr, err := Read(&file)
	require.NoError(t, err)
	assert.Equal(t, "the writer could not keep up", tr.Cut)
}

// A small file that claims a lot of memory is refused.
func TestReadIsBounded(t *testing.T) {
	const entries, size = 100, 5_000 // in all less than a window, as file packs them
	note := append([]byte{numbers[reflect.TypeFor[*Note]()], 0}, binary.AppendUvarint(nil, size)...)
	note = append(note, make([]byte, size)...)
	bomb := file(t, `{}`, slices.Repeat([][]byte{note}, entries)...)
	require.Less(t, len(bomb), 10_000)

	tr, err := read(bytes.NewReader(bomb), entries, maxMemory)
	require.NoError(t, err)
	assert.Len(t, tr.Entries, entries)
	tr, err = read(bytes.NewReader(bomb), entries-1, maxMemory)
	require.ErrorIs(t, err, ErrCorrupt)
	assert.Len(t, tr.Entries, entries-1)
	tr, err = read(bytes.NewReader(bomb), entries, 10*size)
	require.ErrorIs(t, err, ErrCorrupt)
	assert.Len(t, tr.Entries, 9)
}

// seeds are transcripts at the boundaries of the format, by name.
func seeds(t testing.TB) map[string][]byte {
	g := newGuest(t, Options{})
	session(g)
	packed := g.closed()
	plain := unpack(t, packed)
	return map[string][]byte{
		"whole":                  packed,
		"cut in the middle":      packed[:len(packed)/2],
		"without its last entry": pack(t, plain[:len(plain)-4]),
		"magic only":             []byte("vsmmu-tr\x02\x00"),
		"newer":                  []byte("vsmmu-tr\x03\x00"),
		"version 1":              packAs(t, "\x01\x00", plain),
		"no zstd":                []byte("vsmmu-tr\x02\x00zstd"),
		"header only":            file(t, `{}`),
		"unknown kind":           file(t, `{}`, []byte{27, 0}),
		"longest list":           file(t, `{}`, []byte{12, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f}),
		"longest frame":          pack(t, []byte{2, '{', '}', 0x80, 0x80, 4}),
		"end of time":            file(t, `{}`, []byte{19, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0}),
		"a state that is none":   file(t, `{"ids":{"IDR":[151523354,40501904,0,0,0,116]}}`, []byte{25, 0, 1, 0}, []byte{4, 0, 6, 0, 1, 0}),
		"host not attached":      file(t, `{"ids":{"IDR":[151523354,40501904,0,0,0,116]}}`, []byte{5, 0, 9, 0x10, 0, 0, 0}),
	}
}

// FuzzRead checks that reading any bytes ends, and that a replay of the result ends.
func FuzzRead(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s)
	}
	f.Fuzz(readAndReplay)
}

// FuzzFrames is FuzzRead below the compression, which few mutations pass.
func FuzzFrames(f *testing.F) {
	for _, s := range seeds(f) {
		if len(s) > 10 {
			if plain, err := io.ReadAll(unpacker(f, s)); err == nil {
				f.Add(plain)
			}
		}
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, plain []byte) {
		readAndReplay(t, z.EncodeAll(plain, []byte("vsmmu-tr\x02\x00")))
	})
}

func readAndReplay(t *testing.T, b []byte) {
	tr, err := Read(bytes.NewReader(b))
	if err != nil || len(tr.Entries) > 10_000 {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, renewing := range []bool{false, true} {
		_ = replayWithin(ctx, tr, time.Millisecond, renewing)
	}
	for _, e := range tr.Entries {
		_ = e.Body.String()
	}
}

func TestFuzzSeeds(t *testing.T) {
	for name, s := range seeds(t) {
		t.Run(name, func(t *testing.T) {
			readAndReplay(t, s)
		})
	}
}
