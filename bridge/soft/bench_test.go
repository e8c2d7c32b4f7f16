package soft_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// mapped returns memory as VMMs map it: shared, and not of Go's heap.
func mapped(b *testing.B, size int) []byte {
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_SHARED)
	require.NoError(b, err)
	b.Cleanup(func() { assert.NoError(b, unix.Munmap(mem)) })
	return mem
}

func plainMemory(b *testing.B) *guestmem.Slots {
	mem := new(guestmem.Slots)
	require.NoError(b, mem.Add(guestmem.Slot{GPA: 0, Mem: mapped(b, 16<<20)}))
	return mem
}

// benchPages is the number of pages that benchRig maps: more than a micro-TLB holds.
const benchPages = 4096

// benchRig returns a host on plain memory: tables from 0 on, 4 KiB pages from 4 MiB on. It maps
// IOVA page i to page i % 1024.
func benchRig(b *testing.B, entries int) (*soft.Host, *soft.Endpoint) {
	b.Helper()
	mem := plainMemory(b)
	store := func(at guestmem.GPA, words ...uint64) {
		for i, w := range words {
			require.NoError(b, mem.Store64(at+guestmem.GPA(8*i), w))
		}
	}
	store(cdAt, cd4K, 0x10000)
	store(0x10000, 0x20003)
	store(0x20000, 0x30003)
	for i := range guestmem.GPA(benchPages) {
		store(0x30000+i/512*8, uint64(0x40003+i/512<<12))
		store(0x40000+8*i, uint64(0x40_0000+i%1024<<12|pageRW))
	}
	h, err := soft.New(soft.Config{Memory: mem, TLBEntries: entries})
	require.NoError(b, err)
	ep := soft.NewEndpoint()
	s, err := h.Attach(sid, ep)
	require.NoError(b, err)
	require.NoError(b, s.Bind(oneCD))
	return h, ep
}

// shortRun is the number of operations in a run. A figure is the best of many short runs, since
// load on the machine disturbs some of them.
const shortRun = 128

func timeRun(f func()) time.Duration {
	start := time.Now()
	for range shortRun {
		f()
	}
	return time.Since(start)
}

func perOp(run time.Duration) float64 { return float64(run.Nanoseconds()) / shortRun }

func best(b *testing.B, f func()) {
	least := time.Duration(math.MaxInt64)
	b.ReportAllocs()
	for b.Loop() {
		least = min(least, timeRun(f))
	}
	b.ReportMetric(perOp(least), "ns/op")
}

// bestOver also reports how much longer f takes than base. The two alternate.
func bestOver(b *testing.B, f, base func()) {
	least, leastBase := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
	b.ReportAllocs()
	for b.Loop() {
		least = min(least, timeRun(f))
		leastBase = min(leastBase, timeRun(base))
	}
	b.ReportMetric(perOp(least), "ns/op")
	b.ReportMetric(perOp(least-leastBase), "ns-over-copy")
}

// DMA that hits, and the copy alone. The difference is the cost of the SMMU.
func BenchmarkHit(b *testing.B) {
	_, translated := benchRig(b, 0)
	h, _ := benchRig(b, 0)
	bypass := soft.NewEndpoint()
	s, err := h.Attach(sid+1, bypass)
	require.NoError(b, err)
	require.NoError(b, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
	plain := plainMemory(b)
	for _, size := range []int{8, 4096} {
		p, mem := make([]byte, size), mapped(b, 4<<20)
		single := func() { guestmem.Load(p, mem[0x5000:]) }
		i := 0
		page := func(of int) uint64 { i++; return uint64(i%of) << 12 }
		for _, c := range []struct {
			name      string
			dma, copy func()
		}{
			{"read", func() { _ = translated.ReadAt(p, 0x5000) }, single},
			{"write", func() { _ = translated.WriteAt(p, 0x5000) }, func() { guestmem.Store(mem[0x5000:], p) }},
			{"read of 256 pages", func() { _ = translated.ReadAt(p, page(256)) }, func() { guestmem.Load(p, mem[page(256):]) }},
			{"read of 1024 pages", func() { _ = translated.ReadAt(p, page(1024)) }, func() { guestmem.Load(p, mem[page(1024):]) }},
			{"bypass", func() { _ = bypass.ReadAt(p, 0x40_5000) }, single},
			{"without an SMMU", func() { _ = plain.ReadAt(p, 0x40_5000) }, single},
		} {
			b.Run(fmt.Sprintf("%s/%d", c.name, size), func(b *testing.B) { bestOver(b, c.dma, c.copy) })
		}
	}
}

// DMA of all processors at once, and of one: of one endpoint, and of an endpoint each. If processors
// share no data, the rate grows with their number.
func BenchmarkParallel(b *testing.B) {
	const run = 20000
	all := runtime.GOMAXPROCS(0)
	h, first := benchRig(b, 0)
	one, each := []*soft.Endpoint{first}, []*soft.Endpoint{first}
	for i := 1; i < all; i++ {
		ep := soft.NewEndpoint()
		s, err := h.Attach(sid+smmuv3.StreamID(i), ep)
		require.NoError(b, err)
		require.NoError(b, s.Bind(oneCD))
		each = append(each, ep)
	}
	for _, c := range []struct {
		name string
		eps  []*soft.Endpoint
		size int
	}{
		{"read/8", one, 8},
		{"read/4096", one, 4096},
		{"read of an endpoint each/8", each, 8},
		{"read of an endpoint each/4096", each, 4096},
	} {
		b.Run(c.name, func(b *testing.B) {
			took := func(goroutines int) time.Duration {
				var ready, done sync.WaitGroup
				begin := make(chan struct{})
				for i := range goroutines {
					ep := c.eps[i%len(c.eps)]
					ready.Add(1)
					done.Go(func() {
						p := make([]byte, c.size)
						ready.Done()
						<-begin
						for range run {
							_ = ep.ReadAt(p, 0x5000)
						}
					})
				}
				ready.Wait()
				start := time.Now()
				close(begin)
				done.Wait()
				return time.Since(start)
			}
			one, many := time.Duration(math.MaxInt64), time.Duration(math.MaxInt64)
			for b.Loop() {
				one = min(one, took(1))
				many = min(many, took(all))
			}
			b.ReportMetric(float64(many.Nanoseconds())/run/float64(all), "ns/op")
			b.ReportMetric(float64(one)/float64(many)*float64(all), "x-one")
		})
	}
}

// Misses of the micro-TLB. "TLB" finds the translation there, "walk" in tables of four levels: its
// TLB has room for 8 of the pages.
func BenchmarkMiss(b *testing.B) {
	for _, c := range []struct {
		name    string
		entries int
	}{{"TLB", 4 * benchPages}, {"walk", 8}} {
		b.Run(c.name, func(b *testing.B) {
			_, ep := benchRig(b, c.entries)
			p := make([]byte, 8)
			for i := range uint64(benchPages) {
				_ = ep.ReadAt(p, i<<12)
			}
			i := uint64(0)
			best(b, func() {
				_ = ep.ReadAt(p, i&(benchPages<<12-1))
				i += 37 << 12
			})
		})
	}
}

// Indices of a ring, of a queue that is in use: the micro-TLB has the page.
func BenchmarkWord(b *testing.B) {
	_, ep := benchRig(b, 0)
	for _, size := range []int{2, 4, 8} {
		b.Run(fmt.Sprintf("Load/%d", size), func(b *testing.B) {
			best(b, func() { _, _ = ep.Load(0x5008, size) })
		})
		b.Run(fmt.Sprintf("Store/%d", size), func(b *testing.B) {
			best(b, func() { _ = ep.Store(0x5008, size, 1) })
		})
	}
}

// A scatter list of 16 words in as many pages, and the same by ReadAt.
func BenchmarkVec(b *testing.B) {
	_, ep := benchRig(b, 0)
	list := make([]soft.Vec, 16)
	for i := range list {
		list[i] = soft.Vec{IOVA: uint64(i) << 12, Buf: make([]byte, 8)}
	}
	b.Run("ReadVec", func(b *testing.B) { best(b, func() { _ = ep.ReadVec(list) }) })
	b.Run("ReadAt", func(b *testing.B) {
		best(b, func() {
			for i := range list {
				_ = ep.ReadAt(list[i].Buf, list[i].IOVA)
			}
		})
	})
}

// DMA of 64 bytes in 256 pages while another goroutine invalidates a page without a pause, and
// without that. "%-kept" is the DMA's rate with invalidations in percent of that without. Times are
// medians of runs; p99.9 is that of 16 reads, divided by 16, and that of one invalidation.
func BenchmarkInvalidating(b *testing.B) {
	const run = 20000
	_, alone := benchRig(b, 0)
	h, ep := benchRig(b, 0)
	p := make([]byte, 64)
	reads := func(ep *soft.Endpoint) (total, p999 time.Duration) {
		took := make([]time.Duration, run/16)
		start := time.Now()
		for i := range took {
			began := time.Now()
			for j := range 16 {
				_ = ep.ReadAt(p, uint64((i*16+j)%256)<<12)
			}
			took[i] = time.Since(began)
		}
		total = time.Since(start)
		slices.Sort(took)
		return total, took[len(took)*999/1000]
	}
	var free, busy, freeTails, busyTails, invalidations []time.Duration
	var stopped atomic.Bool
	for b.Loop() {
		t, tail := reads(alone)
		free, freeTails = append(free, t), append(freeTails, tail)
		var done sync.WaitGroup
		begun := make(chan struct{})
		stopped.Store(false)
		done.Go(func() {
			for page := uint64(0); !stopped.Load(); page++ {
				if page == 1 {
					close(begun)
				}
				start := time.Now()
				_ = h.Invalidate([]smmuv3.Command{{0x12 | 1<<48, page%256<<12 | 1}})
				if took := time.Since(start); len(invalidations) < 1<<20 {
					invalidations = append(invalidations, took)
				}
			}
		})
		<-begun
		t, tail = reads(ep)
		busy, busyTails = append(busy, t), append(busyTails, tail)
		stopped.Store(true)
		done.Wait()
	}
	slices.Sort(invalidations)
	b.ReportMetric(median(busy)/run, "ns/op")
	b.ReportMetric(100*median(free)/median(busy), "%-kept")
	b.ReportMetric(median(freeTails)/16, "ns-p99.9-alone")
	b.ReportMetric(median(busyTails)/16, "ns-p99.9")
	b.ReportMetric(float64(invalidations[len(invalidations)*999/1000].Nanoseconds()), "ns-p99.9-invalidation")
}

func median(took []time.Duration) float64 {
	slices.Sort(took)
	return float64(took[len(took)/2].Nanoseconds())
}

// What a host and its endpoints take: "B/host" of one that starts, "B/endpoint" of one that is
// attached and bypasses, "B/translating" of one that translates with a VMID of its own.
func BenchmarkFootprint(b *testing.B) {
	const n = 4096
	for b.Loop() {
		mem := plainMemory(b)
		before := liveHeap()
		h, err := soft.New(soft.Config{Memory: mem, IDs: soft.Stage2IDs()})
		require.NoError(b, err)
		started := liveHeap()
		streams := make([]bridge.Stream, n)
		eps := make([]*soft.Endpoint, n)
		for i := range n {
			eps[i] = soft.NewEndpoint()
			streams[i], err = h.Attach(smmuv3.StreamID(i), eps[i])
			require.NoError(b, err)
		}
		attached := liveHeap()
		for i, s := range streams {
			g := stage2(bridge.TranslateNested, s2OnePage, tableAt)
			g.S2VMID = smmuv3.VMID(i + 1)
			require.NoError(b, s.Bind(g))
		}
		b.ReportMetric(float64(started-before), "B/host")
		b.ReportMetric(float64(attached-started)/n, "B/endpoint")
		b.ReportMetric(float64(liveHeap()-attached)/n, "B/translating")
		runtime.KeepAlive(eps)
		require.NoError(b, h.Close())
	}
}

// DMA of 1 MiB in pages that are adjacent in memory, after an invalidation by address: "copy" is the
// copy alone.
func BenchmarkLarge(b *testing.B) {
	h, ep := benchRig(b, 0)
	p, mem := make([]byte, 1<<20), mapped(b, 1<<20)
	segments := make([][]byte, 0, 256)
	tlbi := []smmuv3.Command{{0x12 | 1<<48 | 15<<12 | 4<<20, 1<<10 | 1}} // 256 pages
	for _, c := range []struct {
		name string
		f    func()
	}{
		{"Map", func() {
			m, err := ep.Map(0, 1<<20, false, segments)
			if err != nil {
				b.Fatal(err)
			}
			m.Release()
		}},
		{"ReadAt", func() { _ = ep.ReadAt(p, 0) }},
		{"copy", func() { guestmem.Load(p, mem) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			least := time.Duration(math.MaxInt64)
			b.ReportAllocs()
			for b.Loop() {
				_ = h.Invalidate(tlbi)
				start := time.Now()
				c.f()
				least = min(least, time.Since(start))
			}
			b.ReportMetric(float64(least.Nanoseconds()), "ns/op")
		})
	}
}

// A read that faults, with a sink that drops the event. It allocates the *Fault that it returns, which
// the caller may keep.
func BenchmarkFault(b *testing.B) {
	h, ep := benchRig(b, 0)
	require.NoError(b, h.Events(func(smmuv3.Event) {}))
	p := make([]byte, 8)
	b.ReportAllocs()
	for b.Loop() {
		_ = ep.ReadAt(p, benchPages<<12)
	}
}

// Invalidations while the TLB holds 1024 translations, one and 64 at a time, with the wait for
// in-flight DMA at the end. An operation is a command.
func BenchmarkInvalidate(b *testing.B) {
	for _, c := range []struct {
		name string
		cmd  func(i uint64) smmuv3.Command
	}{
		{"TLBI_NH_ALL", func(uint64) smmuv3.Command { return smmuv3.Command{0x10} }},
		{"TLBI_NH_ASID", func(uint64) smmuv3.Command { return smmuv3.Command{0x11 | 1<<48} }},
		{"TLBI_NH_VA", func(i uint64) smmuv3.Command { return smmuv3.Command{0x12 | 1<<48, i << 12} }},
		{"TLBI_NH_VA range of 32", func(i uint64) smmuv3.Command {
			return smmuv3.Command{0x12 | 1<<48 | 31<<12, i<<17 | 1<<10}
		}},
		{"TLBI_NH_VAA", func(i uint64) smmuv3.Command { return smmuv3.Command{0x13, i << 12} }},
		{"TLBI_S12_VMALL", func(uint64) smmuv3.Command { return smmuv3.Command{0x28} }},
		{"CFGI_CD", func(uint64) smmuv3.Command { return smmuv3.Command{0x42_00000005} }},
	} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/batch %d", c.name, batch), func(b *testing.B) {
				h, ep := benchRig(b, 65536)
				cmds := make([]smmuv3.Command, batch)
				for i := range cmds {
					cmds[i] = c.cmd(uint64(i))
				}
				p := make([]byte, 8)
				least := time.Duration(math.MaxInt64)
				b.ReportAllocs()
				for b.Loop() {
					// Fill the TLB with the entries that the command invalidates.
					for i := range uint64(1024) {
						_ = ep.ReadAt(p, i<<12)
					}
					start := time.Now()
					_ = h.Invalidate(cmds)
					least = min(least, time.Since(start))
				}
				b.ReportMetric(float64(least.Nanoseconds())/float64(batch), "ns/op")
			})
		}
	}
}

// The cost of a stage 2: alone, and nested under a stage 1 of four levels, where each table's
// address takes a walk of three levels.
func BenchmarkStage2(b *testing.B) {
	mem := plainMemory(b)
	store := func(at guestmem.GPA, words ...uint64) {
		for i, w := range words {
			require.NoError(b, mem.Store64(at+guestmem.GPA(8*i), w))
		}
	}
	const s2At = 0x8_0000
	store(cdAt, cd4K, 0x10000)
	store(0x10000, 0x20003)
	store(0x20000, 0x30003)
	for i := range guestmem.GPA(benchPages) {
		store(0x30000+i/512*8, uint64(0x40003+i/512<<12))
		store(0x40000+8*i, uint64(0x40_0000+i%1024<<12|pageRW))
	}
	// 39 bits from level 1 on: all pages of the first 16 MiB, mapped to themselves.
	store(s2At, s2At+0x1003)
	for i := range guestmem.GPA(8) {
		store(s2At+0x1000+8*i, uint64(s2At+0x2000+i<<12|3))
	}
	for i := range guestmem.GPA(4096) {
		store(s2At+0x2000+8*i, uint64(i<<12|0x7ff))
	}
	for _, c := range []struct {
		name    string
		d       bridge.Disposition
		entries int
	}{
		{"alone, hit", bridge.TranslateS2, 4 * benchPages},
		{"alone, miss", bridge.TranslateS2, 8},
		{"nested, hit", bridge.TranslateNested, 4 * benchPages},
		{"nested, miss", bridge.TranslateNested, 8},
	} {
		b.Run(c.name, func(b *testing.B) {
			h, err := soft.New(soft.Config{Memory: mem, TLBEntries: c.entries, IDs: soft.Stage2IDs()})
			require.NoError(b, err)
			ep := soft.NewEndpoint()
			s, err := h.Attach(sid, ep)
			require.NoError(b, err)
			require.NoError(b, s.Bind(stage2(c.d, s2DW2, s2At)))
			p := make([]byte, 8)
			require.NoError(b, ep.ReadAt(p, 0))
			i := uint64(0)
			best(b, func() {
				_ = ep.ReadAt(p, i&(benchPages<<12-1))
				i += 37 << 12
			})
		})
	}
}
