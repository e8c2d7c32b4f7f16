package vsmmu_test

import (
	"fmt"
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

// noInterrupts drops interrupts.
type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

// BenchmarkCommandsSoft is BenchmarkCommands with a host that holds translations. No command
// concerns any of them: the cost of a command must not depend on their number.
func BenchmarkCommandsSoft(b *testing.B) {
	for _, held := range []int{0, 256, 65536} {
		for _, m := range mix.All {
			b.Run(fmt.Sprintf("%d/%s", held, m.Name), func(b *testing.B) { benchmarkSoft(b, held, m) })
		}
	}
}

func benchmarkSoft(b *testing.B, held int, m mix.Mix) {
	ram := new(guestmem.Slots)
	require.NoError(b, ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, mix.MemorySize)}))
	blocks := mix.Guest(0, max(held, 1))
	for _, block := range blocks {
		require.NoError(b, ram.WriteAt(block.Data, block.At))
	}
	require.NoError(b, ram.WriteAt(m.Fill(), mix.Queue))

	// The TLB is so large that few translations share a place.
	host, err := soft.New(soft.Config{Memory: ram, TLBEntries: 4 * held})
	require.NoError(b, err)
	defer host.Close()
	caps, err := host.Capabilities()
	require.NoError(b, err)
	ids, err := idr.Derive(idr.Policy{smmuv3.CMDQS: mix.Log2Size}, caps)
	require.NoError(b, err)
	d, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: noInterrupts{}})
	require.NoError(b, err)
	defer d.Close()
	endpoint := soft.NewEndpoint()
	require.NoError(b, d.Attach(mix.StreamID, host, endpoint))
	d.Store(smmuv3.RegSTRTAB_BASE, 8, mix.StreamTable)
	d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, mix.StreamTableLog2Size)
	d.Store(smmuv3.RegCMDQ_BASE, 8, mix.Queue|mix.Log2Size)
	d.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_SMMUEN)
	for d.Load(smmuv3.RegCR0ACK, 4) != smmuv3.CR0_CMDQEN|smmuv3.CR0_SMMUEN {
		runtime.Gosched()
	}
	var word [8]byte
	for i := range held {
		require.NoError(b, endpoint.ReadAt(word[:], uint64(i)<<12))
	}

	b.ReportAllocs()
	b.ResetTimer()
	prod := uint64(0)
	for done := 0; done < b.N; {
		n := min(b.N-done, 1<<mix.Log2Size)
		prod = (prod + uint64(n)) & (1<<(mix.Log2Size+1) - 1)
		d.Store(smmuv3.RegCMDQ_PROD, 4, prod)
		for d.Load(smmuv3.RegCMDQ_CONS, 4) != prod {
			time.Sleep(10 * time.Microsecond)
		}
		done += n
	}
	b.StopTimer()

	// The host keeps a translation after its table was cleared, unless a command invalidated it.
	tables := blocks[len(blocks)-1]
	require.NoError(b, ram.WriteAt(make([]byte, len(tables.Data)), tables.At))
	still := 0
	for i := range held {
		if endpoint.ReadAt(word[:], uint64(i)<<12) == nil {
			still++
		}
	}
	b.ReportMetric(float64(still), "held")
	require.GreaterOrEqual(b, still, held*99/100, "the commands invalidated held translations")
}
