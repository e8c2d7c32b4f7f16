//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// nothing is a system in which all requests succeed without effect.
type nothing struct{ system }

func (nothing) ioctl(int, uintptr, unsafe.Pointer) error { return nil }

// The record was read on Linux 7.3: F_TRANSLATION of a read by stream 0x1234.
func TestDecode(t *testing.T) {
	e := smmuv3.Event{0x0000_1234_0000_0010, 0x0000_0208_0000_0000, 0x12_3456_0000, 0}
	for _, tt := range []struct {
		name   string
		next   uint32
		in     []byte
		events int
		lost   uint64
	}{
		{"two in order", 0, slices.Concat(record(0, 0, e), record(0, 1, e)), 2, 0},
		{"the first are missing", 0, record(0, 3, e), 1, 3},
		{"a gap", 4, slices.Concat(record(0, 4, e), record(0, 7, e)), 2, 2},
		{"the sequence number wraps", 0x7fff_ffff, slices.Concat(record(0, 0x7fff_ffff, e), record(0, 0, e)), 2, 0},
		{"one lost at the end", 4, slices.Concat(record(0, 4, e), record(1, 5)), 1, 1},
		{"many lost at the end", 5, record(1, 9), 0, 5},
		{"one lost, then one that fits", 5, slices.Concat(record(1, 5), record(0, 6, e)), 1, 1},
		{"truncated header", 0, slices.Concat(record(0, 0, e), make([]byte, 7)), 1, 0},
		{"truncated record", 0, record(0, 0, e)[:39], 0, 1},
		{"empty", 0, nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := decoder{next: tt.next}
			var got []smmuv3.Event
			lost := d.decode(tt.in, func(e smmuv3.Event) { got = append(got, e) })
			assert.Equal(t, slices.Repeat([]smmuv3.Event{e}, tt.events), append([]smmuv3.Event{}, got...))
			assert.Equal(t, tt.lost, lost)
		})
	}
}

// A host without a sink empties the kernel's queue as well.
func TestEvents_without_sink(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	k.events.put(record(0, 0, smmuv3.Event{0x10}))
	require.NoError(t, h.Invalidate(nil))
	assert.EqualValues(t, 1, h.Stats().Events)
}

func FuzzDecode(f *testing.F) {
	f.Add(record(0, 0, smmuv3.Event{1, 2, 3, 4})) // one record
	f.Add(record(1, 5))                           // a header that reports lost events
	f.Add(record(0, 0, smmuv3.Event{})[:39])      // one byte short
	f.Fuzz(func(t *testing.T, p []byte) {
		var d decoder
		n := 0
		d.decode(p, func(smmuv3.Event) { n++ })
		assert.LessOrEqual(t, n, len(p)/recordSize)
	})
}

// The words are literals by §7.3: type 7:0, SSV 11, SSID 31:12, SID 63:32; PnU 97, InD 98, RnW 99,
// NSIPA 102, S2 103, CLASS 105:104; InputAddr 191:128; IPA or FetchAddr in the last double-word.
func TestGuestView(t *testing.T) {
	const (
		sid   = 0x1234 << 32
		pasid = 1<<11 | 5<<12
		rnw   = 1 << 35
		s2    = 1 << 39
		cd    = 0 << 40
		tt    = 1 << 40
		in    = 2 << 40
		stall = 1 << 31
	)
	type e = smmuv3.Event
	for _, tt := range []struct {
		name     string
		in, want e
		withheld bool
	}{
		{name: "stage 1", in: e{0x10 | sid | pasid, rnw | in, 0xabc, 0}, want: e{0x10 | sid | pasid, rnw | in, 0xabc, 0}},
		{name: "stage 1: IPA is RES0", in: e{0x13 | sid, in, 0xabc, 0x4000_0000}, want: e{0x13 | sid, in, 0xabc, 0}},
		{name: "C_BAD_CD", in: e{0x0a | sid}, want: e{0x0a | sid}},
		{name: "C_BAD_SUBSTREAMID", in: e{0x08 | sid | 5<<12}, want: e{0x08 | sid | 5<<12}},
		{name: "§7.3.10: stage 2, fetch of a CD", in: e{0x10 | sid | pasid, rnw | s2 | cd, 0xabc, 0x4000_0000},
			want: e{0x09 | sid | pasid, 0, 0, 0x4000_0000}},
		{name: "§7.3.12: stage 2, table walk", in: e{0x12 | sid, rnw | s2 | tt | 1<<44, 0xabc, 0x4000_1000},
			want: e{0x0b | sid, rnw | tt, 0xabc, 0x4000_1000}},
		{name: "stage 2, the device's own access", in: e{0x10 | sid, rnw | s2 | in, 0xabc, 0x4000_0000}, withheld: true},
		{name: "a stall", in: e{0x10 | sid, rnw | in | stall | 7, 0xabc, 0}, withheld: true},
		{name: "F_CD_FETCH holds a physical address", in: e{0x09 | sid, 0, 0, 0x8000_0000}, withheld: true},
		{name: "F_WALK_EABT holds a physical address", in: e{0x0b | sid, tt, 0, 0x8000_0000}, withheld: true},
		{name: "F_TLB_CONFLICT", in: e{0x20 | sid}, withheld: true},
		{name: "IMPLEMENTATION DEFINED", in: e{0xe0 | sid}, withheld: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := guestView(tt.in)
			assert.Equal(t, !tt.withheld, ok)
			if ok {
				assert.Equal(t, tt.want, got, "%#x", got)
			}
		})
	}
}

func TestEvents_reach_the_sink(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	got := make(chan smmuv3.Event, 8)
	require.NoError(t, h.Events(func(e smmuv3.Event) { got <- e }))
	d, err := h.Add(dev0)
	require.NoError(t, err)
	_, err = h.Attach(0x100, d)
	require.NoError(t, err)

	fault := smmuv3.Event{0x0000_0100_0000_0010, 2 << 40, 0xabc, 0}
	k.events.put(record(0, 0, fault), record(0, 2, smmuv3.Event{0xe0}), record(1, 4))
	assert.Equal(t, fault, <-got)
	k.events.put(record(0, 5, fault))
	assert.Equal(t, fault, <-got)

	require.NoError(t, h.Close())
	assert.Equal(t, Stats{Ioctls: h.Stats().Ioctls, Events: 2, EventsWithheld: 1, EventsLost: 3}, h.Stats())
}

// brokenQueue cannot be read.
type brokenQueue struct {
	reads  chan struct{}
	closed chan struct{}
}

func (q brokenQueue) Wait() error {
	select {
	case q.reads <- struct{}{}:
		return nil
	case <-q.closed:
		return os.ErrClosed
	}
}

func (brokenQueue) Read([]byte) (int, error) { return 0, unix.ENOMEM }

func (q brokenQueue) Close() error { close(q.closed); return nil }

func TestEvents_are_read_again_after_an_error(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := brokenQueue{make(chan struct{}), make(chan struct{})}
		var n counters
		r := &eventReader{queue: q, claim: new(claim), counts: &n, ended: make(chan struct{})}
		r.over.Go(r.run)
		<-q.reads
		<-q.reads
		synctest.Wait()
		assert.EqualValues(t, 2, n.readErrors.Load())
		require.NoError(t, r.close())
	})
}

// §4.7.3: a SYNC completes after the faults of the DMA that it waits for have been reported. In
// this test the reader goroutine delivers nothing: the calls deliver the faults.
func TestEvents_reach_the_sink_before_the_call_returns(t *testing.T) {
	fault := func(i uint64) smmuv3.Event { return smmuv3.Event{0x0000_0100_0000_0010, 2 << 40, i << 12, 0} }
	for name, call := range map[string]func(h *Host, s bridge.Stream) error{
		"Invalidate":                   func(h *Host, _ bridge.Stream) error { return h.Invalidate(pages(1)) },
		"Invalidate of an empty batch": func(h *Host, _ bridge.Stream) error { return h.Invalidate(nil) },
		"Bind":                         func(_ *Host, s bridge.Stream) error { return s.Bind(abort) },
		"Bind of an equal stage":       func(_ *Host, s bridge.Stream) error { return s.Bind(translate(0x1000)) },
		"Bind of an illegal stage": func(_ *Host, s bridge.Stream) error {
			if s.Bind(translate(0x20)) == nil {
				return errors.New("the stage was not rejected")
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newFake(t)
			h := openFake(t, k, Config{})
			var got []smmuv3.Event
			require.NoError(t, h.Events(func(e smmuv3.Event) { got = append(got, e) }))
			d, err := h.Add(dev0)
			require.NoError(t, err)
			k.events.deaf = true
			s, err := h.Attach(0x100, d)
			require.NoError(t, err)
			require.NoError(t, s.Bind(translate(0x1000)))

			var records []byte
			for i := range uint32(eventDepth) {
				records = append(records, record(0, i, fault(uint64(i)))...)
			}
			k.events.put(records, record(1, eventDepth)) // a full queue, and one fault lost
			require.NoError(t, call(h, s))
			require.Len(t, got, eventDepth)
			assert.Equal(t, fault(0), got[0])
			assert.Equal(t, fault(eventDepth-1), got[eventDepth-1])
		})
	}
}

// wildQueue never becomes empty.
type wildQueue struct{ queue }

func (wildQueue) Read(p []byte) (int, error) {
	return copy(p, slices.Repeat(record(0, 0, smmuv3.Event{0x10}), readRecords)), nil
}

// Wait waits and Read does not. A pipe replaces the vEVENTQ.
func TestQueueFile_waits(t *testing.T) {
	var fds [2]int
	require.NoError(t, unix.Pipe2(fds[:], unix.O_CLOEXEC))
	q, err := linux{}.queue(fds[0])
	require.NoError(t, err)
	p := make([]byte, 64)
	n, err := q.Read(p)
	require.NoError(t, err)
	assert.Zero(t, n, "empty")

	waited := make(chan error, 1)
	wait := func() { waited <- q.Wait() }
	go wait()
	_, err = unix.Write(fds[1], []byte("event"))
	require.NoError(t, err)
	require.NoError(t, <-waited)
	n, err = q.Read(p)
	require.NoError(t, err)
	assert.Equal(t, "event", string(p[:n]))

	go wait()
	require.NoError(t, q.Close())
	assert.Error(t, <-waited, "Close ends a wait")
	_, err = q.Read(p)
	assert.Error(t, err)
	require.NoError(t, unix.Close(fds[1]))
}
