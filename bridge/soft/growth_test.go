package soft_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Each test here is a row of the table in docs/limits.md.

// manyStreams returns a host with attached endpoints.
func manyStreams(t *testing.T, cfg soft.Config, n int) (streams []bridge.Stream, eps []*soft.Endpoint, host *soft.Host) {
	t.Helper()
	before := liveHeap()
	host, err := soft.New(cfg)
	require.NoError(t, err)
	started := liveHeap()
	assert.Less(t, started-before, int64(128<<10), "bytes of a host that starts")
	streams, eps = make([]bridge.Stream, n), make([]*soft.Endpoint, n)
	for i := range n {
		eps[i] = soft.NewEndpoint()
		streams[i], err = host.Attach(smmuv3.StreamID(i), eps[i])
		require.NoError(t, err)
	}
	assert.Less(t, (liveHeap()-started)/int64(n), int64(512), "bytes of an endpoint")
	return streams, eps, host
}

func stage2Slots(t *testing.T) *ram {
	mem := newRAM(t)
	mem.SetWords(tableAt, 0x5000_07ff) // one page, at level 3
	return mem
}

const s2OnePage = 0x040d_00eb_0000_0000 // dw2 of an STE: 21 bits, 4 KiB, level 3

// A guest writes a VMID of its own into each of 4096 STEs, and reads by each stream.
func TestVMIDsOfManyStreamsAreBounded(t *testing.T) {
	const n = 4096
	for _, d := range []bridge.Disposition{bridge.TranslateS2, bridge.TranslateNested} {
		t.Run(d.String(), func(t *testing.T) {
			streams, eps, host := manyStreams(t, soft.Config{Memory: stage2Slots(t), IDs: soft.Stage2IDs()}, n)
			bind := func(first smmuv3.VMID) {
				for i, s := range streams {
					g := stage2(d, s2OnePage, tableAt)
					g.S2VMID = first + smmuv3.VMID(i)
					require.NoError(t, s.Bind(g))
					if d == bridge.TranslateS2 {
						require.NoError(t, eps[i].ReadAt(make([]byte, 1), 0))
					}
				}
			}
			require.NoError(t, streams[0].Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
			fillPlaces(t, eps[0])
			before := liveHeap()
			bind(1)
			held := liveHeap() - before
			assert.Less(t, held, int64(n*1024+400<<10), "the TLB, and 1 KiB for each stream")
			// Use the other VMIDs of 2^16 in place of these.
			for first := n; first < 1<<16; first += n {
				bind(smmuv3.VMID(first))
			}
			const counters = n * 8 * 64 // the goroutine may use the counters of further places (TestASIDsAreBounded)
			assert.Less(t, liveHeap()-before, held+held/4+counters)
			for _, s := range streams {
				require.NoError(t, s.Bind(bridge.GuestStage{}))
			}
			assert.Less(t, liveHeap()-before, int64(2<<20), "bytes that stay when all streams abort")
			runtime.KeepAlive(host)
		})
	}
}

// One stream uses 2^16 VMIDs, one after the other.
func TestVMIDsOfOneStreamAreBounded(t *testing.T) {
	r := newRig(t, soft.Config{Memory: stage2Slots(t), IDs: soft.Stage2IDs()})
	g := stage2(bridge.TranslateS2, s2OnePage, tableAt)
	r.bind(g)
	require.NoError(t, r.ep.ReadAt(make([]byte, 1), 0))
	before := liveHeap()
	for vmid := range 1 << 16 {
		g.S2VMID = smmuv3.VMID(vmid)
		r.bind(g)
		if vmid%16 == 0 {
			require.NoError(t, r.ep.ReadAt(make([]byte, 1), 0))
		}
	}
	// Micro-TLBs keep earlier bindings alive: at most one for each entry.
	assert.Less(t, liveHeap()-before, int64(512*guestmem.Places*256))
}

// A guest uses all ASIDs, and invalidates each.
func TestASIDsAreBounded(t *testing.T) {
	mem := newRAM(t)
	mem.SetWords(0x10000, 0x5000_0000|pageRW)
	r := newRig(t, soft.Config{Memory: mem})
	r.bind(oneCD)
	use := func(asid uint64) {
		mem.SetWords(cdAt, asid<<48|0x6205_c000_0030, 0x10000)
		r.invalidate(smmuv3.Command{0x42_00000005}, smmuv3.Command{0x11 | asid<<48})
		require.NoError(t, r.ep.ReadAt(make([]byte, 1), 0))
	}
	use(0)
	fillPlaces(t, r.ep)
	before := liveHeap()
	for asid := range uint64(1 << 16) {
		use(asid)
	}
	// The stack may move, so that the reads use the caches of further places.
	assert.Less(t, liveHeap()-before, int64(64<<10+guestmem.Places*(72<<10)))
}

// The invalidation of an ASID reaches all entries of the ASID, also if other ASIDs share its
// invalidation time.
func TestEveryASIDIsInvalidated(t *testing.T) {
	mem := newRAM(t)
	mem.SetWords(0x10000, 0x5000_0000|pageRW)
	r := newRig(t, soft.Config{Memory: mem})
	r.bind(oneCD)
	for _, asid := range []uint64{0, 1, 0xff, 0x100, 0xfff, 0x1000, 0x1001, 0xf000, 0xffff} {
		mem.SetWords(0x10000, 0x5000_0000|pageRW)
		mem.SetWords(cdAt, asid<<48|0x6205_c000_0030, 0x10000)
		r.invalidate(smmuv3.Command{0x42_00000005}, smmuv3.Command{0x10})
		require.NoError(t, r.ep.ReadAt(make([]byte, 1), 0))
		mem.SetWords(0x10000, 0)
		require.NoError(t, r.ep.ReadAt(make([]byte, 1), 0), "held")
		r.invalidate(smmuv3.Command{0x11 | asid<<48})
		assert.ErrorIs(t, r.ep.ReadAt(make([]byte, 1), 0), soft.ErrFault, "ASID %#x", asid)
	}
}

// A guest gives each of 1024 streams a table of 2^20 CDs, and uses 64 of them.
func TestCachedCDsAreBounded(t *testing.T) {
	const n = 1024
	mem := newRAM(t)
	const cd = 0x2_0000
	for i := range guestmem.GPA(64) {
		mem.SetWords(cd+64*i, 0x0001_6205_c000_0030, 0x10000)
	}
	mem.SetWords(0x10000, 0x5000_0000|pageRW)
	streams, eps, host := manyStreams(t, soft.Config{Memory: mem}, n)
	before := liveHeap()
	use := func() {
		for i, s := range streams {
			require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cd, S1CDMax: 6}))
			for ssid := range smmuv3.SubstreamID(64) {
				p := eps[i].With(soft.Attrs{Substream: ssid, HasSubstream: true})
				require.NoError(t, p.ReadAt(make([]byte, 1), 0))
			}
		}
	}
	use()
	held := liveHeap() - before
	assert.Less(t, held, int64(n*1024+4096*512+400<<10))
	use()
	assert.Less(t, liveHeap()-before, held+held/4, "stages that are bound again")
	runtime.KeepAlive(host)
}

// DMA from any number of goroutines fills at most the caches of each place.
func TestMicroTLBsAreBounded(t *testing.T) {
	mem := newRAM(t)
	r := newRig(t, soft.Config{Memory: mem})
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	before := liveHeap()
	for range 4 {
		var wg sync.WaitGroup
		for range 256 {
			wg.Go(func() {
				for i := range uint64(256) {
					assert.NoError(t, r.ep.ReadAt(make([]byte, 1), i<<12))
				}
			})
		}
		wg.Wait()
	}
	assert.Less(t, liveHeap()-before, int64(guestmem.Places*(72<<10)+256<<10))
}

// At most STALL_MAX transactions are stalled, even if the guest answers none.
func TestStalledTransactionsAreBounded(t *testing.T) {
	r := newRig(t, soft.Config{IDs: everything()})
	r.map4K(cd4K | 1<<44)
	r.bind(oneCD)
	r.ep.AllowStalls(t.Context())
	over := make(chan error, 64)
	for range 64 {
		go func() { _, err := word(r.ep, 0); over <- err }()
	}
	for range 64 - 4 {
		assert.ErrorIs(t, <-over, soft.ErrFault)
	}
	require.NoError(t, r.stream.Close())
	for range 4 {
		<-over
	}
}

// A device that never returns from ATS.Invalidate holds at most four goroutines, even if it is
// reset repeatedly.
func TestLateATCInvalidationsAreBounded(t *testing.T) {
	r := newRig(t, soft.Config{IDs: withATS(), ATCTimeout: time.Millisecond})
	never := make(chan struct{})
	defer close(never)
	before := runtime.NumGoroutine()
	all := smmuv3.NewATCInvAll(sid)
	for range 20 {
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { <-never }})
		assert.ErrorIs(t, r.host.Invalidate(all[:1]), bridge.ErrATCTimeout)
		_, err := r.ep.Translate(0, false)
		assert.ErrorIs(t, err, soft.ErrFault, "the host isolates the endpoint from ATS")
	}
	assert.LessOrEqual(t, runtime.NumGoroutine()-before, 4+1)
}

// An ATC that timed out once works again after the device's reset.
func TestATCWorksAgainAfterATimeout(t *testing.T) {
	r := newRig(t, soft.Config{IDs: withATS(), ATCTimeout: 20 * time.Millisecond})
	all := smmuv3.NewATCInvAll(sid)
	for range 6 {
		hold, back := make(chan struct{}), make(chan struct{})
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) { <-hold; close(back) }})
		assert.ErrorIs(t, r.host.Invalidate(all[:1]), bridge.ErrATCTimeout)
		close(hold)
		<-back
		sleep()
		r.ep.EnableATS(soft.ATS{Invalidate: func(soft.ATCRange) {}})
		require.NoError(t, r.host.Invalidate(all[:1]))
	}
}

// Page requests and responses do not increase the memory in use.
func TestPageRequestsTakeNoMemory(t *testing.T) {
	r := newRig(t, soft.Config{IDs: withATS()})
	r.ep.EnableATS(soft.ATS{Respond: func(bridge.PageResponse) {}})
	require.NoError(t, r.host.PageRequests(func(smmuv3.PageRequest) {}))
	before := liveHeap()
	for i := range 20000 {
		require.NoError(t, r.ep.RequestPage(smmuv3.PageRequest{}))
		require.NoError(t, r.host.Respond(bridge.PageResponse{StreamID: sid + smmuv3.StreamID(i%2), PRGIndex: uint16(i)}))
	}
	assert.Less(t, liveHeap()-before, int64(64<<10))
}
