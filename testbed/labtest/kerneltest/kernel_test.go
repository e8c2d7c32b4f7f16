//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

var bypass = bridge.GuestStage{Disposition: bridge.Bypass}

const sid smmuv3.StreamID = 0x1234

// beyondQEMU are the tests of the suite that fail on the SMMU of QEMU 10.0 with any driver, with
// the reason.
var beyondQEMU = map[string]string{
	"Granules/16KiB":         "it reads a table as contiguous memory, although stage 2 here maps pages of 4 KiB",
	"Granules/64KiB":         "it reads a table as contiguous memory, although stage 2 here maps pages of 4 KiB",
	"Permissions/Privileged": "it ignores AP[1]",
}

// beyondLinux are the tests of the suite that fail on Linux 7.3 with any SMMU, and why.
var beyondLinux = map[string]string{
	"ATS/Forbidden": "a stream that bypasses stage 1 keeps STE.EATS = 1",
}

func TestKernelConformance(t *testing.T) {
	bridgetest.Run(t, func(t *testing.T) bridgetest.Rig {
		r := newKernelRig(t)
		first := r.devices[r.ends[0]]
		if why, ok := beyondQEMU[strings.TrimPrefix(t.Name(), "TestKernelConformance/")]; ok && !first.Own() {
			t.Skip(SkipQEMU + why)
		}
		rig := bridgetest.Rig{Host: r.host, Endpoints: r.ends, Memory: r, RAM: ram, DMA: r.dma}
		if first.Has(regs.PASID) {
			rig.SubstreamDMA = r.substreamDMA
		}
		if first.Has(regs.ATS) {
			if why, ok := beyondLinux[strings.TrimPrefix(t.Name(), "TestKernelConformance/")]; ok {
				t.Skip(SkipLinux + why)
			}
			rig.ATS = r.ats
		}
		return rig
	})
}

// The kernel accepts every layout of a CD table that the host's Capabilities allow. The host
// rejects the others.
func TestKernelAcceptsOfferedStages(t *testing.T) {
	r := newKernelRig(t)
	caps, err := r.host.Capabilities()
	require.NoError(t, err)
	require.NoError(t, lab.Send(machine.Message{SMMU: &machine.SMMU{IDR: caps.IDs.IDR, IIDR: caps.IDs.IIDR, AIDR: caps.IDs.AIDR}}))
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	accepted, rejected := 0, 0
	for max := range uint8(32) {
		for _, f := range []smmuv3.S1Fmt{smmuv3.S1FmtLinear, smmuv3.S1Fmt4K, smmuv3.S1Fmt64K} {
			for _, dss := range []smmuv3.S1DSS{smmuv3.S1DSSTerminate, smmuv3.S1DSSBypass, smmuv3.S1DSSSubstream0} {
				g := bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ram, S1CDMax: max, S1Fmt: f, S1DSS: dss}
				has := uint32(max) <= caps.IDs.Get(smmuv3.SSIDSIZE) && (max == 0 || f == smmuv3.S1FmtLinear || caps.IDs.Has(smmuv3.CD2L))
				err := st.Bind(g)
				if has {
					assert.NoError(t, err, "%v", g)
					accepted++
				} else {
					assert.ErrorIs(t, err, bridge.ErrRejected, "%v", g)
					rejected++
				}
			}
		}
	}
	t.Logf("%d accepted, %d rejected, such as: %v", accepted, rejected, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 31}))
}

// translated returns a stream for which stage 1 translates. Without such a stream, the host drops
// TLBIs.
func (r *kernelRig) translated() bridge.Stream {
	r.t.Helper()
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(r.t, err)
	require.NoError(r.t, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ram}))
	return st
}

// The kernel answers reserved bits of a command with EIO. The host clears them.
func TestKernelAcceptsCommandsWithReservedBits(t *testing.T) {
	r := newKernelRig(t)
	r.translated()
	for _, op := range []smmuv3.Opcode{smmuv3.OpTLBINSNHAll, smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA,
		smmuv3.OpTLBINHVAA, smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll, smmuv3.OpATCInv} {
		for _, high := range []uint64{0, math.MaxUint64 &^ 0xff, 0x5555_5555_5555_5500, 0xaaaa_aaaa_aaaa_aa00} {
			for _, dw1 := range []uint64{0, math.MaxUint64, 1 << 10, 2<<10 | 1<<8, 0x5555_5555_5555_5555 &^ 0x30} {
				c := smmuv3.Command{uint64(op) | high, dw1}
				switch op {
				case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
					c[0] = c[0]&0xffff_ffff | uint64(sid)<<32
				case smmuv3.OpATCInv:
					c[1] &^= 0x3f
				}
				assert.NoError(t, r.host.Invalidate([]smmuv3.Command{c}), "%#x", c)
			}
		}
	}
}

// A batch of 512 commands is one request.
func TestKernelBatchIsOneIoctl(t *testing.T) {
	r := newKernelRig(t)
	r.translated()
	var cmds []smmuv3.Command
	for i := range uint64(512) {
		cmds = append(cmds, smmuv3.Command{uint64(smmuv3.OpTLBINHVA) | 1<<48, i<<12 | 1})
	}
	before := r.host.Stats()
	start := time.Now()
	require.NoError(t, r.host.Invalidate(cmds))
	took := time.Since(start)
	after := r.host.Stats()
	assert.EqualValues(t, 1, after.Ioctls-before.Ioctls)
	t.Logf("512 commands: %d request, %v", after.Invalidations-before.Invalidations, took)
}

// A device reaches a slot after Map and does not reach it after Unmap.
func TestKernelMemoryFollowsSlots(t *testing.T) {
	r := newKernelRig(t)
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	require.NoError(t, st.Bind(bypass))
	const hot guestmem.GPA = 0x1_0000_0000
	mem := anonymous(t, pages)
	slot := guestmem.Slot{GPA: hot, Mem: mem}
	d := r.devices[r.ends[0]]
	reaches := func() bool {
		t.Helper()
		clear(mem)
		require.NoError(t, attempted(d.Store(uint64(hot), patternAt, 64)))
		return string(mem[:64]) == string(d.pattern[:64])
	}
	for range 2 {
		assert.False(t, reaches())
		require.NoError(t, r.host.Map(slot))
		assert.ErrorIs(t, r.host.Map(slot), guestmem.ErrOverlap)
		assert.True(t, reaches())
		require.NoError(t, r.host.Unmap(hot))
		assert.False(t, reaches())
	}
	slot.ReadOnly = true
	require.NoError(t, r.host.Map(slot))
	assert.False(t, reaches(), "the slot is read-only for devices")
	require.NoError(t, r.host.Unmap(hot))
	err = r.host.Map(guestmem.Slot{GPA: iommufd.MSIBase + iommufd.MSISize - pages, Mem: mem})
	assert.ErrorContains(t, err, "MSI", "the kernel's own addresses")
	t.Log(err)
}

// The fetch of a CD outside the guest's memory aborts. If the guest gets an event, it has no
// address of the host.
func TestKernelCDFetchOutsideMemoryAborts(t *testing.T) {
	r := newKernelRig(t)
	events := make(chan smmuv3.Event, 16)
	require.NoError(t, r.host.Events(func(e smmuv3.Event) { events <- e }))
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	require.NoError(t, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x7000_0000}))
	require.NoError(t, attempted(r.devices[r.ends[0]].Store(uint64(ram), patternAt, 64)))
	r.used.Store(uint64(len(r.ram)))
	assert.Negative(t, r.landed(r.devices[r.ends[0]], 64))
	select {
	case e := <-events:
		assert.Equal(t, smmuv3.FCDFetch, e.Type())
		assert.EqualValues(t, 0x7000_0000, e.FetchAddr())
	case <-time.After(time.Second):
		t.Log("the kernel does not forward faults of stage 2")
	}
}

// The host drops a TLBI while stage 1 translates for no stream. It invalidates everything before
// the next stream translates.
func TestKernelInvalidatesBeforeStage1Translates(t *testing.T) {
	r := newKernelRig(t)
	g := &guestDriver{kernelRig: r}
	g.tables()
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	translate := bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CIR: 1, S1COR: 1, S1CSH: 3}
	require.NoError(t, st.Bind(translate))
	require.True(t, g.reaches(pageA), "the SMMU has cached the translation")
	require.NoError(t, st.Bind(bypass))

	g.leaf(pageB)
	before := r.host.Stats().Invalidations
	require.NoError(t, r.host.Invalidate([]smmuv3.Command{{0x12 | 1<<48, iova | 1}})) // TLBI_NH_VA
	assert.Equal(t, before, r.host.Stats().Invalidations)
	require.NoError(t, st.Bind(translate))
	assert.True(t, g.reaches(pageB))
	assert.Equal(t, before+1, r.host.Stats().Invalidations)
}

// A device is removed from the machine during DMA. The kernel waits until the host closes it, and
// other devices are not affected.
func TestKernelDeviceRemovedDuringDMA(t *testing.T) {
	r := newKernelRig(t)
	require.GreaterOrEqual(t, len(r.ends), 2)
	leaving, staying := r.ends[0].(*iommufd.Device), r.ends[1]
	st := r.translated()
	other, err := r.host.Attach(sid+1, staying)
	require.NoError(t, err)
	require.NoError(t, other.Bind(bypass))
	address := lab.Alone()[0]
	path, err := iommufd.FindDevice(address)
	require.NoError(t, err)

	dma, removed := make(chan error, 1), make(chan error, 1)
	go func() { dma <- r.devices[leaving].Store(iova, patternAt, edu.BufferSize) }()
	go func() { removed <- os.WriteFile("/sys/bus/pci/devices/"+address+"/remove", []byte("1"), 0) }()
	for range 10 {
		require.NoError(t, r.host.Invalidate([]smmuv3.Command{smmuv3.NewTLBINSNHAll()}))
		require.NoError(t, st.Bind(bypass))
		require.NoError(t, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ram}))
		time.Sleep(20 * time.Millisecond)
	}
	require.NoError(t, attempted(<-dma))
	select {
	case err := <-removed:
		require.Fail(t, "the kernel removed the device while it was open", "%v", err)
	default:
	}
	require.NoError(t, st.Close())
	require.NoError(t, leaving.Close())
	require.NoError(t, r.devices[leaving].Close())
	delete(r.devices, leaving)
	require.NoError(t, <-removed)

	_, err = r.host.Add(path)
	require.ErrorIs(t, err, unix.ENOENT)
	assert.ErrorContains(t, err, "vfio-pci")
	t.Log(err)
	want := []byte("other devices are not affected")
	require.NoError(t, r.WriteAt(make([]byte, len(want)), pageA))
	require.NoError(t, r.dma(staying, true, uint64(pageA), want))
	got := make([]byte, len(want))
	require.NoError(t, r.ReadAt(got, pageA))
	assert.Equal(t, want, got)

	require.NoError(t, os.WriteFile("/sys/bus/pci/rescan", []byte("1"), 0))
	require.NoError(t, machine.GiveToVFIO("/sys/bus/pci/devices/"+address))
	_, err = iommufd.FindDevice(address)
	assert.NoError(t, err, "the device is back")
}

// Close leaves no object in the kernel, and the devices can be added again.
func TestKernelCloseLeavesNoObject(t *testing.T) {
	for range 3 {
		r := newKernelRig(t)
		for i, ep := range r.ends {
			st, err := r.host.Attach(sid+smmuv3.StreamID(i), ep)
			require.NoError(t, err)
			require.NoError(t, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ram}))
		}
		assert.Equal(t, 6+len(r.ends)*3, r.host.Stats().Objects, "IOAS, parent, vIOMMU, abort, bypass, vEVENTQ; device, vDEVICE, table")
		require.NoError(t, r.host.Close())
		assert.Zero(t, r.host.Stats().Objects)
		for _, d := range r.devices {
			require.NoError(t, d.Close())
		}
		clear(r.devices)
	}
}

// The kernel drops faults while its queue is full. The host counts them.
func TestKernelCountsLostEvents(t *testing.T) {
	r := newKernelRig(t)
	hold := make(chan struct{})
	require.NoError(t, r.host.Events(func(smmuv3.Event) { <-hold }))
	st, err := r.host.Attach(sid, r.ends[0])
	require.NoError(t, err)
	require.NoError(t, st.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ram})) // CD.V = 0
	const rounds = 3
	// The device accesses memory four bytes at a time.
	const faults = rounds * edu.BufferSize / 4
	d := r.devices[r.ends[0]]
	d.SetChunk(4)
	defer d.SetChunk(0)
	for range rounds {
		require.NoError(t, attempted(d.Store(0, 0, edu.BufferSize)))
	}
	close(hold)
	if d.Own() { // this SMMU merges faults, and its own queue is full as well
		assert.Eventually(t, func() bool { return r.host.Stats().Events > 0 }, 2*time.Minute, 10*time.Millisecond)
		st := r.host.Stats()
		assert.LessOrEqual(t, st.Events+st.EventsLost, uint64(faults))
		assert.Zero(t, st.EventErrors)
		return
	}
	assert.Eventually(t, func() bool {
		st := r.host.Stats()
		return st.Events+st.EventsLost == faults
	}, 2*time.Minute, 10*time.Millisecond, "%d faults", faults)
	assert.NotZero(t, r.host.Stats().EventsLost)
	assert.Zero(t, r.host.Stats().EventErrors)
}
