package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

func plainConfig() vsmmu.Config {
	return vsmmu.Config{IDs: guestIDs, Memory: new(guestmem.Fake), Interrupts: wires{}}
}

// failing is a writer that fails once, at one of its calls, and works before and after.
type failing struct {
	at   int // the call that fails, from 0; negative for none
	fail func(w io.Writer, p []byte) (int, error)

	calls int
	bytes.Buffer
}

func (f *failing) Write(p []byte) (int, error) {
	f.calls++
	if f.calls-1 == f.at {
		return f.fail(&f.Buffer, p)
	}
	return f.Buffer.Write(p)
}

// recordWith records a device with every kind of write: the header, a timed flush, a write because
// the buffer is full, and the end. It calls dead before the end.
func recordWith(t *testing.T, w io.Writer, dead func(*Recorder)) (recorded, closed error) {
	r, err := Record(w, plainConfig(), Options{})
	if err != nil {
		return err, nil
	}
	wait := func() {
		time.Sleep(flushEvery + time.Millisecond)
		synctest.Wait()
	}
	r.Note("flushed in time")
	wait()
	x := uint64(1)
	for range 20_000 { // more than drainAt
		x = x*6364136223846793005 + 1442695040888963407
		r.Store(smmuv3.RegSTRTAB_BASE, 8, x)
	}
	wait()
	if dead != nil {
		dead(r)
	}
	r.Note("flushed at the end")
	err = r.Close()
	assert.ErrorIs(t, r.Close(), bridge.ErrClosed)
	return nil, err
}

func TestEveryWriteErrorMatchesErrCut(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(w io.Writer, p []byte) (int, error)
		want error
	}{
		"nothing written": {func(io.Writer, []byte) (int, error) { return 0, syscall.ENOSPC }, syscall.ENOSPC},
		"a part written": {func(w io.Writer, p []byte) (int, error) {
			n, _ := w.Write(p[:len(p)/2])
			return n, syscall.ENOSPC
		}, syscall.ENOSPC},
		"all written": {func(w io.Writer, p []byte) (int, error) {
			n, _ := w.Write(p)
			return n, syscall.EIO
		}, syscall.EIO},
		"short without an error":   {func(w io.Writer, p []byte) (int, error) { return w.Write(p[:len(p)-1]) }, io.ErrShortWrite},
		"nothing without an error": {func(io.Writer, []byte) (int, error) { return 0, nil }, io.ErrShortWrite},
		"a negative count":         {func(io.Writer, []byte) (int, error) { return -1, nil }, io.ErrShortWrite},
		"too large a count":        {func(w io.Writer, p []byte) (int, error) { return len(p) + 1, nil }, io.ErrShortWrite},
		"a closed file":            {func(io.Writer, []byte) (int, error) { return 0, os.ErrClosed }, os.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 1
			for at := -1; at < calls; at++ {
				synctest.Test(t, func(t *testing.T) {
					w := &failing{at: at, fail: c.fail}
					recorded, closed := recordWith(t, w, nil)
					if at < 0 {
						require.NoError(t, errors.Join(recorded, closed))
						calls = w.calls
						require.Greater(t, calls, 4, "header, flushes and end")
						return
					}
					err := errors.Join(recorded, closed)
					require.ErrorIs(t, err, ErrCut, "write %d", at)
					require.ErrorIs(t, err, c.want, "write %d", at)
					require.Equal(t, 1, strings.Count(err.Error(), c.want.Error()), "each cause once: %v", err)
					require.Equal(t, at+1, w.calls, "the recorder writes nothing after an error")
					if at > 3 {
						tr, err := Read(&w.Buffer)
						require.NoError(t, err, "the entries written before the error can be read")
						require.NotEmpty(t, tr.Entries)
					}
				})
			}
		})
	}
}

// After an error the device continues, and entries take no memory.
func TestWriteErrorDoesNotStopTheDevice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &failing{at: 3, fail: func(io.Writer, []byte) (int, error) { return 0, syscall.ENOSPC }}
		recorded, closed := recordWith(t, w, func(r *Recorder) {
			require.Equal(t, 4, w.calls)
			for i := range uint64(100_000) {
				r.Store(smmuv3.RegSTRTAB_BASE, 8, i<<6)
			}
			r.log.mu.Lock()
			assert.Zero(t, r.log.buf)
			assert.Nil(t, r.log.coder.b)
			r.log.mu.Unlock()
			assert.EqualValues(t, 99_999<<6, r.Load(smmuv3.RegSTRTAB_BASE, 8))
			require.NoError(t, r.Attach(0x10, record.New(bridge.Capabilities{IDs: guestIDs}), "endpoint"))
			require.NoError(t, r.Detach(0x10))
			r.Note("no one reads this")
			r.DMA(0x10, true, 0, 1, errors.New("no"))
		})
		require.NoError(t, recorded)
		require.ErrorIs(t, closed, ErrCut)
		require.ErrorIs(t, closed, syscall.ENOSPC)
	})
}

// A full buffer, an entry that is too large and too many hosts cut the transcript, too.
func TestEveryCutMatchesErrCut(t *testing.T) {
	for name, c := range map[string]struct {
		do   func(*Recorder)
		want string
	}{
		"large entry": {func(r *Recorder) { _ = r.Restore(make([]byte, maxFrame)) }, "the maximum is 65536"},
		"many hosts": {func(r *Recorder) {
			for i := range maxHosts + 1 {
				h := record.New(bridge.Capabilities{IDs: guestIDs})
				require.NoError(t, r.Attach(0x10, h, "endpoint"), "host %d", i)
				require.NoError(t, r.Detach(0x10), "host %d", i)
			}
			require.Len(t, r.hosts, maxHosts)
		}, "more than 1024 hosts"},
	} {
		t.Run(name, func(t *testing.T) {
			var file bytes.Buffer
			r, err := Record(&file, plainConfig(), Options{})
			require.NoError(t, err)
			c.do(r)
			r.Note("dropped")
			err = r.Close()
			require.ErrorIs(t, err, ErrCut)
			require.ErrorContains(t, err, c.want)
			tr, err := Read(&file)
			require.NoError(t, err)
			assert.Contains(t, tr.Cut, c.want)
			require.NoError(t, Replay(t.Context(), tr))
		})
	}
}

func TestCloseTwiceMatchesErrClosed(t *testing.T) {
	r, err := Record(io.Discard, plainConfig(), Options{})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	for range 2 {
		err := r.Close()
		require.ErrorIs(t, err, bridge.ErrClosed)
		require.NotErrorIs(t, err, ErrCut)
		assert.Equal(t, "transcript: close recorder: closed", err.Error())
	}
}

// The methods of these writers panic if the writer is nil.
type (
	pointerWriter struct{ n int }
	mapWriter     map[string]int
	funcWriter    func([]byte) (int, error)
)

func (w *pointerWriter) Write(p []byte) (int, error) { w.n++; return len(p), nil }
func (w mapWriter) Write(p []byte) (int, error)      { w["n"]++; return len(p), nil }
func (w funcWriter) Write(p []byte) (int, error)     { return w(p) }

func TestRecordRefusesNilWriters(t *testing.T) {
	for _, w := range []io.Writer{
		nil, (*bytes.Buffer)(nil), (*os.File)(nil), (*pointerWriter)(nil), mapWriter(nil), funcWriter(nil),
	} {
		r, err := Record(w, plainConfig(), Options{})
		assert.Nil(t, r)
		assert.EqualError(t, err, fmt.Sprintf("transcript: record: nil writer of type %T", w))
	}
	var n int
	r, err := Record(funcWriter(func(p []byte) (int, error) { n += len(p); return len(p), nil }), plainConfig(), Options{})
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Positive(t, n)
}

func TestRecordRefusesBadConfigurations(t *testing.T) {
	for name, change := range map[string]func(*vsmmu.Config, *Options){
		"nothing":       func(c *vsmmu.Config, _ *Options) { *c = vsmmu.Config{} },
		"no memory":     func(c *vsmmu.Config, _ *Options) { c.Memory = nil },
		"no interrupts": func(c *vsmmu.Config, _ *Options) { c.Interrupts = nil },
		"invalid IDs":   func(c *vsmmu.Config, _ *Options) { c.IDs = smmuv3.IDRegs{} },
	} {
		t.Run(name, func(t *testing.T) {
			cfg, o := plainConfig(), Options{}
			change(&cfg, &o)
			var file bytes.Buffer
			_, err := Record(&file, cfg, o)
			require.ErrorIs(t, err, vsmmu.ErrConfig)
			assert.Zero(t, file.Len(), "nothing is written")
		})
	}
	for name, o := range map[string]Options{
		"Options.Buffer is -1":                 {Buffer: -1},
		"Options.Policy has the unknown field": {Policy: idr.Policy{smmuv3.IDField(250): 1}},
		"header of ": {Streams: func() map[smmuv3.StreamID]string {
			m := map[smmuv3.StreamID]string{}
			for i := range smmuv3.StreamID(10_000) {
				m[i] = "a stream"
			}
			return m
		}()},
	} {
		var file bytes.Buffer
		_, err := Record(&file, plainConfig(), o)
		require.ErrorContains(t, err, "transcript: record: "+name)
		assert.Zero(t, file.Len(), "nothing is written")
	}
}

func TestAttachRefusesInvalidHosts(t *testing.T) {
	g := newGuest(t, Options{})
	require.Error(t, g.Attach(0x10, nil, nil))
	require.Error(t, g.Attach(0x10, struct {
		*record.Host
		f []int
	}{g.host, nil}, nil))
	require.Error(t, g.Attach(0x10, struct {
		*record.Host
		v any
	}{g.host, []int{1}}, nil), "comparable by its type and not by its value")
	g.attach(0x10)
	require.NoError(t, g.Close())
}

// The device ignores accesses of other sizes than 4 and 8 bytes, and so does the recorder.
func TestUnsupportedSizesReachNoRegister(t *testing.T) {
	tr := recorded(t, func(g *guest) {
		for _, size := range []int{-8, -1, 0, 1, 3, 16, 255, 256, 260, 264, 1 << 40} {
			g.Store(smmuv3.RegSTRTAB_BASE, size, ^uint64(0))
			assert.Zero(t, g.Load(smmuv3.RegSTRTAB_BASE, size))
		}
		assert.Empty(t, g.stores)
		assert.Zero(t, g.Load(smmuv3.RegSTRTAB_BASE, 8))
	})
	require.NoError(t, Replay(t.Context(), tr))
}

// Texts are cut between runes, so that the header and the entries hold valid text.
func TestTextsAreCut(t *testing.T) {
	long := strings.Repeat("é", maxText)
	var file bytes.Buffer
	r, err := Record(&file, plainConfig(), Options{Title: "x" + long})
	require.NoError(t, err)
	r.Note("x" + long)
	r.DMA(0, false, 0, 1, errors.New("x"+long))
	require.NoError(t, r.Close())
	tr, err := Read(&file)
	require.NoError(t, err)
	want := "x" + long[:maxText-2]
	assert.Equal(t, want, tr.Title)
	assert.Equal(t, want, tr.Entries[0].Body.(*Note).Text)
	assert.Equal(t, want, tr.Entries[1].Body.(*DMA).Err.Text)
}

// nilError is an error whose method panics on a nil pointer.
type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestErrorsThatAreNilPointersAreRecorded(t *testing.T) {
	tr := recorded(t, func(g *guest) { g.DMA(0x10, true, 0, 1, (*nilError)(nil)) })
	assert.Equal(t, &Error{Text: "<nil>"}, tr.Entries[0].Body.(*DMA).Err)
}

var errClaim = fmt.Errorf("claimed by another: %w", bridge.ErrInUse)

// refusing is a host that refuses steps of being claimed and released.
type refusing struct {
	bridge.Host
	refuse map[ClaimStep]bool
}

func (h *refusing) answer(s ClaimStep) error {
	if h.refuse[s] {
		return errClaim
	}
	return nil
}

func (h *refusing) Events(sink func(smmuv3.Event)) error {
	if sink == nil {
		return errors.Join(h.Host.Events(nil), h.answer(ReleaseEvents))
	}
	if err := h.answer(ClaimEvents); err != nil {
		return err
	}
	return h.Host.Events(sink)
}

func (h *refusing) SetGuestIDs(ids smmuv3.IDRegs) error {
	return errors.Join(h.answer(ClaimGuestIDs), h.Host.SetGuestIDs(ids))
}

func (h *refusing) PageRequests(sink func(smmuv3.PageRequest)) error {
	if sink == nil {
		return h.answer(ReleasePageRequests)
	}
	return h.answer(ClaimPageRequests)
}

func (h *refusing) Respond(bridge.PageResponse) error { return nil }

// A host that refuses a device also refuses it in the replay, at the same calls.
func TestReplayRepeatsFailedClaims(t *testing.T) {
	ids := guestIDs
	for f, v := range map[smmuv3.IDField]uint32{smmuv3.ATS: 1, smmuv3.PRI: 1, smmuv3.PRIQS: 4} {
		ids.Set(f, v)
	}
	for step := ClaimEvents; step <= ReleasePageRequests; step++ {
		t.Run(step.String(), func(t *testing.T) {
			g := newGuestOf(t, ids, Options{})
			h := &refusing{g.host, map[ClaimStep]bool{step: true}}
			release := step >= ReleaseEvents
			for range 3 {
				err := g.Attach(0x10, h, "endpoint")
				if release {
					require.NoError(t, err)
					break
				}
				require.ErrorIs(t, err, bridge.ErrInUse)
			}
			if !release {
				h.refuse = nil
				require.NoError(t, g.Attach(0x10, h, "endpoint"))
			}
			g.up()
			if err := g.Close(); release {
				require.ErrorIs(t, err, bridge.ErrInUse)
			} else {
				require.NoError(t, err)
			}
			tr, err := Read(bytes.NewReader(g.file.written()))
			require.NoError(t, err)
			require.True(t, tr.Complete())
			require.NoError(t, Replay(t.Context(), tr))
			if !release { // a restored device is closed without its hosts
				require.NoError(t, ReplayRestored(t.Context(), tr))
			}
			claims := 0
			for i, e := range tr.Entries {
				if c, ok := e.Body.(*HostClaim); ok {
					assert.Equal(t, step, c.Step)
					assert.ErrorIs(t, c.Err, bridge.ErrInUse)
					claims++
					tr.Entries[i].Body = &Note{"gone"}
				}
			}
			require.Positive(t, claims)
			var d *Difference
			require.ErrorAs(t, Replay(t.Context(), tr), &d, "without the entries the replay differs")
		})
	}
}

// A stream that is attached again finds its host in the same state, also on a restored device.
func TestReplayOfReattachedStreams(t *testing.T) {
	tr := recorded(t, func(g *guest) {
		for range 3 {
			g.attach(0x10)
			require.NoError(t, g.Detach(0x10))
		}
		g.attach(0x10)
		g.up()
	})
	require.NoError(t, Replay(t.Context(), tr))
	require.NoError(t, ReplayRestored(t.Context(), tr))
}
