package soft_test

import (
	"encoding/json"
	"sync"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestStatsCountEachKindOfDMA shows the counts that each access adds, on memory with and without
// slices.
func TestStatsCountEachKindOfDMA(t *testing.T) {
	for name, mapped := range map[string]bool{"mapped": true, "unmapped": false} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			if mapped {
				r, _ = newMappedRig(t, soft.Config{})
			}
			r.map4K(cd4K, 0x5000_0000|pageRW, 0x5000_1000|pageRW)
			r.bind(oneCD)
			type stats = soft.EndpointStats
			var total stats
			step := func(name string, want stats, dma func() error) {
				t.Helper()
				require.NoError(t, dma(), name)
				total.Transactions += want.Transactions
				total.BytesRead += want.BytesRead
				total.BytesWritten += want.BytesWritten
				total.Misses += want.Misses
				assert.Equal(t, total, r.ep.Stats(), name)
			}
			p := make([]byte, 0x1000)
			step("first read", stats{Transactions: 1, BytesRead: 8, Misses: 1}, func() error { return r.ep.ReadAt(p[:8], 0) })
			step("hit", stats{Transactions: 1, BytesRead: 8}, func() error { return r.ep.ReadAt(p[:8], 0x10) })
			step("two pages", stats{Transactions: 2, BytesRead: 0x1000, Misses: 1}, func() error { return r.ep.ReadAt(p, 0x800) })
			step("write", stats{Transactions: 1, BytesWritten: 4}, func() error { return r.ep.WriteAt(p[:4], 0x20) })
			step("nothing", stats{}, func() error { return r.ep.WriteAt(nil, 0x20) })
			step("word", stats{Transactions: 1, BytesRead: 2}, func() error {
				_, err := r.ep.Load(0x40, 2)
				return err
			})
			if mapped {
				step("map", stats{Transactions: 2, BytesWritten: 0x2000}, func() error {
					m, err := r.ep.Map(0, 0x2000, true, nil)
					m.Release()
					return err
				})
			}
			require.Error(t, r.ep.ReadAt(p[:8], 0x2000))
			total.Misses++
			total.Faults++
			_, err := r.ep.Load(1, 2)
			require.Error(t, err)
			total.Faults++
			assert.Equal(t, total, r.ep.Stats(), "faults")
			assert.Equal(t, soft.Stats{Endpoints: map[smmuv3.StreamID]stats{sid: total}}, r.host.Stats())

			text, err := json.Marshal(r.host.Stats())
			require.NoError(t, err)
			assert.Contains(t, string(text), `{"endpoints":{"66":{"transactions":`)
			require.NoError(t, r.stream.Close())
			require.ErrorIs(t, r.ep.WriteAt(p, 0), soft.ErrNotAttached)
			total.Faults++
			assert.Equal(t, total, r.ep.Stats(), "a detached endpoint keeps its counts")
			assert.Empty(t, r.host.Stats().Endpoints)
		})
	}
	assert.Zero(t, (*soft.Endpoint)(nil).Stats())
	assert.Empty(t, (*soft.Host)(nil).Stats().Endpoints)
}

// TestStatsCountTranslatedDMA shows that accesses of an ATC count, and failed translation requests.
func TestStatsCountTranslatedDMA(t *testing.T) {
	r := newATSRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.bind(atsCD)
	tr, err := r.ep.Translate(0, true)
	require.NoError(t, err)
	require.NoError(t, r.ep.WriteTranslated(make([]byte, 8), tr.Addr))
	require.NoError(t, r.ep.ReadTranslated(make([]byte, 16), tr.Addr))
	r.bind(oneCD)
	_, err = r.ep.Translate(0, false)
	require.Error(t, err)
	assert.Equal(t, soft.EndpointStats{Transactions: 2, BytesRead: 16, BytesWritten: 8, Faults: 1}, r.ep.Stats())
}

// TestStatsLoseNoTransaction shows that the counts are exact with more goroutines than sections
// have places, while Stats is called.
func TestStatsLoseNoTransaction(t *testing.T) {
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.bind(oneCD)
	const goroutines, times = 2 * guestmem.Places, 500
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			var p [8]byte
			for range times {
				_ = r.ep.ReadAt(p[:], 0x10)
				_ = r.ep.WriteAt(p[:4], 0x20)
				m, err := r.ep.Map(0x40, 16, false, nil)
				if err == nil {
					m.Release()
				}
			}
		})
	}
	for range 100 {
		_ = r.host.Stats()
	}
	wg.Wait()
	s := r.ep.Stats()
	assert.EqualValues(t, 3*goroutines*times, s.Transactions)
	assert.EqualValues(t, 24*goroutines*times, s.BytesRead)
	assert.EqualValues(t, 4*goroutines*times, s.BytesWritten)
	assert.Zero(t, s.Faults)
}

// TestCountersOfAnEndpointAreBounded shows that an endpoint that does no DMA has no counters, and
// that counting allocates nothing once a place has been used.
func TestCountersOfAnEndpointAreBounded(t *testing.T) {
	r, _ := newMappedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.bind(oneCD)
	var p [8]byte
	require.NoError(t, r.ep.ReadAt(p[:], 0))
	assert.Zero(t, testing.AllocsPerRun(1000, func() { _ = r.ep.ReadAt(p[:], 0) }))
	assert.LessOrEqual(t, int(unsafe.Sizeof(*r.ep)), 64)
}
