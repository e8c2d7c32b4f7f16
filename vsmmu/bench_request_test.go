package vsmmu_test

import (
	"encoding/binary"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

const (
	requestLog2 = 3
	requestMSI  = mix.Page + 0x800
	syncByMSI   = 0x1046 // CMD_SYNC with CS = SIG_IRQ
)

// copyTime returns the nanoseconds that a copy of the block to guest memory takes, page by page as a
// device's DMA does: the best of several.
func copyTime(ram *guestmem.Slots, block []byte) float64 {
	best := time.Duration(math.MaxInt64)
	for range 100 {
		start := time.Now()
		for page := 0; page < len(block); page += 4096 {
			_ = ram.WriteAt(block[page:page+4096], mix.Page)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds())
}

// newRequestBench returns a device with bridge/soft, a stream that maps pages of IOVA 0 on, and a
// queue of 2^requestLog2 commands.
func newRequestBench(b *testing.B, pages int) (*vsmmu.Device, *soft.Endpoint, *guestmem.Slots) {
	ram := new(guestmem.Slots)
	require.NoError(b, ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, mix.MemorySize)}))
	for _, block := range mix.Guest(0, pages) {
		require.NoError(b, ram.WriteAt(block.Data, block.At))
	}
	host, err := soft.New(soft.Config{Memory: ram})
	require.NoError(b, err)
	b.Cleanup(func() { _ = host.Close() })
	caps, err := host.Capabilities()
	require.NoError(b, err)
	ids, err := idr.Derive(idr.Policy{smmuv3.MSI: 1, smmuv3.RIL: 1}, caps)
	require.NoError(b, err)
	d, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: noInterrupts{}})
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })
	endpoint := soft.NewEndpoint()
	require.NoError(b, d.Attach(mix.StreamID, host, endpoint))
	d.Store(smmuv3.RegSTRTAB_BASE, 8, mix.StreamTable)
	d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, mix.StreamTableLog2Size)
	d.Store(smmuv3.RegCMDQ_BASE, 8, mix.Queue|requestLog2)
	d.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_SMMUEN)
	for d.Load(smmuv3.RegCR0ACK, 4) != smmuv3.CR0_CMDQEN|smmuv3.CR0_SMMUEN {
		runtime.Gosched()
	}
	return d, endpoint, ram
}

// BenchmarkOneStoreSoft is BenchmarkOneStore with bridge/soft, which holds a translation.
func BenchmarkOneStoreSoft(b *testing.B) {
	const sid = uint64(mix.StreamID) << 32
	for _, w := range []struct {
		name string
		run  []smmuv3.Command
	}{
		{"TLBI_NH_VA+SYNC", []smmuv3.Command{{0x12 | 7<<48, 0x1000}, {0x46}}},
		{"TLBI_NH_VA+SYNC-MSI-memory", []smmuv3.Command{{0x12 | 7<<48, 0x1000}, {syncByMSI, requestMSI}}},
		{"CFGI_STE+SYNC", []smmuv3.Command{{0x03 | sid, 1}, {0x46}}},
	} {
		b.Run(w.name, func(b *testing.B) {
			d, endpoint, ram := newRequestBench(b, 1)
			require.NoError(b, endpoint.ReadAt(make([]byte, 8), 0))
			q := commandQueue{b, d, ram, 0}
			for range 1 << requestLog2 / len(w.run) {
				q.run(w.run...)
			}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				q.add(len(w.run)) // the queue has the commands already
			}
		})
	}
}

// commandQueue adds commands as a driver does, with one store.
type commandQueue struct {
	b    *testing.B
	d    *vsmmu.Device
	ram  *guestmem.Slots
	prod uint64
}

func (q *commandQueue) run(run ...smmuv3.Command) {
	for i, c := range run {
		at := mix.Queue + guestmem.GPA((q.prod+uint64(i))%(1<<requestLog2))*smmuv3.CommandSize
		_ = q.ram.Store64(at, c[0])
		_ = q.ram.Store64(at+8, c[1])
	}
	q.add(len(run))
}

// add adds the next n commands of the queue, and expects the vCPU to have executed them.
func (q *commandQueue) add(n int) {
	q.prod = (q.prod + uint64(n)) % (2 << requestLog2)
	q.d.Store(smmuv3.RegCMDQ_PROD, 4, q.prod)
	if cons := q.d.Load(smmuv3.RegCMDQ_CONS, 4); cons != q.prod {
		q.b.Fatalf("CMDQ_CONS is %#x, want %#x", cons, q.prod)
	}
}

// BenchmarkRequest measures the cost of a read of a disk behind bridge/soft, with a driver that
// unmaps strictly. The device reads the request's header, and writes the data and a status byte.
// The driver then unmaps the three pieces. For each it sends a TLBI and a CMD_SYNC that signals by
// an MSI to memory, with one store. copy-ns is the time of the copies alone.
func BenchmarkRequest(b *testing.B) {
	for _, w := range []struct {
		name  string
		bytes int
	}{{"4KiB", 4 << 10}, {"1MiB", 1 << 20}} {
		b.Run(w.name, func(b *testing.B) {
			const header, status, data = 0, 1 << 12, 2 << 12
			pages := w.bytes >> 12
			d, endpoint, ram := newRequestBench(b, pages+2)
			q := commandQueue{b, d, ram, 0}
			unmap := func(iova uint64, pages int) {
				c := smmuv3.NewTLBINHVA(0, mix.HeldASID, iova, true)
				if pages > 1 {
					c = c.WithRange(smmuv3.Granule4K, uint(pages/256-1), 8, 3)
				}
				q.run(c, smmuv3.Command{syncByMSI, requestMSI})
			}
			var word [16]byte
			var ok [1]byte
			block := make([]byte, w.bytes)
			b.SetBytes(int64(w.bytes))
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				_ = endpoint.ReadAt(word[:], header)
				_ = endpoint.WriteAt(block, data)
				_ = endpoint.WriteAt(ok[:], status)
				unmap(header, 1)
				unmap(data, pages)
				unmap(status, 1)
			}
			b.StopTimer()
			b.ReportMetric(copyTime(ram, block), "copy-ns")
			require.NoError(b, endpoint.ReadAt(word[:], header))
			require.NoError(b, endpoint.WriteAt(block, data))
			require.Zero(b, binary.LittleEndian.Uint64(word[:8]))
		})
	}
}
