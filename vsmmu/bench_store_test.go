package vsmmu

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// BenchmarkOneStore measures one store to CMDQ_PROD that adds the commands that a driver sends at
// once. The vCPU executes them before the store returns. An op is one store.
func BenchmarkOneStore(b *testing.B) {
	const sid = uint64(mix.StreamID) << 32
	const controller, memory = 0x0808_0040, 0x40_0000
	for _, w := range []struct {
		name string
		run  []smmuv3.Command
	}{
		{"SYNC", []smmuv3.Command{{0x46}}},
		{"SYNC-IRQ", []smmuv3.Command{{0x1046}}},
		{"SYNC-MSI-controller", []smmuv3.Command{{0x1046, controller}}},
		{"SYNC-MSI-memory", []smmuv3.Command{{0x1046, memory}}},
		{"TLBI_NH_VA+SYNC", []smmuv3.Command{{0x12 | 7<<48, 0x1000}, {0x46}}},
		{"TLBI_NH_VA+SYNC-MSI-memory", []smmuv3.Command{{0x12 | 7<<48, 0x1000}, {0x1046, memory}}},
		{"CFGI_CD+SYNC", []smmuv3.Command{{0x05 | sid, 1}, {0x46}}},
		{"CFGI_STE+SYNC", []smmuv3.Command{{0x03 | sid, 1}, {0x46}}},
	} {
		b.Run(w.name, func(b *testing.B) {
			d, ram := newBench(b, 1)
			d.irq.out = new(lastMSI)
			for i := range guestmem.GPA(2) {
				c := w.run[int(i)%len(w.run)]
				require.NoError(b, ram.Store64(benchQueue+16*i, c[0]))
				require.NoError(b, ram.Store64(benchQueue+16*i+8, c[1]))
			}
			n := uint64(len(w.run))
			b.ReportAllocs()
			b.ResetTimer()
			prod := uint64(0)
			for range b.N {
				prod = (prod + n) & 3
				d.Store(smmuv3.RegCMDQ_PROD, 4, prod)
			}
			b.StopTimer()
			require.Equal(b, prod, d.Load(smmuv3.RegCMDQ_CONS, 4))
			b.ReportMetric(fetchTime(d, int(n)), "copy-ns")
		})
	}
}

// fetchTime returns the nanoseconds that a copy of n commands from the queue takes: the best of many.
func fetchTime(d *Device, n int) float64 {
	const times = 1000
	best := time.Duration(math.MaxInt64)
	for range 100 {
		start := time.Now()
		for range times {
			_ = d.mem.Read(d.fetched[:2*n], benchQueue)
		}
		best = min(best, time.Since(start))
	}
	return float64(best.Nanoseconds()) / times
}

// BenchmarkCfgiAll measures a CFGI_ALL for many streams with unchanged STEs: one store, and the
// wait until the worker has executed the command. An op is one stream.
func BenchmarkCfgiAll(b *testing.B) {
	for _, streams := range []int{64, 4096} {
		b.Run(fmt.Sprintf("%dstreams", streams), func(b *testing.B) {
			d, ram := newBenchStreams(b, streams)
			require.NoError(b, ram.Store64(benchQueue, 0x04))
			require.NoError(b, ram.Store64(benchQueue+8, 31))
			b.ReportAllocs()
			b.ResetTimer()
			prod := uint64(0)
			for range b.N/streams + 1 {
				prod ^= 1
				d.Store(smmuv3.RegCMDQ_PROD, 4, prod)
				for d.Load(smmuv3.RegCMDQ_CONS, 4) != prod {
					d.engine.Lock() // wait for the worker's turn
					d.turn(budget{left: 1 << 30})
					d.engine.Unlock()
				}
			}
		})
	}
}

// newBenchStreams returns a device with a queue of one command and streams from StreamID 0 on, all
// of which translate.
func newBenchStreams(b *testing.B, streams int) (*Device, *guestmem.Slots) {
	ram := new(guestmem.Slots)
	require.NoError(b, ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	d, err := New(Config{IDs: benchIDs, Memory: ram, Interrupts: new(lastMSI)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })
	for i := range streams {
		require.NoError(b, d.Attach(smmuv3.StreamID(i), nullHost{}, i))
		require.NoError(b, ram.Store64(benchTable+guestmem.GPA(i)*smmuv3.STESize, 0xb|0x40000))
	}
	d.Store(smmuv3.RegSTRTAB_BASE, 8, benchTable)
	d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 12)
	d.Store(smmuv3.RegCMDQ_BASE, 8, benchQueue)
	const enable = smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN
	d.Store(smmuv3.RegCR0, 4, enable)
	for d.Load(smmuv3.RegCR0ACK, 4) != enable {
		d.engine.Lock()
		d.turn(budget{left: 1 << 30})
		d.engine.Unlock()
	}
	return d, ram
}

// BenchmarkManyEndpoints measures what an embedder does with a device of 4096 endpoints: it attaches
// them all, the guest enables the SMMU, the embedder saves the device and resets it. An op is one
// of these steps for all endpoints.
func BenchmarkManyEndpoints(b *testing.B) {
	const streams = 4096
	b.Run("attach", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			d, err := New(Config{IDs: benchIDs, Memory: new(guestmem.Slots), Interrupts: new(lastMSI)})
			require.NoError(b, err)
			b.StartTimer()
			for i := range streams {
				_ = d.Attach(smmuv3.StreamID(i), nullHost{}, i)
			}
			b.StopTimer()
			require.Len(b, d.streams.All(), streams)
			require.NoError(b, d.Close())
		}
	})
	d, _ := newBenchStreams(b, streams)
	step := func() {
		d.engine.Lock()
		defer d.engine.Unlock()
		d.turn(budget{left: 1 << 30})
	}
	enable := func(v uint64) {
		d.Store(smmuv3.RegCR0, 4, v)
		for d.Load(smmuv3.RegCR0ACK, 4) != v {
			step()
		}
	}
	b.Run("enable", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			enable(0)
			b.StartTimer()
			enable(smmuv3.CR0_SMMUEN)
		}
	})
	b.Run("save", func(b *testing.B) {
		for range b.N {
			_, err := d.Save()
			require.NoError(b, err)
		}
	})
	b.Run("reset", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			require.NoError(b, d.Reset())
			d.Store(smmuv3.RegSTRTAB_BASE, 8, benchTable)
			d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 12)
			enable(smmuv3.CR0_SMMUEN)
			b.StartTimer()
			require.NoError(b, d.Reset())
		}
	})
}

// BenchmarkFootprint reports the memory of a device with one host and of an endpoint, in bytes.
func BenchmarkFootprint(b *testing.B) {
	var device, endpoint float64
	for range b.N {
		device, endpoint = footprint(b)
	}
	b.ReportMetric(device, "B/device")
	b.ReportMetric(endpoint, "B/endpoint")
}

// footprint returns the bytes that a device with one host takes, and those that an endpoint takes.
func footprint(t testing.TB) (device, endpoint float64) {
	const devices, endpoints = 64, 64
	inUse := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc + m.StackInuse)
	}
	ram := new(guestmem.Slots)
	all := make([]*Device, devices)
	start := inUse()
	for i := range all {
		d, err := New(Config{IDs: benchIDs, Memory: ram, Interrupts: slowInterrupts{}})
		require.NoError(t, err)
		require.NoError(t, d.Attach(0, nullHost{}, i))
		all[i] = d
	}
	one := inUse()
	for _, d := range all {
		for sid := range smmuv3.StreamID(endpoints) {
			require.NoError(t, d.Attach(sid+1, nullHost{}, sid))
		}
	}
	many := inUse()
	for _, d := range all {
		require.NoError(t, d.Close())
	}
	return (one - start) / devices, (many - one) / devices / endpoints
}

// TestDeviceIsSmall shows how much memory a device with one host takes, its goroutine included, and
// how much an endpoint.
func TestDeviceIsSmall(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	device, endpoint := footprint(t)
	assert.Less(t, device, float64(32<<10))
	assert.Less(t, endpoint, 512.0)
}
