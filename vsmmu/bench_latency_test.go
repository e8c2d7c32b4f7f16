package vsmmu

import (
	bit "math/bits"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// BenchmarkFullQueue measures a guest that keeps 2^19 of the most expensive commands in its queue.
// It reports how long the vCPU waits for a store to CMDQ_PROD, a load of CMDQ_CONS, and a store to
// any other register. The figures are the longest time and the 99.99th percentile. The host and the
// interrupt controller take as long as system calls do. An op is one command.
//
// The scheduler's share is included: the longest mean something on an idle machine only.
func BenchmarkFullQueue(b *testing.B) {
	const sid = uint64(mix.StreamID) << 32
	for _, w := range []struct {
		name string
		run  []smmuv3.Command
	}{
		{"CFGI_STE-changed", []smmuv3.Command{{0x03 | sid}}},
		{"CFGI_ALL-64streams-changed", []smmuv3.Command{{0x04, 31}}},
		{"TLBI_NH_VA+SYNC", []smmuv3.Command{{0x12, 0x1000}, {0x46}}},
		{"ATC_INV+SYNC", []smmuv3.Command{{0x40 | sid, 0x1000}, {0x46}}},
		{"SYNC-IRQ", []smmuv3.Command{{0x1046}}},
		{"SYNC-MSI", []smmuv3.Command{{0x1046, 0x0808_0040}}},
	} {
		b.Run(w.name, func(b *testing.B) { benchmarkFullQueue(b, w.run) })
	}
}

func benchmarkFullQueue(b *testing.B, run []smmuv3.Command) {
	const full, mask = 1 << mix.Log2Size, 1<<(mix.Log2Size+1) - 1
	mem := restless{new(guestmem.Slots)}
	require.NoError(b, mem.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	ids := benchIDs
	ids.Set(smmuv3.ATS, 1)
	d, err := New(Config{IDs: ids, Memory: mem, Interrupts: slowInterrupts{}})
	require.NoError(b, err)
	defer d.Close()
	for i := range smmuv3.StreamID(64) {
		require.NoError(b, d.Attach(mix.StreamID+i, slowHost{ids: ids}, i))
		require.NoError(b, mem.Store64(benchSTE+smmuv3.STESize*guestmem.GPA(i), 0xb|0x40000))
	}
	require.NoError(b, mem.WriteAt(mix.Mix{Commands: run}.Fill(), benchQueue))
	d.Store(smmuv3.RegSTRTAB_BASE, 8, benchTable)
	d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 8)
	d.Store(smmuv3.RegCMDQ_BASE, 8, benchQueue|mix.Log2Size)
	const enable = smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN
	d.Store(smmuv3.RegCR0, 4, enable)
	for d.Load(smmuv3.RegCR0ACK, 4) != enable {
		time.Sleep(10 * time.Microsecond)
	}
	others := []struct{ off, v uint64 }{
		{smmuv3.RegCR0, enable}, {smmuv3.RegIRQ_CTRL, 5}, {smmuv3.RegGERRORN, 0}, {smmuv3.RegGBPA, 0},
		{smmuv3.RegEVENTQ_CONS, 0}, {smmuv3.RegCMDQ_BASE, 0}, {smmuv3.RegGERROR_IRQ_CFG1, 1},
	}

	var prods, loads, stores latencies
	b.ReportAllocs()
	b.ResetTimer()
	cons := uint64(0)
	for done, i := 0, 0; done < b.N; i++ {
		prods.of(func() { d.Store(smmuv3.RegCMDQ_PROD, 4, (cons+full)&mask) })
		o := others[i%len(others)]
		stores.of(func() { d.Store(o.off, 4, o.v) })
		was := cons
		loads.of(func() { cons = d.Load(smmuv3.RegCMDQ_CONS, 4) })
		done += int((cons - was) & mask)
	}
	b.StopTimer()
	require.Zero(b, d.Load(smmuv3.RegGERROR, 4))
	for name, l := range map[string]*latencies{"prod": &prods, "load": &loads, "store": &stores} {
		b.ReportMetric(float64(l.longest), name+"-max-ns")
		b.ReportMetric(float64(l.rank(0.9999)), name+"-p99.99-ns")
	}
}

// restless is memory in which every STE reads different each time.
type restless struct{ *guestmem.Slots }

func (m restless) Slice(gpa guestmem.GPA, n int, write bool) ([]byte, error) {
	mem, err := m.Slots.Slice(gpa, n, write)
	if len(mem) == smmuv3.STESize && !write {
		mem[2] ^= 0x10 // of S1ContextPtr
	}
	return mem, err
}

// Times of a system call that makes the hardware act, and of a system call that does not.
const (
	hostTakes = 20 * time.Microsecond
	callTakes = 2 * time.Microsecond
)

func spin(t time.Duration) {
	for began := time.Now(); time.Since(began) < t; {
	}
}

type slowHost struct {
	nullHost
	ids smmuv3.IDRegs
}

func (h slowHost) Capabilities() (bridge.Capabilities, error) {
	return bridge.Capabilities{IDs: h.ids}, nil
}

func (slowHost) Attach(smmuv3.StreamID, bridge.Endpoint) (bridge.Stream, error) {
	return slowStream{}, nil
}

func (slowHost) Invalidate([]smmuv3.Command) error { spin(hostTakes); return nil }

type slowStream struct{ nullStream }

func (slowStream) Bind(bridge.GuestStage) error { spin(hostTakes); return nil }

type slowInterrupts struct{}

func (slowInterrupts) Pulse(Line) error                     { spin(callTakes); return nil }
func (slowInterrupts) SignalMSI(guestmem.GPA, uint32) error { spin(callTakes); return nil }

// latencies counts durations by their size, to one sixteenth.
type latencies struct {
	longest time.Duration
	n       int
	counts  [64 * 16]int
}

func (l *latencies) of(f func()) {
	began := time.Now()
	f()
	took := time.Since(began)
	l.longest = max(l.longest, took)
	l.n++
	l.counts[bucket(took)]++
}

// bucket returns the number of the sixteenth of a power of two that d lies in.
func bucket(t time.Duration) int {
	ns := uint64(max(t, 16))
	shift := bit.Len64(ns) - 5
	return shift*16 + int(ns>>shift)
}

// rank returns the duration that this share of them does not exceed.
func (l *latencies) rank(share float64) time.Duration {
	left := int(share * float64(l.n))
	for i, n := range l.counts {
		if left -= n; left < 0 {
			shift := max(i/16-1, 0)
			return time.Duration(i-16*shift+1) << shift
		}
	}
	return l.longest
}

// TestLatencies checks that a bucket reports at least the duration, and at most a sixteenth more.
func TestLatencies(t *testing.T) {
	for _, ns := range []time.Duration{16, 17, 31, 32, 100, 1000, 20_000, 20_001, 999_999, 1 << 40} {
		var l latencies
		l.n = 1
		l.counts[bucket(ns)]++
		require.Greater(t, l.rank(0.9999), ns-1)
		require.LessOrEqual(t, l.rank(0.9999), ns+ns/16+1)
	}
}
