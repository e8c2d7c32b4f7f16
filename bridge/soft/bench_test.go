package soft_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// benchRig is a host on plain memory: tables at 0, 4 KiB pages from 4 MiB on.
// It maps IOVA page i to page i of 1024.
func benchRig(b *testing.B, entries int) (*soft.Host, *soft.Endpoint) {
	b.Helper()
	var mem guestmem.Slots
	require.NoError(b, mem.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
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
	h, err := soft.New(soft.Config{Memory: &mem, TLBEntries: entries})
	require.NoError(b, err)
	ep := soft.NewEndpoint()
	s, err := h.Attach(sid, ep)
	require.NoError(b, err)
	require.NoError(b, s.Bind(oneCD))
	return h, ep
}

func BenchmarkRead(b *testing.B) {
	for _, size := range []int{8, 4096} {
		b.Run(fmt.Sprintf("hit/%d", size), func(b *testing.B) {
			_, ep := benchRig(b, 0)
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_ = ep.ReadAt(p, 0x5000)
			}
		})
		b.Run(fmt.Sprintf("hit/%d/parallel", size), func(b *testing.B) {
			_, ep := benchRig(b, 0)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				p := make([]byte, size)
				for pb.Next() {
					_ = ep.ReadAt(p, 0x5000)
				}
			})
		})
		b.Run(fmt.Sprintf("bypass/%d", size), func(b *testing.B) {
			h, _ := benchRig(b, 0)
			ep := soft.NewEndpoint()
			s, err := h.Attach(sid+1, ep)
			require.NoError(b, err)
			require.NoError(b, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
			p := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_ = ep.ReadAt(p, 0x405000)
			}
		})
	}
}

// A walk of four levels: the TLB has room for 8 of 1024 pages.
func BenchmarkReadMiss(b *testing.B) {
	_, ep := benchRig(b, 8)
	p := make([]byte, 8)
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i += 37 << 12 {
		_ = ep.ReadAt(p, i&0x3f_f000)
	}
}

// Batches of 64 commands, with a TLB that holds 1024 translations or none; the
// figure is for one command.
func BenchmarkInvalidate(b *testing.B) {
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
	}{
		{"TLBI_NH_ALL", smmuv3.Command{0x10}},
		{"TLBI_NH_ASID", smmuv3.Command{0x11 | 1<<48}},
		{"TLBI_NH_VA", smmuv3.Command{0x12 | 1<<48, 0x5000}},
		{"TLBI_NH_VA range of 32", smmuv3.Command{0x12 | 1<<48 | 31<<12, 0x5000 | 1<<10}},
		{"TLBI_NH_VAA", smmuv3.Command{0x13, 0x5000}},
		{"CFGI_CD", smmuv3.Command{0x42_00000005}},
	} {
		for _, batch := range []int{1, 64} {
			b.Run(fmt.Sprintf("%s/batch %d", c.name, batch), func(b *testing.B) {
				h, ep := benchRig(b, 65536)
				p := make([]byte, 8)
				for i := range uint64(1024) {
					_ = ep.ReadAt(p, i<<12)
				}
				cmds := make([]smmuv3.Command, batch)
				for i := range cmds {
					cmds[i] = c.cmd
				}
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					_ = h.Invalidate(cmds)
					n += batch
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/command")
			})
		}
	}
}
