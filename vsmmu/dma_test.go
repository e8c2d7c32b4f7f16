package vsmmu_test

import (
	"encoding/binary"
	"runtime"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// TestDMAAfterSYNC_4_7_3 runs a guest that changes its tables, and sometimes disables the SMMU or
// resets the machine. During this time endpoints do DMA, other vCPUs use registers, and an endpoint
// is attached and detached. After each SYNC, DMA goes where the tables say.
func TestDMAAfterSYNC_4_7_3(t *testing.T) {
	const rounds, pages = 200, 16
	g := newDMAGuest(t, pages)
	disk, nic, usb := soft.NewEndpoint(), soft.NewEndpoint(), soft.NewEndpoint()
	require.NoError(t, g.Attach(mix.StreamID, g.host, disk))
	require.NoError(t, g.Attach(mix.StreamID+1, g.host, nic))
	g.setUp()

	over := make(chan struct{})
	var all sync.WaitGroup
	during := func(f func(i uint64)) {
		all.Go(func() {
			for i := uint64(0); ; i++ {
				select {
				case <-over:
					return
				default:
					f(i)
				}
			}
		})
	}
	var word [8]byte
	during(func(i uint64) { _ = nic.ReadAt(make([]byte, 16), i%(2*pages)<<12|8) }) // half of them faults
	during(func(i uint64) { _ = usb.WriteAt(make([]byte, 16), i%pages<<12|64) })
	during(func(i uint64) {
		if g.Attach(mix.StreamID+2, g.host, usb) != nil {
			_ = g.Detach(mix.StreamID + 2)
		}
	})
	during(func(i uint64) {
		g.Store(smmuv3.RegEVENTQ_CONS, 4, g.Load(smmuv3.RegEVENTQ_PROD, 4))
		g.Store(smmuv3.RegIRQ_CTRL, 4, i&5)
		g.Store(smmuv3.RegGERRORN, 4, g.Load(smmuv3.RegGERROR, 4))
		runtime.Gosched()
	})

	for i := range uint64(rounds) {
		if i%50 == 49 {
			require.NoError(t, g.Reset())
			require.NoError(t, disk.ReadAt(word[:], mix.Page), "GBPA bypasses")
			g.setUp()
		}
		if i%50 == 24 { // a CR0ACK and a completed Update have the effect of a SYNC (§6.3.9.6, §6.3.14)
			g.setCR0(dmaQueues)
			require.NoError(t, disk.ReadAt(word[:], mix.Page), "GBPA bypasses")
			require.Zero(t, binary.LittleEndian.Uint64(word[:]))
			g.setGBPA(smmuv3.GBPA_ABORT)
			require.ErrorIs(t, disk.ReadAt(word[:], mix.Page), soft.ErrFault, "GBPA aborts")
			g.setCR0(dmaQueues | smmuv3.CR0_SMMUEN)
			g.setGBPA(0)
		}
		page, to := i%pages, i/pages%2
		g.mapTo(page, to)
		asid := uint64(mix.HeldASID) << 48
		g.run(smmuv3.Command{0x12 | asid, page << 12}, smmuv3.Command{0x46})
		require.NoError(t, disk.ReadAt(word[:], page<<12))
		require.Equal(t, to, binary.LittleEndian.Uint64(word[:]), "round %d", i)
	}
	close(over)
	all.Wait()
	require.Error(t, nic.ReadAt(word[:], pages<<12), "the endpoint's earlier DMA may not have reached this unmapped page")
	assert.Zero(t, g.Load(smmuv3.RegGERROR, 4)&1)
	assert.NotZero(t, g.Stats().Events[vsmmu.Recorded])
}

// dmaGuest is a guest whose streams share one stage 1. It maps each page to one of two places. Each
// place contains its own number.
type dmaGuest struct {
	testing.TB
	*vsmmu.Device
	ram  *guestmem.Slots
	host *soft.Host
	last mix.Block // the tables of the last level
	prod uint64
}

func newDMAGuest(t testing.TB, pages int) *dmaGuest {
	g := &dmaGuest{TB: t, ram: new(guestmem.Slots)}
	require.NoError(t, g.ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, mix.MemorySize)}))
	for _, b := range mix.Guest(0, pages) {
		require.NoError(t, g.ram.WriteAt(b.Data, b.At))
		if b.At == mix.StreamTable+smmuv3.STESize*guestmem.GPA(mix.StreamID) {
			require.NoError(t, g.ram.WriteAt(b.Data, b.At+smmuv3.STESize))
			require.NoError(t, g.ram.WriteAt(b.Data, b.At+2*smmuv3.STESize))
		}
		g.last = b
	}
	require.NoError(t, g.ram.Store64(mix.Page+0x1000, 1))
	var err error
	g.host, err = soft.New(soft.Config{Memory: g.ram})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.host.Close() })
	caps, err := g.host.Capabilities()
	require.NoError(t, err)
	ids, err := idr.Derive(idr.Policy{}, caps)
	require.NoError(t, err)
	g.Device, err = vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: g.ram, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = g.Device.Close() })
	return g
}

func (g *dmaGuest) setUp() {
	g.Store(smmuv3.RegSTRTAB_BASE, 8, mix.StreamTable)
	g.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, mix.StreamTableLog2Size)
	g.Store(smmuv3.RegCMDQ_BASE, 8, mix.Queue|4)
	g.Store(smmuv3.RegEVENTQ_BASE, 8, mix.Queue+0x1000|4)
	g.prod = 0
	g.setCR0(dmaQueues | smmuv3.CR0_SMMUEN)
}

// dmaQueues enables the queues that the guest has.
const dmaQueues = smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN

func (g *dmaGuest) setCR0(v uint64) {
	g.Store(smmuv3.RegCR0, 4, v)
	for g.Load(smmuv3.RegCR0ACK, 4) != v {
		runtime.Gosched()
	}
}

func (g *dmaGuest) setGBPA(v smmuv3.GBPA) {
	g.Store(smmuv3.RegGBPA, 4, uint64(v|smmuv3.GBPA_Update))
	for g.Load(smmuv3.RegGBPA, 4)&uint64(smmuv3.GBPA_Update) != 0 {
		runtime.Gosched()
	}
}

func (g *dmaGuest) mapTo(page, to uint64) {
	desc := binary.LittleEndian.Uint64(g.last.Data[8*page:])
	require.NoError(g, g.ram.Store64(g.last.At+guestmem.GPA(8*page), desc+to<<12))
}

func (g *dmaGuest) run(cmds ...smmuv3.Command) {
	for _, c := range cmds {
		var p [smmuv3.CommandSize]byte
		c.Put(&p)
		require.NoError(g, g.ram.WriteAt(p[:], mix.Queue+guestmem.GPA(g.prod&15)*smmuv3.CommandSize))
		g.prod = (g.prod + 1) & 31
	}
	g.Store(smmuv3.RegCMDQ_PROD, 4, g.prod)
	for g.Load(smmuv3.RegCMDQ_CONS, 4) != g.prod {
		runtime.Gosched()
	}
}
