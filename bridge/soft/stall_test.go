package soft_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// cdStalls is cd4K with S.
const cdStalls = cd4K | 1<<44

// stalling returns ID registers of an SMMU with at most n stalled transactions.
func stalling(n uint32) smmuv3.IDRegs {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, 0b00)
	ids.Set(smmuv3.StallMax, n)
	return ids
}

// onStalls runs a test in a bubble, on a rig whose endpoint may stall until the context ends. IOVA
// 0 to 8 KiB is not mapped. The page after it is mapped to 0x5000_0000, which holds a word.
func onStalls(t *testing.T, ids smmuv3.IDRegs, test func(t *testing.T, r *rig, give func(error))) {
	synctest.Test(t, func(t *testing.T) {
		m := newRAM(t)
		r := newRig(t, soft.Config{Memory: m, IDs: ids})
		r.guest = m
		ctx, give := context.WithCancelCause(t.Context())
		defer give(nil)
		r.ep.AllowStalls(ctx)
		r.map4K(cdStalls, 0, 0, 0x5000_0000|pageRW)
		m.SetWords(0x5000_0000, 0xfeed)
		r.bind(oneCD)
		test(t, r, give)
	})
}

// dma is an access that may block.
type dma struct {
	over bool
	word uint64
	err  error
}

// read starts a read of eight bytes, and waits until it ends or stalls.
func (r *rig) read(iova uint64) *dma {
	d := new(dma)
	go func() {
		d.word, d.err = word(r.ep, iova)
		d.over = true
	}()
	synctest.Wait()
	return d
}

// stalledAt returns F_TRANSLATION of a stalled read of the rig's stream.
func stalledAt(iova uint64, stag uint16) smmuv3.Event {
	return smmuv3.Event{0x42_00000010, 1<<41 | 1<<35 | 1<<31 | uint64(stag), iova}
}

func (r *rig) resume(stag uint16, how bridge.Resumption) {
	r.t.Helper()
	require.NoError(r.t, r.host.Resume(sid, stag, how))
	synctest.Wait()
}

// §3.12.2, §4.7.1: if CD.S is 1, a transaction that faults is reported and waits. RESUME then ends
// it.
func TestTransactionStallsUntilResumed_3_12_2(t *testing.T) {
	for _, c := range []struct {
		name string
		term uint32 // TERM_MODEL
		how  bridge.Resumption
		want uint64
		err  error
	}{
		{"retry", 0, bridge.Retry, 0xfeed, nil},
		{"abort", 0, bridge.TerminateAbort, 0, soft.ErrFault},
		{"RAZ/WI", 0, bridge.TerminateRAZWI, 0, nil},
		{"retry on an SMMU that aborts", 1, bridge.Retry, 0xfeed, nil},
		{"RAZ/WI of an SMMU that aborts", 1, bridge.TerminateRAZWI, 0, soft.ErrFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := stalling(1)
			ids.Set(smmuv3.TermModel, c.term)
			onStalls(t, ids, func(t *testing.T, r *rig, _ func(error)) {
				d := r.read(0x1008)
				require.False(t, d.over)
				require.Equal(t, []smmuv3.Event{stalledAt(0x1008, 0)}, r.taken())

				r.guest.SetWords(0x40008, 0x5000_0000|pageRW)
				r.guest.SetWords(0x5000_0008, 0xfeed)
				synctest.Wait()
				assert.False(t, d.over, "only the guest resumes it")

				r.resume(0, c.how)
				require.True(t, d.over)
				assert.ErrorIs(t, d.err, c.err)
				assert.Equal(t, c.want, d.word)
				assert.Empty(t, r.taken())
			})
		})
	}
}

// §3.12.2: a retried transaction is a new one, and may fault again.
func TestRetriedTransactionIsNew_3_12_2(t *testing.T) {
	onStalls(t, stalling(4), func(t *testing.T, r *rig, _ func(error)) {
		d := r.read(0x1008)
		for range 3 {
			e := r.taken()
			require.Len(t, e, 1)
			require.Equal(t, stalledAt(0x1008, e[0].STAG()), e[0])
			r.resume(e[0].STAG(), bridge.Retry)
			require.False(t, d.over)
		}
		// The new configuration terminates transactions.
		r.bind(bridge.GuestStage{Disposition: bridge.Abort, Cause: smmuv3.CBadSTE})
		e := r.taken()
		r.resume(e[0].STAG(), bridge.Retry)
		require.True(t, d.over)
		assert.ErrorIs(t, d.err, soft.ErrFault)
		assert.Equal(t, []smmuv3.Event{{0x42_00000004}}, r.taken())
	})
}

// A part of a DMA stalls. The data before it has moved, and the data after it follows.
func TestStallInTheMiddleOfADMA(t *testing.T) {
	onStalls(t, stalling(1), func(t *testing.T, r *rig, _ func(error)) {
		r.guest.SetWords(0x40000, 0x5000_1000|pageRW)
		r.guest.SetWords(0x5000_1ff8, 0x11)
		got := []byte{15: 0xff}
		over := start(func() { assert.NoError(t, r.ep.ReadAt(got, 0xff8)) })
		require.Equal(t, []smmuv3.Event{stalledAt(0x1000, 0)}, r.taken())
		r.guest.SetWords(0x40008, 0x5000_0000|pageRW)
		r.resume(0, bridge.Retry)
		require.True(t, over.Load())
		assert.Equal(t, []byte{0x11, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xfe, 0, 0, 0, 0, 0, 0}, got)
	})
}

// Only faults of translations stall (§3.12), and only if the device can wait. Others terminate with
// an abort and are reported, for any A and R (§3.12, the first countermeasure).
func TestFaultsThatDoNotStall_3_12(t *testing.T) {
	const fault = 0x10 // F_TRANSLATION
	forbid := oneCD
	forbid.S1STALLD = true
	for _, c := range []struct {
		name  string
		stage bridge.GuestStage
		cd    uint64
		setup func(*rig)
		want  smmuv3.Event
	}{
		{"a device that cannot wait", oneCD, cdStalls, func(r *rig) { r.ep = soft.NewEndpoint() }, smmuv3.Event{fault, 1<<41 | 1<<35, 0x1008}},
		{"without A and R", oneCD, cdStalls &^ (3 << 45), func(r *rig) { r.ep = soft.NewEndpoint() }, smmuv3.Event{fault, 1<<41 | 1<<35, 0x1008}},
		{"S is 0", oneCD, cd4K, nil, smmuv3.Event{fault, 1<<41 | 1<<35, 0x1008}},
		{"S1STALLD makes such a CD illegal", forbid, cdStalls, nil, smmuv3.Event{0x0a}},
		{"an external abort", oneCD, cdStalls, func(r *rig) { r.guest.SetWords(0x20000, 0x7000_0003) }, smmuv3.Event{0x0b, 0b01<<40 | 1<<35, 0x1008, 0x7000_0000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			onStalls(t, stalling(1), func(t *testing.T, r *rig, _ func(error)) {
				require.NoError(t, r.stream.Close())
				if c.setup != nil {
					c.setup(r)
				}
				r.guest.SetWords(cdAt, c.cd)
				var err error
				r.stream, err = r.host.Attach(sid, r.ep)
				require.NoError(t, err)
				r.bind(c.stage)
				d := r.read(0x1008)
				require.True(t, d.over)
				assert.ErrorIs(t, d.err, soft.ErrFault)
				c.want[0] |= uint64(sid) << 32
				assert.Equal(t, []smmuv3.Event{c.want}, r.taken())
			})
		})
	}
}

// §6.3.6: a transaction beyond STALL_MAX terminates, and its event has Stall = 0. STAGs are
// distinct. A STAG is used again after its answer.
func TestSTALL_MAX_6_3_6(t *testing.T) {
	onStalls(t, stalling(3), func(t *testing.T, r *rig, _ func(error)) {
		stags := map[uint16]*dma{}
		hold := func() {
			d := r.read(0x1008)
			e := r.taken()
			require.Len(t, e, 1)
			require.True(t, e[0].Stall())
			require.Nil(t, stags[e[0].STAG()], "in use")
			stags[e[0].STAG()] = d
		}
		for range 3 {
			hold()
		}
		for range 2 {
			d := r.read(0x1008)
			require.True(t, d.over)
			assert.ErrorIs(t, d.err, soft.ErrFault)
			assert.Equal(t, []smmuv3.Event{{0x42_00000010, 1<<41 | 1<<35, 0x1008}}, r.taken())
		}
		for range 5 {
			for stag, d := range stags {
				r.resume(stag, bridge.TerminateAbort)
				require.True(t, d.over)
				delete(stags, stag)
				break
			}
			hold()
		}
		require.NoError(t, r.host.TerminateStalled(sid))
		synctest.Wait()
		for _, d := range stags {
			assert.ErrorIs(t, d.err, soft.ErrFault)
		}
	})
}

// §4.7.1: a STAG is valid only with its StreamID, and for one RESUME.
func TestResumeOfAnUnknownSTAG_4_7_1(t *testing.T) {
	onStalls(t, stalling(2), func(t *testing.T, r *rig, _ func(error)) {
		other := soft.NewEndpoint()
		other.AllowStalls(t.Context())
		st, err := r.host.Attach(sid+1, other)
		require.NoError(t, err)
		require.NoError(t, st.Bind(oneCD))
		d := r.read(0x1008)
		for _, c := range []struct {
			sid  smmuv3.StreamID
			stag uint16
		}{{sid + 1, 0}, {sid + 2, 0}, {sid, 1}, {sid, 2}, {sid, 0xffff}} {
			require.NoError(t, r.host.Resume(c.sid, c.stag, bridge.Retry))
			require.NoError(t, r.host.TerminateStalled(sid+1))
		}
		synctest.Wait()
		require.False(t, d.over)
		require.Len(t, r.taken(), 1)
		r.resume(0, bridge.TerminateRAZWI)
		require.True(t, d.over)
		r.resume(0, bridge.TerminateAbort)
	})
}

// Each of these cases ends a stalled transaction.
func TestStallsEnd(t *testing.T) {
	for name, end := range map[string]func(r *rig, give func(error)){
		"CMD_STALL_TERM": func(r *rig, _ func(error)) { assert.NoError(r.t, r.host.TerminateStalled(sid)) },
		"Stream.Close":   func(r *rig, _ func(error)) { assert.NoError(r.t, r.stream.Close()) },
		"Host.Close":     func(r *rig, _ func(error)) { assert.NoError(r.t, r.host.Close()) },
		"context":        func(_ *rig, give func(error)) { give(nil) },
	} {
		t.Run(name, func(t *testing.T) {
			onStalls(t, stalling(8), func(t *testing.T, r *rig, give func(error)) {
				all := []*dma{r.read(0x1008), r.read(0x1010)}
				mapped := start(func() {
					_, err := r.ep.Map(0x1000, 64, true, nil)
					assert.ErrorIs(t, err, soft.ErrFault)
				})
				require.False(t, mapped.Load())
				end(r, give)
				synctest.Wait()
				for _, d := range all {
					require.True(t, d.over)
					assert.ErrorIs(t, d.err, soft.ErrFault)
				}
				assert.True(t, mapped.Load())
			})
		})
	}
}

// The Fault of a device that stops waiting has the reason. The transaction's STAG stays reserved
// until the guest answers it (§3.12.2). The device does not stall again until it has a new context.
func TestDeviceStopsWaiting(t *testing.T) {
	onStalls(t, stalling(2), func(t *testing.T, r *rig, give func(error)) {
		reset := errors.New("the device was reset")
		d := r.read(0x1008)
		give(reset)
		synctest.Wait()
		require.ErrorIs(t, d.err, reset)
		require.ErrorIs(t, d.err, soft.ErrFault)
		require.Len(t, r.taken(), 1)
		require.True(t, r.read(0x1008).over)
		require.False(t, r.taken()[0].Stall())

		r.ep.AllowStalls(t.Context())
		require.False(t, r.read(0x1008).over)
		require.EqualValues(t, 1, r.taken()[0].STAG())
		require.True(t, r.read(0x1008).over, "no STAG is free")
		r.resume(0, bridge.Retry)
		r.taken()
		require.False(t, r.read(0x1008).over)
		require.EqualValues(t, 0, r.taken()[0].STAG())
		require.NoError(t, r.host.TerminateStalled(sid))
	})
}

// §4.3.8, §4.7.3: invalidations neither wait for stalled transactions nor change them.
func TestInvalidationsDoNotWaitForStalls_4_3_8(t *testing.T) {
	for _, how := range []string{"read", "map"} {
		t.Run(how, func(t *testing.T) {
			onStalls(t, stalling(1), func(t *testing.T, r *rig, _ func(error)) {
				r.guest.SetWords(0x40000, 0x5000_0000|pageRW)
				stalled := start(func() {
					if how == "read" {
						assert.NoError(t, r.ep.ReadAt(make([]byte, 8192), 0))
						return
					}
					m, err := r.ep.Map(0, 8192, false, nil)
					assert.NoError(t, err)
					assert.Equal(t, byte(0x77), m.Segments[0][0], "the whole range is translated again")
					m.Release()
				})
				require.Equal(t, []smmuv3.Event{stalledAt(0x1000, 0)}, r.taken())
				began := time.Now()
				r.invalidate(smmuv3.Command{0x10}, smmuv3.Command{0x42_00000005})
				r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
				r.bind(oneCD)
				assert.Equal(t, began, time.Now(), "a wait would advance the time of the bubble")
				require.False(t, stalled.Load())

				r.guest.SetWords(0x40000, 0x5000_1000|pageRW, 0x5000_2000|pageRW)
				r.guest.SetWords(0x5000_1000, 0x77)
				r.invalidate(smmuv3.Command{0x10})
				r.resume(0, bridge.Retry)
				require.True(t, stalled.Load())
			})
		})
	}
}

// Parts of a mapping that the guest answered with RAZ/WI are scratch memory, even if later parts
// stall.
func TestMapAfterStalls(t *testing.T) {
	onStalls(t, stalling(4), func(t *testing.T, r *rig, _ func(error)) {
		var m soft.Mapping
		mapped := start(func() {
			var err error
			m, err = r.ep.Map(0xff0, 0x2010, true, nil)
			assert.NoError(t, err)
		})
		for _, at := range []uint64{0xff0, 0x1000} {
			e := r.taken()
			require.Len(t, e, 1)
			require.Equal(t, at, e[0].InputAddr())
			require.False(t, mapped.Load())
			r.resume(e[0].STAG(), bridge.TerminateRAZWI)
		}
		require.True(t, mapped.Load())
		var lengths []int
		for _, s := range m.Segments {
			lengths = append(lengths, len(s))
		}
		assert.Equal(t, []int{0x10, 0x1000, 0x1000}, lengths)
		copy(m.Segments[2], []byte{0xed, 0xfe})
		m.Release()
		assert.EqualValues(t, 0xfeed, r.guest.Words(0x5000_0000, 1)[0])
		assert.Empty(t, r.taken())
	})
}

// Words and other ports stall like any access.
func TestPortsStall(t *testing.T) {
	onStalls(t, stalling(1), func(t *testing.T, r *rig, _ func(error)) {
		p := r.ep.With(soft.Attrs{Privileged: true})
		stored := start(func() { assert.NoError(t, p.Store(0x1008, 8, 0xbeef)) })
		require.Equal(t, []smmuv3.Event{{0x42_00000010, 1<<41 | 1<<33 | 1<<31, 0x1008}}, r.taken())
		r.guest.SetWords(0x40008, 0x5000_0000|pageRW)
		r.resume(0, bridge.Retry)
		require.True(t, stored.Load())
		assert.EqualValues(t, 0xbeef, r.guest.Words(0x5000_0008, 1)[0])
	})
}

// §6.3.1, §6.3.6: the combinations of ID registers for stalls.
func TestStallIDs(t *testing.T) {
	for _, c := range []struct {
		model, most uint32
		ok          bool
	}{
		{0b01, 0, true}, {0b01, 1, false}, {0b00, 1, true}, {0b00, 0xffff, true}, {0b00, 0, false},
		{0b10, 1, true}, {0b10, 0, false}, {0b11, 1, false},
	} {
		ids := soft.DefaultIDs()
		ids.Set(smmuv3.StallModel, c.model)
		ids.Set(smmuv3.StallMax, c.most)
		_, err := soft.New(soft.Config{Memory: newRAM(t), IDs: ids})
		assert.Equal(t, c.ok, err == nil, "STALL_MODEL %#b STALL_MAX %d: %v", c.model, c.most, err)
	}
}

// §5.5: with S2S in the STE, faults of the guest's stage 2 stall. The record has the IPA.
func TestStage2Stalls_5_5(t *testing.T) {
	ids := soft.Stage2IDs()
	ids.Set(smmuv3.StallModel, 0b00)
	ids.Set(smmuv3.StallMax, 1)
	onStalls(t, ids, func(t *testing.T, r *rig, _ func(error)) {
		// 4 KiB granule, 39 bits from level 1 on, at 0x80000; a table of 2 MiB blocks.
		g := bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 1, S2: smmuv3.Stage2{
			TTB: 0x80000, T0SZ: 25, SL0: 1, PS: 5, AA64: true, S: true,
		}}
		r.guest.SetWords(0x80000, 0x90003)
		r.bind(g)
		d := r.read(0x1008)
		require.False(t, d.over)
		e := smmuv3.Event{0x42_00000010, 1<<41 | 1<<39 | 1<<35 | 1<<31, 0x1008, 0x1000}
		require.Equal(t, []smmuv3.Event{e}, r.taken())

		r.guest.SetWords(0x90000, 0x5000_0000|1<<10|0b11<<6|0b1111<<2|0b01) // AF, S2AP, Normal
		r.guest.SetWords(0x5000_1008, 0xbeef)
		r.resume(0, bridge.Retry)
		require.True(t, d.over)
		require.NoError(t, d.err)
		assert.EqualValues(t, 0xbeef, d.word)
	})
}

// Endpoints stall while the guest answers, invalidates and terminates at random. A STAG belongs to
// one transaction until it has been answered, and in the end every transaction has ended.
func TestConcurrentStalls(t *testing.T) {
	const most, rounds = 8, 300
	m := newRAM(t)
	host, err := soft.New(soft.Config{Memory: m, IDs: stalling(most)})
	require.NoError(t, err)
	type answer struct {
		sid  smmuv3.StreamID
		stag uint16
	}
	var mu sync.Mutex
	waiting := map[uint16]smmuv3.StreamID{}
	told := make(chan answer, 1<<16)
	host.Events(func(e smmuv3.Event) {
		if !e.Stall() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		assert.NotContains(t, waiting, e.STAG())
		assert.Less(t, len(waiting), most)
		waiting[e.STAG()] = e.StreamID()
		told <- answer{e.StreamID(), e.STAG()}
	})
	r := &rig{t: t, guest: m}
	r.map4K(cdStalls, 0, 0x5000_0000|pageRW)
	var streams []bridge.Stream
	var devices, guests sync.WaitGroup
	stop := make(chan struct{})
	for i := range smmuv3.StreamID(3) {
		ep := soft.NewEndpoint()
		ep.AllowStalls(t.Context())
		s, err := host.Attach(sid+i, ep)
		require.NoError(t, err)
		require.NoError(t, s.Bind(oneCD))
		streams = append(streams, s)
		for range 2 {
			devices.Go(func() {
				p := make([]byte, 16)
				for n := range rounds {
					if n%2 == 0 {
						_ = ep.ReadAt(p, 0xff8) // the first page faults, the second does not
					} else if m, err := ep.Map(0xff8, 16, false, nil); err == nil {
						m.Release()
					}
				}
			})
		}
	}
	guests.Go(func() {
		for {
			select {
			case <-stop:
				return
			case a := <-told:
				how := bridge.Resumption(rand.IntN(3))
				mu.Lock() // before the answer, since another transaction may get the STAG at once
				delete(waiting, a.stag)
				mu.Unlock()
				assert.NoError(t, host.Resume(a.sid, a.stag, how))
			}
		}
	})
	guests.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			assert.NoError(t, host.Invalidate([]smmuv3.Command{{0x10}}))
			assert.NoError(t, streams[rand.IntN(len(streams))].Bind(oneCD))
		}
	})
	devices.Wait()
	close(stop)
	guests.Wait()
	assert.Empty(t, waiting)
	require.NoError(t, host.Close())
}
