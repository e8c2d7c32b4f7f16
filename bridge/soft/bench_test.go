package soft_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func plainMemory(b *testing.B) *guestmem.Slots {
	mem := new(guestmem.Slots)
	require.NoError(b, mem.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	return mem
}

// benchRig is a host on plain memory: tables at 0, 4 KiB pages from 4 MiB on.
// It maps IOVA page i to page i of 1024.
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
	store(0x30000, 0x40003, 0x41003)
	for i := range guestmem.GPA(1024) {
		store(0x40000+8*i, uint64(0x40_0000+i<<12|pageRW))
	}
	h, err := soft.New(soft.Config{Memory: mem, TLBEntries: entries})
	require.NoError(b, err)
	ep := soft.NewEndpoint()
	s, err := h.Attach(sid, ep)
	require.NoError(b, err)
	require.NoError(b, s.Bind(oneCD))
	return h, ep
}

// A figure is the best of many short runs, which neighbours on the machine have
// not disturbed; ns/op is the mean, as always.
func best(b *testing.B, f func()) {
	const run = 128
	least := time.Duration(math.MaxInt64)
	b.ReportAllocs()
	for b.Loop() {
		start := time.Now()
		for range run {
			f()
		}
		least = min(least, time.Since(start))
	}
	b.ReportMetric(float64(least.Nanoseconds())/run, "best-ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/run, "ns/op")
}

// DMA that hits, beside the copy alone.
func BenchmarkHit(b *testing.B) {
	for _, size := range []int{8, 4096} {
		p := make([]byte, size)
		b.Run(fmt.Sprintf("copy/%d", size), func(b *testing.B) {
			mem := make([]byte, 16<<20)[0x40_5000:]
			best(b, func() { guestmem.Load(p, mem) })
		})
		b.Run(fmt.Sprintf("memory/%d", size), func(b *testing.B) {
			mem := plainMemory(b)
			best(b, func() { _ = mem.ReadAt(p, 0x40_5000) })
		})
		b.Run(fmt.Sprintf("read/%d", size), func(b *testing.B) {
			_, ep := benchRig(b, 0)
			best(b, func() { _ = ep.ReadAt(p, 0x5000) })
		})
		b.Run(fmt.Sprintf("write/%d", size), func(b *testing.B) {
			_, ep := benchRig(b, 0)
			best(b, func() { _ = ep.WriteAt(p, 0x5000) })
		})
		b.Run(fmt.Sprintf("bypass/%d", size), func(b *testing.B) {
			h, _ := benchRig(b, 0)
			ep := soft.NewEndpoint()
			s, err := h.Attach(sid+1, ep)
			require.NoError(b, err)
			require.NoError(b, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
			best(b, func() { _ = ep.ReadAt(p, 0x40_5000) })
		})
	}
}

// All processors at once: with -cpu 1,2 the second line has half the ns/op of
// the first where nothing is shared.
func BenchmarkParallel(b *testing.B) {
	for _, size := range []int{8, 4096} {
		b.Run(fmt.Sprintf("read/%d", size), func(b *testing.B) {
			_, ep := benchRig(b, 0)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, size)
				for pb.Next() {
					_ = ep.ReadAt(p, 0x5000)
				}
			})
		})
	}
}

// A walk of four levels: the TLB has room for 8 of 1024 pages.
func BenchmarkMiss(b *testing.B) {
	_, ep := benchRig(b, 8)
	p := make([]byte, 8)
	i := uint64(0)
	best(b, func() {
		_ = ep.ReadAt(p, i&0x3f_f000)
		i += 37 << 12
	})
}

// Invalidations while the TLB holds 1024 translations: alone, with the wait for
// DMA under way that comes at the end, and 64 at a time. An operation is a command.
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
				least, all := time.Duration(math.MaxInt64), time.Duration(0)
				b.ReportAllocs()
				for b.Loop() {
					// What there is to withdraw has been held before. The timer runs on, or it would
					// ask for more rounds than anybody waits for.
					for i := range uint64(1024) {
						_ = ep.ReadAt(p, i<<12)
					}
					start := time.Now()
					_ = h.Invalidate(cmds)
					took := time.Since(start)
					least, all = min(least, took), all+took
				}
				commands := float64(b.N * batch)
				b.ReportMetric(float64(all.Nanoseconds())/commands, "ns/op")
				b.ReportMetric(float64(least.Nanoseconds())/float64(batch), "best-ns/op")
			})
		}
	}
}
