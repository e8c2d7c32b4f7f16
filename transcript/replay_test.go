package transcript

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
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
)

func recorded(t testing.TB, guest func(*guest)) *Transcript {
	g := newGuest(t, Options{Title: t.Name(), Streams: map[smmuv3.StreamID]string{0x10: "plain"}})
	guest(g)
	tr, err := Read(bytes.NewReader(g.closed()))
	require.NoError(t, err)
	require.True(t, tr.Complete(), tr.Cut)
	return tr
}

func TestReplayAcceptsItsRecording(t *testing.T) {
	for name, life := range map[string]func(*guest){
		"nothing":      func(*guest) {},
		"a whole life": session,
		"commands without a wait": func(g *guest) {
			g.attach(0x10)
			g.up()
			g.ste(0x10, 0x40000b)
			for i := range uint64(40) {
				g.submit(cfgiSTE(0x10), smmuv3.Command{0x12, i << 12}, cmdSync)
			}
			g.run(cmdSync)
		},
		"a host that fails": func(g *guest) {
			n := 0
			g.host.FailWith(func(c record.Call) error {
				if c.Op == record.Bind || c.Op == record.Invalidate {
					if n++; n%3 == 0 {
						return bridge.ErrRejected
					}
				}
				return nil
			})
			g.attach(0x10)
			g.up()
			for i := range uint64(20) {
				g.ste(0x10, 0x40000b+i<<6)
				g.run(cfgiSTE(0x10), smmuv3.Command{0x30}, cmdSync)
			}
		},
		"memory that fails": func(g *guest) {
			g.attach(0x10)
			g.up()
			g.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 0x4000}, guestmem.ErrUnmapped)
			g.run(cfgiSTE(0x10), cmdSync)
			g.host.Emit(smmuv3.Event{0x03 | 0x10<<32}) // F_STE_FETCH: look again
			g.run(cmdSync)
			g.mem.Heal()
			g.mem.FailReads(guestmem.Range{GPA: cmdqAt, Len: 0x1000}, guestmem.ErrUnmapped)
			g.run(cmdSync, cmdSync)
			g.mem.Heal()
			g.w32(smmuv3.RegGERRORN, g.r32(smmuv3.RegGERROR))
			g.run(cmdSync)
			g.mem.FailWrites(guestmem.Range{GPA: eventqAt, Len: 0x1000}, guestmem.ErrReadOnly)
			g.host.Emit(translation(0x10, 0))
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := recorded(t, life)
			require.NoError(t, Replay(t.Context(), tr))
			if name != "a host that fails" { // which a new device does not know
				require.NoError(t, ReplayRestored(t.Context(), tr))
			}
		})
	}
}

func TestReplayOfPageRequestsAndStalls(t *testing.T) {
	ids := guestIDs
	for f, v := range map[smmuv3.IDField]uint32{
		smmuv3.ATS: 1, smmuv3.PRI: 1, smmuv3.PRIQS: 4, smmuv3.StallModel: smmuv3.StallBoth, smmuv3.StallMax: 2,
	} {
		ids.Set(f, v)
	}
	g := newGuestOf(t, ids, Options{})
	g.attach(0x10)
	g.w64(smmuv3.RegPRIQ_BASE, 0x500000|4)
	g.up()
	const all = smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN | smmuv3.CR0_PRIQEN
	g.enable(all)
	g.ste(0x10, 0x40000b, 1<<28)
	g.run(cfgiSTE(0x10), cmdSync)
	for i := range uint64(20) { // overflows the queue: the device answers
		g.host.Request(smmuv3.PageRequest{0x10 | 1<<62 | 1<<60, i<<12 | i})
	}
	g.r32(smmuv3.RegPRIQ_PROD)
	g.w32(smmuv3.RegPRIQ_CONS, g.r32(smmuv3.RegPRIQ_PROD))
	g.run(smmuv3.Command{0x41 | 0x10<<32, 3 | 2<<12}, cmdSync) // PRI_RESP
	for stag := range uint64(4) {                              // two more than STALL_MAX allows
		g.host.Emit(smmuv3.Event{0x10 | 0x10<<32, 0x208_8000_0000 | stag, stag << 12})
	}
	g.takeEvents()
	g.run(smmuv3.Command{0x44 | 1<<12 | 0x10<<32, 0}, cmdSync) // RESUME
	g.run(smmuv3.Command{0x45 | 0x10<<32}, cmdSync)            // STALL_TERM
	g.enable(0)
	tr, err := Read(bytes.NewReader(g.closed()))
	require.NoError(t, err)
	require.NoError(t, Replay(t.Context(), tr))
	require.NoError(t, ReplayRestored(t.Context(), tr))
	kinds := map[reflect.Type]int{}
	for _, e := range tr.Entries {
		kinds[reflect.TypeOf(e.Body)]++
	}
	for _, b := range []Body{&PageRequest{}, &HostRespond{}, &HostResume{}, &HostTerminate{}} {
		assert.Positive(t, kinds[reflect.TypeOf(b)], "%T", b)
	}
}

// A saved device continues as before. A recording may start with a restored state, which includes
// errors and updates that the guest has not acknowledged.
func TestReplayOfSaveAndRestore(t *testing.T) {
	var state []byte
	first := recorded(t, func(g *guest) {
		g.attach(0x10)
		g.up()
		g.ste(0x10, 0x40000b)
		g.run(cfgiSTE(0x10), cmdSync)
		g.submit(smmuv3.Command{0x12, 0x1000}) // without a SYNC: Save flushes it
		g.host.Emit(translation(0x10, 0x5bad0000))
		var err error
		state, err = g.Save()
		require.NoError(t, err)
		g.run(cmdSync)
	})
	second := recorded(t, func(g *guest) {
		require.Error(t, g.Restore(state[1:]))
		g.attach(0x10)
		require.NoError(t, g.Restore(state))
		assert.Equal(t, uint32(1), g.r32(smmuv3.RegEVENTQ_PROD))
		g.host.Emit(translation(0x10, 0x5bad0040)) // is merged
		g.takeEvents()
		g.run(smmuv3.Command{0x12, 0x2000}, cmdSync)
	})
	for _, tr := range []*Transcript{first, second} {
		require.NoError(t, Replay(t.Context(), tr))
		require.NoError(t, ReplayRestored(t.Context(), tr))
	}
	for i, e := range second.Entries {
		if b, ok := e.Body.(*Restore); ok && len(b.State) == len(state) {
			second.Entries[i].Body = &Restore{append(slices.Clone(state[:len(state)-1]), ^state[len(state)-1])}
		}
	}
	var d *Difference
	require.ErrorAs(t, Replay(t.Context(), second), &d)
	assert.ErrorContains(t, d, "restore succeeds")
	assert.ErrorContains(t, d, "checksum")
}

// A refused access has no entry.
func TestByteAccessesAreLoadsAndStores(t *testing.T) {
	tr := recorded(t, func(g *guest) {
		require.NoError(t, g.StoreBytes(0x80, []byte{0xc0, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0x40}))
		p := make([]byte, 4)
		require.NoError(t, g.LoadBytes(0x80, p))
		assert.Equal(t, []byte{0xc0, 0x32, 0x54, 0x76}, p)
		assert.ErrorIs(t, g.LoadBytes(0x82, p), vsmmu.ErrAccess)
		assert.ErrorIs(t, g.StoreBytes(0x20000, p), vsmmu.ErrAccess)
	})
	var accesses []Body
	for _, e := range tr.Entries {
		if e.Body.Channel().Name == "registers" {
			accesses = append(accesses, e.Body)
		}
	}
	assert.Equal(t, []Body{&Store{0x80, 8, 0x40dcba98_765432c0}, &Load{0x80, 4, 0x765432c0, false}}, accesses)
	require.NoError(t, Replay(t.Context(), tr))
}

// vCPUs submit commands under a lock, as drivers do, and poll.
func TestReplayOfConcurrentGuests(t *testing.T) {
	tr := recorded(t, func(g *guest) {
		g.attach(0x10)
		g.up()
		var queue sync.Mutex
		var all sync.WaitGroup
		for cpu := range uint64(3) {
			all.Go(func() {
				for i := range uint64(200) {
					queue.Lock()
					prod := g.submit(smmuv3.Command{0x12 | cpu<<48, i << 12}, cmdSync)
					queue.Unlock()
					for done := false; !done; {
						cons := g.r32(smmuv3.RegCMDQ_CONS)
						// A vCPU that slept for long finds that the queue has wrapped, or that it
						// is empty.
						done = (cons-prod)&0x1ff < 256 || cons == g.r32(smmuv3.RegCMDQ_PROD)
					}
					if cpu == 0 && i%8 == 0 {
						g.host.Emit(translation(0x10, i<<12))
						g.takeEvents()
					}
				}
			})
		}
		all.Wait()
	})
	require.NoError(t, Replay(t.Context(), tr))
	require.NoError(t, ReplayRestored(t.Context(), tr))
}

func TestReplayReportsTheFirstDifference(t *testing.T) {
	tr := recorded(t, session)
	for name, c := range map[string]struct {
		change func(Body) bool // changes an entry and says that it did
		words  []string
	}{
		"another value of a register": {
			func(b Body) bool {
				l, ok := b.(*Load)
				if ok = ok && l.Offset == smmuv3.RegIDR5; ok {
					l.Value ^= 0x10
				}
				return ok
			},
			[]string{"at registers", "stage: the driver probes", "load of IDR5 reads 0x64", "load of IDR5 reads 0x74"},
		},
		"another index of the event queue": {
			func(b Body) bool {
				l, ok := b.(*Load)
				if ok = ok && l.Offset == smmuv3.RegEVENTQ_PROD; ok {
					l.Value++
				}
				return ok
			},
			[]string{"load of EVENTQ_PROD reads 0x2", "load of EVENTQ_PROD reads 0x1"},
		},
		"another acknowledgement": {
			func(b Body) bool {
				l, ok := b.(*Load)
				if ok = ok && l.Offset == smmuv3.RegCR0ACK && l.Value != 0; ok {
					l.Value |= 2
				}
				return ok
			},
			[]string{"load of CR0ACK reads 0xa", "load of CR0ACK reads 0x8"},
		},
		"another stage": {
			func(b Body) bool {
				h, ok := b.(*HostBind)
				if ok = ok && h.Stage.Disposition == bridge.Translate; ok {
					h.Stage.S1ContextPtr += 0x1000
				}
				return ok
			},
			[]string{"at stream 0x10", "stage: streams are bound", "translate", "current command: CFGI_STE StreamID=0x10", "last STE read: V=0x1 Config=0x5 S1ContextPtr=0x400000"},
		},
		"another invalidation": {
			func(b Body) bool {
				h, ok := b.(*HostInvalidate)
				if ok = ok && h.Commands[0].Opcode() == smmuv3.OpTLBINHVA; ok {
					h.Commands[0][1] += 0x1000
				}
				return ok
			},
			[]string{"at host 0", "TLBI_NH_VA ASID=0x5 Addr=0x1000", "current command: SYNC"},
		},
		"another fate of a command": {
			func(b Body) bool {
				h, ok := b.(*Command)
				if ok = ok && h.Code == smmuv3.CERROR_ILL; ok {
					h.Code = smmuv3.CERROR_NONE
				}
				return ok
			},
			[]string{"at command queue", "opcode 0x99: CERROR_ILL", "illegal, the opcode is reserved"},
		},
		"another interrupt": {
			func(b Body) bool {
				h, ok := b.(*Pulse)
				if ok = ok && h.Line == vsmmu.LineCmdSync; ok {
					h.Line = vsmmu.LineGError
				}
				return ok
			},
			[]string{"line cmdq-sync", "pulse of line cmdq-sync", "recorded: nothing more"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			entries, changed := slices.Clone(tr.Entries), false
			for i := range entries {
				if b := clone(entries[i].Body); !changed && c.change(b) {
					entries[i].Body, changed = b, true
				}
			}
			require.True(t, changed)
			synctest.Test(t, func(t *testing.T) {
				err := Replay(t.Context(), &Transcript{Header: tr.Header, Entries: entries})
				var d *Difference
				require.ErrorAs(t, err, &d)
				for _, w := range c.words {
					assert.ErrorContains(t, err, w)
				}
			})
		})
	}
}

// clone returns a deep copy, made through the wire form.
func clone(b Body) Body {
	var w coder
	b.question(&w)
	b.answer(&w)
	for _, make := range kinds[1:] {
		if n := make(); reflect.TypeOf(n) == reflect.TypeOf(b) {
			r := coder{b: w.b, decode: true}
			n.question(&r)
			n.answer(&r)
			return n
		}
	}
	return nil
}

func TestReplayRestoredReportsDifferences(t *testing.T) {
	tr := recorded(t, session)
	changed := false
	for i := range tr.Entries {
		b := clone(tr.Entries[i].Body)
		if h, ok := b.(*HostInvalidate); ok && !changed && len(h.Commands) == 2 {
			h.Commands[1][1] ^= 0x1000
			tr.Entries[i].Body, changed = b, true
		}
	}
	require.True(t, changed)
	var d *Difference
	require.ErrorAs(t, ReplayRestored(t.Context(), tr), &d)
	assert.ErrorContains(t, d, "at host 0")
}

func TestReplayTimesOutOnAMissingAction(t *testing.T) {
	tr := recorded(t, func(g *guest) { g.attach(0x10) })
	i := slices.IndexFunc(tr.Entries, func(e Entry) bool { _, ok := e.Body.(*Return); return ok })
	tr.Entries = slices.Insert(tr.Entries, i, Entry{At: tr.Entries[i].At, Body: &Pulse{Line: vsmmu.LineEventQ}})
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		err := Replay(t.Context(), tr)
		assert.ErrorContains(t, err, "pulse of line eventq")
		assert.ErrorContains(t, err, "now:      nothing")
		assert.Equal(t, stall, time.Since(began), "in a synctest bubble only waiting takes time")
	})
}

func TestReplayEndsWithItsContext(t *testing.T) {
	tr := recorded(t, session)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.ErrorContains(t, Replay(ctx, tr), "enough")
}

func TestReplayStopsAtACut(t *testing.T) {
	whole := recorded(t, session)
	for _, n := range cuts(len(whole.Entries)) {
		tr := &Transcript{Header: whole.Header, Entries: whole.Entries[:n], Cut: "test"}
		require.NoError(t, Replay(t.Context(), tr), "cut after %d entries", n)
	}
}

// cuts returns some places of a sequence, the first and last ones among them.
func cuts(n int) []int {
	all := []int{0, 1, 2, 3}
	for range 60 {
		all = append(all, rand.IntN(n))
	}
	return append(all, n)
}

var update = flag.Bool("update", false, "record testdata/faults.vsmmu again")

func TestRecordFaults(t *testing.T) {
	if !*update {
		t.Skip("-update records anew")
	}
	g := newGuest(t, Options{Title: "a guest that provokes faults", Streams: map[smmuv3.StreamID]string{0x10: "plain", 0x21: "pasid"}})
	session(g)
	require.NoError(t, os.WriteFile("testdata/faults.vsmmu", g.closed(), 0o644))
}

// transcripts returns all transcripts of the repository.
func transcripts(t *testing.T) map[string]*Transcript {
	all := map[string]*Transcript{}
	for _, pattern := range []string{"testdata/*.vsmmu", "../cmd/vsmmu/internal/replay/*.vsmmu"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, name := range files {
			file, err := os.Open(name)
			require.NoError(t, err)
			tr, err := Read(file)
			require.NoError(t, errors.Join(err, file.Close()))
			require.True(t, tr.Complete(), tr.Cut)
			all[filepath.Base(name)] = tr
		}
	}
	return all
}

// Together the transcripts show every stage that a driver binds.
func TestTranscriptsShowTheStagesOfTheirGuests(t *testing.T) {
	const plain, pasid = 0x10, 0x21
	for name, want := range map[string]struct {
		sid         smmuv3.StreamID
		stages      []bridge.Disposition // without stages of a disabled SMMU, and without repetitions
		s1fmt       smmuv3.S1Fmt
		s1cdmax     uint8
		invalidates int // calls, at least
	}{
		"debian.vsmmu":                        {pasid, []bridge.Disposition{bridge.Abort, bridge.Translate}, smmuv3.S1FmtLinear, 6, 1000},
		"linux-7.3-strict.vsmmu":              {pasid, []bridge.Disposition{bridge.Abort, bridge.Translate}, smmuv3.S1FmtLinear, 6, 1000},
		"debian-6.1-lazy.vsmmu":               {plain, []bridge.Disposition{bridge.Abort, bridge.Translate}, smmuv3.S1FmtLinear, 0, 10},
		"debian-6.1-passthrough.vsmmu":        {plain, []bridge.Disposition{bridge.Abort, bridge.Bypass}, smmuv3.S1FmtLinear, 0, 1},
		"debian-6.1-two-level-cd-table.vsmmu": {pasid, []bridge.Disposition{bridge.Abort, bridge.Translate}, smmuv3.S1Fmt64K, 16, 1000},
		"debian-6.1-stall.vsmmu":              {plain, []bridge.Disposition{bridge.Abort, bridge.Translate}, smmuv3.S1FmtLinear, 0, 1000},
		"debian-6.1-stage2.vsmmu":             {plain, []bridge.Disposition{bridge.Abort, bridge.TranslateS2}, 0, 0, 300},
		"debian-6.1-rebind.vsmmu": {plain, []bridge.Disposition{
			bridge.Abort, bridge.Translate, bridge.Abort, bridge.Bypass, bridge.Abort, bridge.Translate,
		}, smmuv3.S1FmtLinear, 0, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			tr := transcripts(t)[name]
			require.NotNil(t, tr)
			var stages []bridge.Disposition
			invalidates := 0
			for _, e := range tr.Entries {
				switch b := e.Body.(type) {
				case *HostInvalidate:
					invalidates++
				case *HostBind:
					g := b.Stage
					if b.StreamID != want.sid || g.Disabled || len(stages) > 0 && stages[len(stages)-1] == g.Disposition {
						continue
					}
					stages = append(stages, g.Disposition)
					if g.Disposition.Stage1() {
						assert.Equal(t, want.s1fmt, g.S1Fmt)
						assert.Equal(t, want.s1cdmax, g.S1CDMax)
					}
				}
			}
			assert.Equal(t, want.stages, stages)
			assert.GreaterOrEqual(t, invalidates, want.invalidates)
		})
	}
	var size int64
	files, err := filepath.Glob("testdata/*.vsmmu")
	require.NoError(t, err)
	for _, name := range files {
		info, err := os.Stat(name)
		require.NoError(t, err)
		size += info.Size()
	}
	assert.Less(t, size, int64(8<<20), "every clone of the repository contains the transcripts")
}

func TestReplayOfRealGuests(t *testing.T) {
	for name, tr := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, Replay(t.Context(), tr))
		})
	}
}

func TestReplayOfRealGuestsOnRestoredDevices(t *testing.T) {
	for name, tr := range transcripts(t) {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, ReplayRestored(t.Context(), tr))
		})
	}
}

// eager is a host that reports a fault during each Invalidate and waits until the device has taken
// it, as a host that drains DMA does.
type eager struct {
	*record.Host
	fault func()
}

func (h eager) Invalidate(cmds []smmuv3.Command) error {
	var all sync.WaitGroup
	all.Go(h.fault)
	all.Wait()
	return h.Host.Invalidate(cmds)
}

// A store to EVENTQ_CONS may execute commands, and a host may execute them only after the device
// has taken its faults.
func TestRecordingDoesNotDeadlock(t *testing.T) {
	g := newGuest(t, Options{})
	var n atomic.Uint64
	h := &eager{g.host, func() { g.host.Emit(translation(0x10, n.Add(1)<<12)) }}
	require.NoError(t, g.Attach(0x10, h, "endpoint"))
	g.up()
	for range 200 {
		prod := g.submit(smmuv3.Command{0x30}, cmdSync)
		var all sync.WaitGroup
		for range 2 {
			all.Go(g.takeEvents)
			all.Go(func() { g.Store(smmuv3.RegEVENTQ_PROD, 8, g.Load(smmuv3.RegEVENTQ_PROD, 8)) })
		}
		all.Wait()
		g.poll("the commands are consumed", func() bool { return g.r32(smmuv3.RegCMDQ_CONS)&0xfffff == prod })
	}
	tr, err := Read(bytes.NewReader(g.closed()))
	require.NoError(t, err)
	require.True(t, tr.Complete())
}
