package vsmmu

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// nullHost does nothing.
type nullHost struct{}

func (nullHost) Capabilities() (bridge.Capabilities, error) {
	return bridge.Capabilities{IDs: benchIDs}, nil
}
func (nullHost) Attach(smmuv3.StreamID, bridge.Endpoint) (bridge.Stream, error) {
	return nullStream{}, nil
}
func (nullHost) Invalidate([]smmuv3.Command) error { return nil }
func (nullHost) Events(func(smmuv3.Event)) error   { return nil }
func (nullHost) SetGuestIDs(smmuv3.IDRegs) error   { return nil }
func (nullHost) Close() error                      { return nil }

type nullStream struct{}

func (nullStream) Bind(bridge.GuestStage) error { return nil }
func (nullStream) Close() error                 { return nil }

// benchIDs are the rig's, with range invalidation.
var benchIDs = func() smmuv3.IDRegs {
	c := Config{IDs: rigIDs}
	withRIL(&c)
	return c.IDs
}()

// newBench returns a device with a queue of 2^shift commands, fast memory, and a stream that
// translates.
func newBench(b *testing.B, shift uint64) (*Device, *guestmem.Slots) {
	ram := new(guestmem.Slots)
	require.NoError(b, ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, 16<<20)}))
	d, err := New(Config{IDs: benchIDs, Memory: ram, Interrupts: new(irqs)})
	require.NoError(b, err)
	b.Cleanup(func() { _ = d.Close() })
	require.NoError(b, d.Attach(mix.StreamID, nullHost{}, "disk"))
	require.NoError(b, ram.Store64(benchSTE, 0xb|0x40000))
	d.Store(smmuv3.RegSTRTAB_BASE, 8, benchTable)
	d.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 8)
	d.Store(smmuv3.RegCMDQ_BASE, 8, benchQueue|shift)
	d.Store(smmuv3.RegEVENTQ_BASE, 8, benchEvents|10)
	d.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_EVENTQEN|smmuv3.CR0_SMMUEN)
	return d, ram
}

const (
	benchTable  = 1 << 20
	benchSTE    = benchTable + smmuv3.STESize*guestmem.GPA(mix.StreamID)
	benchEvents = 2 << 20
	benchQueue  = 8 << 20
)

// BenchmarkCommands measures one store to CMDQ_PROD that adds 2^19 commands, and the wait until
// they are consumed. An op is one command.
func BenchmarkCommands(b *testing.B) {
	const shift = mix.Log2Size
	for _, m := range mix.All {
		b.Run(m.Name, func(b *testing.B) {
			d, ram := newBench(b, shift)
			require.NoError(b, ram.WriteAt(m.Fill(), benchQueue))
			b.ReportAllocs()
			b.ResetTimer()
			prod := uint64(0)
			for done := 0; done < b.N; {
				n := min(b.N-done, 1<<shift)
				prod = (prod + uint64(n)) & (1<<(shift+1) - 1)
				d.Store(smmuv3.RegCMDQ_PROD, 4, prod)
				for d.Load(smmuv3.RegCMDQ_CONS, 4) != prod {
					time.Sleep(10 * time.Microsecond)
				}
				done += n
			}
		})
	}
}

// BenchmarkCfgiSTEChanged measures a CFGI_STE of an STE that the guest has changed: one store,
// which the vCPU completes itself.
func BenchmarkCfgiSTEChanged(b *testing.B) {
	d, ram := newBench(b, 0)
	require.NoError(b, ram.Store64(benchQueue, 0x03|uint64(mix.StreamID)<<32))
	b.ReportAllocs()
	for i := uint64(0); b.Loop(); i++ {
		_ = ram.Store64(benchSTE, 0xb|0x40000|i&1<<20)
		d.Store(smmuv3.RegCMDQ_PROD, 4, (i+1)&1)
	}
}

func BenchmarkLoad(b *testing.B) {
	d, _ := newBench(b, 0)
	for b.Loop() {
		d.Load(smmuv3.RegCMDQ_CONS, 4)
	}
}

func BenchmarkStore(b *testing.B) {
	d, _ := newBench(b, 0)
	for b.Loop() {
		d.Store(smmuv3.RegEVENTQ_CONS, 4, 1)
	}
}

// BenchmarkEvent measures a host's event and its consumption by the guest.
func BenchmarkEvent(b *testing.B) {
	d, _ := newBench(b, 0)
	ev := fault(1)
	b.ReportAllocs()
	for b.Loop() {
		ev.SetInputAddr(ev.InputAddr() + 0x1000)
		d.hostEvent(ev, true)
		d.Store(smmuv3.RegEVENTQ_CONS, 4, d.Load(smmuv3.RegEVENTQ_PROD, 4))
	}
}
