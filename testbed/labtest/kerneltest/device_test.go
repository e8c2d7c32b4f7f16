//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

// guestDriver drives a virtual device by registers and memory, as a guest does. It writes the words
// of the stream table, queues, CD and translation tables by the specification.
type guestDriver struct {
	*kernelRig
	smmu  *vsmmu.Device
	prod  uint64
	tries int
}

const (
	strtab   = ram            // linear, 2^4 STEs
	cmdq     = ram + 0x1_0000 // 2^8 commands
	eventq   = ram + 0x2_0000 // 2^8 records
	cdAt     = ram + 0x3_0000
	ttb      = ram + 0x4_0000 // levels 1, 2 and 3, a page each
	pageA    = ram + 0x5_0000
	pageB    = ram + 0x5_1000
	driverID = 5
	iova     = 0x8000_1000
)

func (g *guestDriver) put(at guestmem.GPA, words ...uint64) {
	g.t.Helper()
	for i, w := range words {
		require.NoError(g.t, g.WriteAt(binary.LittleEndian.AppendUint64(nil, w), at+guestmem.GPA(8*i)))
	}
}

// tables writes a CD and translation tables that map iova to pageA.
func (g *guestDriver) tables() {
	g.t.Helper()
	g.put(pageA, make([]uint64, 2*512)...)
	g.put(ttb, make([]uint64, 3*512)...)
	g.put(ttb+2*8, uint64(ttb)+0x1000|3)
	g.put(ttb+0x1000, uint64(ttb)+0x2000|3)
	g.leaf(pageA)
	// T0SZ 25, TG0 4 KiB, write-back, inner shareable, EPD1, V, IPS 44 bits, AA64, R, A, ASID 1;
	// TTB0; MAIR.
	g.put(cdAt, 25|1<<8|1<<10|3<<12|1<<30|1<<31|4<<32|1<<41|1<<45|1<<46|1<<48, uint64(ttb), 0, 0xff)
}

// reaches reports whether a write of the device to iova reaches a page.
func (g *guestDriver) reaches(page guestmem.GPA) bool {
	g.t.Helper()
	g.tries++
	want := fmt.Appendf(nil, "DMA number %3d", g.tries)
	require.NoError(g.t, attempted(g.dma(g.ends[0], true, iova, want)))
	got := make([]byte, len(want))
	require.NoError(g.t, g.ReadAt(got, page))
	return string(want) == string(got)
}

// leaf maps iova to a page: AttrIndx 0, SH inner, AF, nG, readable and writable for everyone.
func (g *guestDriver) leaf(page guestmem.GPA) { g.put(ttb+0x2000+1*8, uint64(page)|0xf43) }

func (g *guestDriver) command(cmds ...smmuv3.Command) {
	g.t.Helper()
	for _, c := range append(cmds, smmuv3.Command{0x46}) {
		g.put(cmdq+guestmem.GPA(g.prod%256*16), c[0], c[1])
		g.prod++
	}
	g.smmu.Store(smmuv3.RegCMDQ_PROD, 4, g.prod%512)
	require.Eventually(g.t, func() bool { return g.smmu.Load(smmuv3.RegCMDQ_CONS, 4) == g.prod%512 }, 2*time.Minute, time.Millisecond,
		"CMDQ_CONS %#x GERROR %#x", g.smmu.Load(smmuv3.RegCMDQ_CONS, 4), g.smmu.Load(smmuv3.RegGERROR, 4))
}

// newGuestDriver attaches the first device to an SMMU with the host's features.
func newGuestDriver(t *testing.T) *guestDriver {
	t.Helper()
	r := newKernelRig(t)
	caps, err := r.host.Capabilities()
	require.NoError(t, err)
	ids, err := idr.Derive(nil, caps)
	require.NoError(t, err)
	t.Logf("the guest's IDR0 to IDR5 %08x AIDR %x", ids.IDs.IDR, ids.IDs.AIDR)
	return attachedGuestDriver(t, r, ids.IDs)
}

func attachedGuestDriver(t *testing.T, r *kernelRig, ids smmuv3.IDRegs) *guestDriver {
	t.Helper()
	smmu, err := vsmmu.New(vsmmu.Config{IDs: ids, Memory: r, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	// Cleanups run last in, first out: the SMMU is closed before the rig's host.
	t.Cleanup(func() { assert.NoError(t, smmu.Close()) })
	require.NoError(t, smmu.Attach(driverID, r.host, r.ends[0]))
	return &guestDriver{kernelRig: r, smmu: smmu}
}

// enable initialises the SMMU as a driver does. Stage 1 then translates for the device.
func (g *guestDriver) enable() {
	g.t.Helper()
	g.put(strtab, make([]uint64, 16*8)...)
	g.tables()
	// V, Config 101, S1ContextPtr; S1CIR, S1COR write-back, S1CSH inner.
	g.put(strtab+driverID*64, 1|5<<1|uint64(cdAt), 1<<2|1<<4|3<<6)

	g.smmu.Store(smmuv3.RegSTRTAB_BASE, 8, uint64(strtab))
	g.smmu.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 4)
	g.smmu.Store(smmuv3.RegCMDQ_BASE, 8, uint64(cmdq)|8)
	g.smmu.Store(smmuv3.RegEVENTQ_BASE, 8, uint64(eventq)|8)
	g.smmu.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_EVENTQEN)
	g.command(smmuv3.Command{0x04, 31}, smmuv3.Command{0x30}) // CFGI_ALL, TLBI_NSNH_ALL
	g.smmu.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_EVENTQEN|smmuv3.CR0_SMMUEN)
	require.Eventually(g.t, func() bool { return g.smmu.Load(smmuv3.RegCR0ACK, 4) == g.smmu.Load(smmuv3.RegCR0, 4) },
		2*time.Minute, time.Millisecond)
}

// remap maps iova to another page, or to none if page is 0.
func (g *guestDriver) remap(page guestmem.GPA) {
	g.t.Helper()
	if page == 0 {
		g.put(ttb+0x2000+1*8, 0)
	} else {
		g.leaf(page)
	}
	g.command(smmuv3.Command{0x12 | 1<<48, iova | 1}) // TLBI_NH_VA
}

// faults makes the device write to iova, which is not mapped, and consumes the event.
func (g *guestDriver) faults() smmuv3.Event {
	g.t.Helper()
	before := g.smmu.Load(smmuv3.RegEVENTQ_PROD, 4)
	assert.False(g.t, g.reaches(pageB), "iova is not mapped")
	require.Eventually(g.t, func() bool { return g.smmu.Load(smmuv3.RegEVENTQ_PROD, 4) != before }, 2*time.Minute, time.Millisecond)
	var record [smmuv3.EventSize]byte
	require.NoError(g.t, g.ReadAt(record[:], eventq+guestmem.GPA(before%256*smmuv3.EventSize)))
	g.smmu.Store(smmuv3.RegEVENTQ_CONS, 4, g.smmu.Load(smmuv3.RegEVENTQ_PROD, 4))
	e := smmuv3.LoadEvent(&record)
	g.t.Log(e)
	return e
}

// A guest's driver configures the device. DMA follows the guest's tables, and the guest gets a
// fault as an event.
func TestKernelDriverConfiguresDevice(t *testing.T) {
	g := newGuestDriver(t)
	assert.False(t, g.reaches(pageA), "SMMUEN = 0 bypasses, and there is no memory at this address")
	g.enable()
	assert.True(t, g.reaches(pageA))

	g.remap(pageB)
	assert.True(t, g.reaches(pageB))
	assert.False(t, g.reaches(pageA))

	g.remap(0)
	e := g.faults()
	assert.Equal(t, smmuv3.FTranslation, e.Type())
	assert.EqualValues(t, driverID, e.StreamID())
	assert.EqualValues(t, iova, e.InputAddr())

	g.leaf(pageA)
	g.put(strtab+driverID*64, 0)
	g.command(smmuv3.Command{0x03 | driverID<<32, 1}) // CFGI_STE
	assert.False(t, g.reaches(pageA), "STE.V = 0")
}

// A guest migrates: its memory and the saved SMMU are restored on another host, and DMA and faults
// continue without the guest's help.
func TestKernelSavedSMMUContinuesOnAnotherHost(t *testing.T) {
	needsLab(t)
	var (
		memory, state []byte
		prod          uint64
		tries         int
	)
	t.Run("source", func(t *testing.T) {
		g := newGuestDriver(t)
		g.enable()
		require.True(t, g.reaches(pageA))
		g.remap(0)
		g.faults()
		g.remap(pageA)
		var err error
		state, err = g.smmu.Save()
		require.NoError(t, err)
		memory, prod, tries = bytes.Clone(g.ram[:g.used.Load()]), g.prod, g.tries
	})
	t.Run("destination", func(t *testing.T) {
		require.NotEmpty(t, state)
		r := newKernelRig(t)
		require.NoError(t, r.WriteAt(memory, ram))
		ids, err := vsmmu.SavedIDs(state)
		require.NoError(t, err)
		g := attachedGuestDriver(t, r, ids)
		require.NoError(t, g.smmu.Restore(state))
		g.prod, g.tries = prod, tries
		assert.True(t, g.reaches(pageA))

		g.remap(pageB)
		assert.True(t, g.reaches(pageB))
		assert.False(t, g.reaches(pageA))
		g.remap(0)
		assert.EqualValues(t, iova, g.faults().InputAddr())
		assert.EqualValues(t, 2, g.smmu.Load(smmuv3.RegEVENTQ_PROD, 4), "the event queue continues")
	})
}
