package edu

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// window is the device's memory on the bus.
type window struct{ pci.Memory }

func (w window) load(off uint64) uint64 { return w.Load(off, 8) }
func (w window) store(off, v uint64)    { w.Store(off, 8, v) }

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

const (
	ram    = 0x4000_0000
	dataAt = ram + 8<<20
	sid    = 0x10
	iova   = 0x12_3000
)

// newRig returns the driver of a function of the test VMM with all features, whose stage 1 maps iova
// to dataAt with ATS, and the guest of its SMMU.
func newRig(t *testing.T) (*Device, *vsmmutest.Guest, *guestmem.Slots) {
	mem := new(guestmem.Slots)
	require.NoError(t, mem.Add(guestmem.Slot{GPA: ram, Mem: make([]byte, 16<<20)}))
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.ATS, 1)
	ids.Set(smmuv3.PRI, 1)
	host, err := soft.New(soft.Config{Memory: mem, IDs: ids})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, host.Close()) })
	caps, err := host.Capabilities()
	require.NoError(t, err)
	derived, err := idr.Derive(nil, caps)
	require.NoError(t, err)
	smmu, err := vsmmu.New(vsmmu.Config{IDs: derived.IDs, Memory: mem, Interrupts: noInterrupts{}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, smmu.Close()) })

	f, err := edu.New(edu.Config{Features: edu.Features{PASIDBits: 20, ATS: true, PRI: true}})
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, f.Close()) })
	require.NoError(t, smmu.Attach(sid, host, f.Endpoint()))
	w := pci.Window{Base: 0x1000_0000, Size: 1 << 20}
	bridge, err := pci.NewHost(1, w)
	require.NoError(t, err)
	require.NoError(t, bridge.AddFunction(2, 0, f, f.Connect))
	bridge.ECAM().Store(2<<15+0x10, 4, w.Base)
	bridge.ECAM().Store(2<<15+0x04, 2, 6)

	g := vsmmutest.NewGuest(mem, guestmem.Range{GPA: ram, Len: 8 << 20}, smmu)
	require.NoError(t, g.Enable())
	require.NoError(t, g.MapStage1(sid, iova, dataAt, 4096))
	ste := g.STE(sid)
	ste.SetEATS(smmuv3.EATSFull)
	require.NoError(t, g.SetSTE(sid, ste))
	d := newDevice(window{bridge.Memory(w)}, func() error { return nil })
	t.Cleanup(func() { assert.NoError(t, d.Close()) })
	return d, g, mem
}

func TestDriverMovesMemory(t *testing.T) {
	d, g, mem := newRig(t)
	assert.True(t, d.Own())
	assert.True(t, d.Has(regs.PASID|regs.ATS|regs.PRI))
	assert.False(t, d.Has(regs.Stalls))
	want, got := []byte("sixteen bytes..."), make([]byte, 16)

	require.NoError(t, mem.WriteAt(want, dataAt))
	require.NoError(t, d.Load(iova, 100, 16))
	require.NoError(t, d.Store(iova+64, 100, 16))
	require.NoError(t, mem.ReadAt(got, dataAt+64))
	assert.Equal(t, want, got)

	for at, store := range map[uint64]func() error{
		128: func() error { return d.StoreWith(regs.ByATS|regs.Force, iova+128, 100, 16) },
		256: func() error { return d.StoreTranslated(regs.Force, dataAt+256, 100, 16) },
	} {
		require.NoError(t, store())
		require.NoError(t, mem.ReadAt(got, dataAt+guestmem.GPA(at)))
		assert.Equal(t, want, got)
	}
	require.NoError(t, d.LoadTranslated(regs.Force, dataAt, 0, 16))

	d.SetChunk(4)
	err := d.Store(iova-16, 0, 16)
	assert.ErrorIs(t, err, ErrAborted)
	assert.EqualError(t, err, "edu: DMA of 16 bytes to 0x122ff0: the SMMU terminated it, after 0 bytes")
	assert.Equal(t, regs.Aborted, Code(err))
	e, err := g.WaitEvent()
	require.NoError(t, err)
	assert.EqualValues(t, iova-16, e.InputAddr())
}

func TestDriverUsesTheATC(t *testing.T) {
	d, g, _ := newRig(t)
	translation, err := d.Translate(regs.Force, iova+0x123, true)
	require.NoError(t, err)
	assert.Equal(t, Translation{Addr: dataAt, Size: 4096, Read: true, Write: true}, translation)
	_, err = d.Translate(0, iova, false)
	assert.Equal(t, regs.NotEnabled, Code(err))

	require.NoError(t, d.LoadWith(regs.ByATS|regs.Force, iova, 0, 8))
	_, err = d.Invalidations()
	require.NoError(t, err)
	before, err := d.Counts()
	require.NoError(t, err)
	assert.EqualValues(t, 1, before.ATCEntries)
	require.NoError(t, g.Run(
		smmuv3.NewATCInv(sid, iova, 0).WithSubstream(7),
		smmuv3.NewATCInv(sid, 0, smmuv3.ATCSizeAll).WithSubstream(0).WithGlobal(),
		smmuv3.NewATCInv(sid, iova, 0),
	))
	list, err := d.Invalidations()
	require.NoError(t, err)
	assert.Equal(t, []Invalidation{
		{First: iova, Last: iova + 0xfff, PASID: 7, HasPASID: true},
		{First: 0, Last: ^uint64(0), HasPASID: true, Global: true},
		{First: iova, Last: iova + 0xfff},
	}, list)
	after, err := d.Counts()
	require.NoError(t, err)
	assert.Zero(t, after.ATCEntries)
	assert.Equal(t, before.Invalidations+3, after.Invalidations)

	require.NoError(t, d.LoadWith(regs.ByATS|regs.Force, iova, 0, 8))
	require.NoError(t, d.ClearATC())
	after, err = d.Counts()
	require.NoError(t, err)
	assert.Zero(t, after.ATCEntries)
}

// The software host waits a second for an invalidation.
func TestDriverMakesTheATCHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, g, _ := newRig(t)
		require.NoError(t, d.Hang(true))
		assert.ErrorContains(t, g.Run(smmuv3.NewATCInv(sid, iova, 0)), "CERROR_ATC_INV_SYNC")
		require.NoError(t, d.Hang(false))
		_, err := d.Translate(regs.Force, iova, false)
		assert.Equal(t, regs.Isolated, Code(err))
	})
}

func TestDriverRequestsPages(t *testing.T) {
	d, g, _ := newRig(t)
	require.NoError(t, d.RequestPage(regs.Force.WithPASID(9), 300, 0x7000_1234, true, false, true))
	q, err := g.WaitPageRequest()
	require.NoError(t, err)
	want := smmuv3.NewPageRequest(sid, 300, 0x7000_1000, smmuv3.PageAccess{Read: true}, true).WithSubstream(9)
	assert.Equal(t, want, q)
	require.NoError(t, g.Respond(q, smmuv3.PRGInvalid))
	list, err := d.Responses()
	require.NoError(t, err)
	assert.Equal(t, []regs.Response{regs.NewResponse(300, 1, 9, true)}, list)
	pasid, ok := list[0].PASID()
	assert.EqualValues(t, 9, pasid)
	assert.True(t, ok)
	assert.EqualValues(t, 300, list[0].Group())
	assert.EqualValues(t, 1, list[0].Code())

	require.NoError(t, d.StopPASID(regs.Force.WithPASID(9)))
	q, err = g.WaitPageRequest()
	require.NoError(t, err)
	assert.True(t, q.StopMarker())
	c, err := d.Counts()
	require.NoError(t, err)
	assert.Equal(t, Counts{PageResponses: 1, Invalidations: c.Invalidations}, c)
}

// qemu is QEMU's edu, whose DMA is done at once. Unknown registers read as all ones.
type qemu map[uint64]uint64

func (q qemu) load(off uint64) uint64 {
	if v, ok := q[off]; ok {
		return v
	}
	return ^uint64(0)
}

func (q qemu) store(off, v uint64) {
	if off == regs.DMACmd {
		v &^= regs.DMAStart
	}
	q[off] = v
}

func TestDriverRefusesWhatQEMUsDeviceLacks(t *testing.T) {
	q := qemu{}
	d := newDevice(q, func() error { return nil })
	assert.False(t, d.Own())
	assert.False(t, d.Has(regs.ATS))
	require.NoError(t, d.Store(iova, 8, 16))
	assert.Equal(t, qemu{0x80: 0x4_0008, 0x88: iova, 0x90: 16, 0x98: 2}, q)

	d.SetChunk(4)
	store := d.StoreWith(regs.ByATS, iova, 0, 8)
	_, translate := d.Translate(0, iova, true)
	request := d.RequestPage(0, 1, iova, true, true, true)
	_, counts := d.Counts()
	_, invalidations := d.Invalidations()
	_, responses := d.Responses()
	for _, err := range []error{store, translate, request, counts, invalidations, responses, d.Hang(true), d.ClearATC()} {
		assert.ErrorIs(t, err, ErrQEMU)
		assert.Equal(t, regs.Failed, Code(err))
	}
	assert.Equal(t, qemu{0x80: 0x4_0008, 0x88: iova, 0x90: 16, 0x98: 2}, q, "no store to a register that it lacks")
}
