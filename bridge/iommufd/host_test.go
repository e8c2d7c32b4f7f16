//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

var (
	abort  = bridge.GuestStage{Disposition: bridge.Abort}
	bypass = bridge.GuestStage{Disposition: bridge.Bypass}
)

// translate returns a stage with one CD, as Linux writes it.
func translate(cd guestmem.GPA) bridge.GuestStage {
	return bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cd, S1CIR: 1, S1COR: 1, S1CSH: 3}
}

func openFake(t *testing.T, k *fakeKernel, cfg Config) *Host {
	t.Helper()
	h, err := open(cfg, k)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = h.Close()
		k.assertEmpty()
	})
	return h
}

// attached returns a host with the device dev0 attached as stream 0x100.
func attached(t *testing.T, k *fakeKernel) (*Host, *Device, bridge.Stream) {
	t.Helper()
	h := openFake(t, k, Config{})
	d, err := h.Add(dev0)
	require.NoError(t, err)
	s, err := h.Attach(0x100, d)
	require.NoError(t, err)
	return h, d, s
}

// translated returns a host with one stream that translates.
func translated(t *testing.T, k *fakeKernel) *Host {
	t.Helper()
	h, _, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	return h
}

// resetting calls during while VFIO resets a device: when it is bound and when it is closed.
type resetting struct {
	*fakeKernel
	during func(what string)
}

func (k *resetting) ioctl(fd int, request uintptr, p unsafe.Pointer) error {
	if request == uapi.VFIODeviceBindIOMMUFD {
		k.during("bind")
	}
	return k.fakeKernel.ioctl(fd, request, p)
}

func (k *resetting) close(fd int) error {
	if fd > 101 { // 101 is /dev/iommu
		k.during("close")
	}
	return k.fakeKernel.close(fd)
}

// A reset takes at least 100 ms, and a vCPU may wait for Invalidate during this time.
func TestAdd_and_Close_do_not_delay_Invalidate(t *testing.T) {
	k := &resetting{newFake(t), func(string) {}}
	h, err := open(Config{}, k)
	require.NoError(t, err)
	defer h.Close()
	d, err := h.Add(dev0)
	require.NoError(t, err)
	_, err = h.Attach(0x100, d)
	require.NoError(t, err)

	var resets []string
	k.during = func(what string) {
		resets = append(resets, what)
		if assert.True(t, h.mu.TryLock(), "%s holds the lock that Invalidate needs", what) {
			h.mu.Unlock()
		}
	}
	other, err := h.Add(dev1)
	require.NoError(t, err)
	require.NoError(t, other.Close())
	k.smmus[dev1] = labSMMU()
	_, err = h.Add(dev1)
	assert.ErrorIs(t, err, ErrDiffers)
	assert.Equal(t, []string{"bind", "close", "bind", "close"}, resets)
	k.during = func(string) {}
}

// The objects of each state of the mailing-list thread: see docs/stream-states.md.
func TestObjects_of_each_state(t *testing.T) {
	k := newFake(t)
	h, err := open(Config{}, k)
	require.NoError(t, err)
	require.NoError(t, h.Map(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 8192)}))
	require.NoError(t, h.Map(guestmem.Slot{GPA: 0x8000_0000, Mem: make([]byte, 4096), ReadOnly: true}))
	assert.Equal(t, []string{"+ioas", "+map 0x40000000 flags 7", "+map 0x80000000 flags 5"}, k.took())

	d, err := h.Add(dev0)
	require.NoError(t, err)
	assert.Equal(t, []string{"+device", "+parent", "+viommu", "+nested", "+nested", "+veventq"}, k.took(), "states (1) and (2)")

	s, err := h.Attach(0x100, d)
	require.NoError(t, err)
	assert.Equal(t, []string{"+vdevice", "attach 1"}, k.took(), "a new stream aborts")

	require.NoError(t, s.Bind(bypass))
	assert.Equal(t, []string{"attach 9"}, k.took())
	require.NoError(t, s.Bind(translate(0x4000_0000)))
	assert.Equal(t, []string{"+nested", "attach 4000000b"}, k.took(), "state (3)")
	require.NoError(t, s.Bind(translate(0x4000_1000)))
	assert.Equal(t, []string{"invalidate", "+nested", "attach 4000100b", "-nested"}, k.took(), "replaced in one step")
	require.NoError(t, s.Bind(bypass))
	assert.Equal(t, []string{"attach 9", "-nested"}, k.took(), "state (4)")

	require.NoError(t, s.Close())
	assert.Equal(t, []string{"detach", "-vdevice"}, k.took(), "state (5)")
	require.NoError(t, d.Close())
	assert.Equal(t, []string{"-device"}, k.took())
	require.NoError(t, h.Close())
	assert.Equal(t, []string{"-nested", "-nested", "-veventq", "-viommu", "-parent", "-ioas"}, k.took())
	k.assertEmpty()
	assert.Zero(t, h.Stats().Objects)
}

func TestClose_destroys_everything(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	for i, path := range []string{dev0, dev1} {
		d, err := h.Add(path)
		require.NoError(t, err)
		s, err := h.Attach(smmuv3.StreamID(i), d)
		require.NoError(t, err)
		require.NoError(t, s.Bind(translate(0x4000_0000)))
	}
	require.NoError(t, h.Map(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 8192)}))
	require.NoError(t, h.Close())
	k.assertEmpty()
	assert.Zero(t, h.Stats().Objects)
	assert.ErrorIs(t, h.Close(), bridge.ErrClosed)
}

// If any request fails with any errno, Close leaves no objects, and a failed Bind keeps the
// previous stage.
func TestClose_after_any_failure(t *testing.T) {
	names := []string{"open", "ioas", "map", "bind", "hwinfo", "hwpt", "viommu", "vdevice", "veventq", "queue", "attach",
		"detach", "destroy", "unmap", "invalidate"}
	for _, name := range names {
		for _, errno := range []unix.Errno{unix.EIO, unix.EAGAIN, unix.EBUSY, unix.ENODEV, unix.EOPNOTSUPP, unix.ENOMEM} {
			for nth := 1; nth <= 30; nth++ {
				k := newFake(t)
				k.fail(name, nth, errno)
				scenario(k)
				k.assertEmpty()
				if t.Failed() {
					t.Fatalf("%s number %d: %v", name, nth, errno)
				}
			}
		}
	}
}

// scenario calls every method, and continues after errors as far as possible.
func scenario(k *fakeKernel) {
	h, err := open(Config{}, k)
	if err != nil {
		return
	}
	scenarioOn(k, h)
	refused := k.refused
	err = h.Close()
	if refused {
		assert.NoError(k.t, err, "Close retries requests that the kernel refused once")
		assert.Zero(k.t, h.Stats().Objects)
	}
}

func scenarioOn(k *fakeKernel, h *Host) {
	_ = h.Map(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 8192)})
	for i, path := range []string{dev0, dev1} {
		d, err := h.Add(path)
		if err != nil {
			continue
		}
		for range 2 {
			s, err := h.Attach(smmuv3.StreamID(i), d)
			if err != nil {
				continue
			}
			for _, g := range []bridge.GuestStage{bypass, translate(0x4000_0000), translate(0x4000_1000), abort, bypass, translate(0x4000_2000)} {
				before, _ := k.attachedSTE(d.FD())
				if err := s.Bind(g); err != nil {
					after, _ := k.attachedSTE(d.FD())
					assert.Equal(k.t, before, after, "the previous stage stays: %v", err)
				}
			}
			_ = h.Invalidate([]smmuv3.Command{smmuv3.NewTLBINSNHAll()})
			if s.Close() != nil {
				_ = s.Close()
			}
		}
	}
	_ = h.Unmap(0x4000_0000)
}

// Host.Close destroys a stream's table after the device is unbound, if it could not be detached.
func TestClose_after_a_failed_detach(t *testing.T) {
	k := newFake(t)
	h := translated(t, k)
	k.fail("detach", 1, unix.EIO)
	assert.ErrorIs(t, h.Close(), unix.EIO)
	assert.Zero(t, h.Stats().Objects)
}

// If the kernel destroys nothing, the number of leftover tables is limited.
func TestBind_limits_leftover_tables(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	k.fail("destroy", 0, unix.EBUSY)
	bound := 0
	for i := range 100 {
		if s.Bind(translate(guestmem.GPA(i)<<12)) == nil {
			bound++
		}
	}
	assert.Equal(t, maxLeftovers+1, bound, "tables")
	assert.NoError(t, s.Bind(abort), "a stream that aborts needs no table of its own")
	assert.Error(t, s.Close())
	_, err := h.Attach(0x100, d)
	assert.ErrorIs(t, err, bridge.ErrInUse, "the stream is not closed")

	k.fail("destroy", 0, nil)
	assert.NoError(t, s.Close())
	require.NoError(t, h.Close())
}

func TestAttach_identity_of_streams(t *testing.T) {
	k := newFake(t)
	h, d, _ := attached(t, k)
	other, err := h.Add(dev1)
	require.NoError(t, err)

	_, err = h.Attach(0x100, other)
	assert.ErrorIs(t, err, bridge.ErrInUse)
	_, err = h.Attach(0x200, d)
	assert.ErrorIs(t, err, bridge.ErrInUse)
	for _, ep := range []bridge.Endpoint{nil, (*Device)(nil), "vfio0", &Device{}} {
		_, err = h.Attach(0x200, ep)
		assert.ErrorIs(t, err, bridge.ErrEndpoint)
	}
	assert.ErrorIs(t, d.Close(), bridge.ErrInUse)
	require.NoError(t, other.Close())
	require.ErrorIs(t, other.Close(), bridge.ErrClosed)
	_, err = h.Attach(0x200, other)
	assert.ErrorIs(t, err, bridge.ErrClosed)

	require.NoError(t, h.Close())
	_, err = h.Attach(0x200, d)
	assert.ErrorIs(t, err, bridge.ErrClosed)
	_, err = h.Add(dev0)
	assert.ErrorIs(t, err, bridge.ErrClosed)
	assert.ErrorIs(t, h.Map(guestmem.Slot{Mem: make([]byte, 4096)}), bridge.ErrClosed)
	assert.ErrorIs(t, h.Unmap(0), bridge.ErrClosed)
	assert.ErrorIs(t, h.Invalidate(nil), bridge.ErrClosed)
}

// A privileged process may open the device and pass its descriptor.
func TestAddFD(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	fd, err := k.open(dev0)
	require.NoError(t, err)
	d, err := h.AddFD(fd)
	require.NoError(t, err)
	assert.Equal(t, fd, d.FD())
	_, err = h.Attach(0x100, d)
	require.NoError(t, err)

	fd, err = k.open(dev1)
	require.NoError(t, err)
	k.fail("bind", 1, unix.EBUSY)
	_, err = h.AddFD(fd)
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.NotContains(t, k.fds, fd, "AddFD closes the descriptor after an error")
}

// A guest that renumbers its buses gives the device another StreamID.
func TestAttach_again_with_another_StreamID(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	require.NoError(t, s.Close())
	again, err := h.Attach(0x200, d)
	require.NoError(t, err)
	require.NoError(t, again.Bind(bypass))
	assert.ErrorIs(t, s.Bind(bypass), bridge.ErrClosed, "the old stream stays closed")
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
	ste, _ := k.attachedSTE(d.FD())
	assert.EqualValues(t, 0x9, ste[0], "the new stream is not affected")
}

func TestMap_and_Unmap(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	page := make([]byte, 4096)
	require.NoError(t, h.Map(guestmem.Slot{GPA: 0x1000, Mem: page}))
	assert.ErrorIs(t, h.Map(guestmem.Slot{GPA: 0x1000, Mem: page}), guestmem.ErrOverlap)
	assert.ErrorIs(t, h.Map(guestmem.Slot{GPA: 0x2000}), guestmem.ErrBadSlot)
	assert.ErrorIs(t, h.Map(guestmem.Slot{GPA: ^guestmem.GPA(0) - 0xffe, Mem: page}), guestmem.ErrBadSlot)
	assert.ErrorContains(t, h.Map(guestmem.Slot{GPA: 0x2800, Mem: page}), "page size")
	assert.ErrorIs(t, h.Unmap(0x2000), guestmem.ErrNoSlot)

	k.fail("unmap", 1, unix.EBUSY)
	assert.Error(t, h.Unmap(0x1000))
	require.NoError(t, h.Unmap(0x1000), "a failed Unmap keeps the slot")
	require.NoError(t, h.Map(guestmem.Slot{GPA: 0x1000, Mem: page}), "the slot can be mapped again")

	k.unmapped = func(n uint64) uint64 { return n / 2 }
	assert.EqualError(t, h.Unmap(0x1000), "iommufd: unmap slot at 0x1000: IOMMU_IOAS_UNMAP: the kernel unmapped 0x800 of 0x1000 bytes")
	k.unmapped = nil
	require.ErrorIs(t, h.Unmap(0x1000), unix.ENOENT, "the slot stays until it is unmapped")
	delete(h.memory.slots, 0x1000)

	k.fail("map", 1, unix.ENOMEM)
	assert.ErrorContains(t, h.Map(guestmem.Slot{GPA: 0x4000, Mem: page}), "RLIMIT_MEMLOCK")
	assert.ErrorIs(t, h.Unmap(0x4000), guestmem.ErrNoSlot)
}

func TestErrors_give_advice(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(k *fakeKernel)
		is    error
		says  string
	}{
		{"no iommufd in the kernel", func(k *fakeKernel) { k.fail("open", 1, unix.ENOENT) }, ErrUnsupported, "CONFIG_IOMMUFD"},
		{"no permission", func(k *fakeKernel) { k.fail("open", 1, unix.EACCES) }, unix.EACCES, "/dev/iommu"},
		{"not bound to vfio-pci", func(k *fakeKernel) { k.fail("open", 2, unix.ENOENT) }, unix.ENOENT, "vfio-pci"},
		{"not a VFIO device", func(k *fakeKernel) { k.fail("bind", 1, unix.ENOTTY) }, ErrUnsupported, "not a VFIO device"},
		{"in use elsewhere", func(k *fakeKernel) { k.fail("bind", 1, unix.EBUSY) }, bridge.ErrInUse, "another process"},
		{"an IOMMU that is not coherent", func(k *fakeKernel) { k.fail("bind", 1, unix.EINVAL) }, unix.EINVAL, "cache-coherent"},
		{"a shared IOMMU group", func(k *fakeKernel) { k.groups[dev0] = []string{"0000:00:02.0", "0000:00:02.1"} },
			ErrUnsupported, "0000:00:02.0, 0000:00:02.1"},
		{"not an SMMUv3", func(k *fakeKernel) { k.fail("hwinfo", 1, unix.EOPNOTSUPP) }, ErrUnsupported, "SMMUv3"},
		{"a kernel without nesting", func(k *fakeKernel) { k.noHWInfo = true }, ErrUnsupported, "CONFIG_ARM_SMMU_V3_IOMMUFD"},
		{"a slot beyond stage 2", func(k *fakeKernel) { k.fail("hwpt", 1, unix.EADDRINUSE) }, unix.EADDRINUSE, "slot of the guest's memory"},
		{"a slot at the ITS doorbell", func(k *fakeKernel) { k.fail("attach", 1, unix.EADDRINUSE) }, unix.EADDRINUSE, "slot of the guest's memory"},
		{"an SMMU with one stage", func(k *fakeKernel) { k.fail("hwpt", 1, unix.EOPNOTSUPP) }, ErrUnsupported, "IDR0.S2P"},
		{"no FWB and no CANWBS", func(k *fakeKernel) { k.fail("viommu", 1, unix.EOPNOTSUPP) }, ErrUnsupported, "CANWBS"},
		{"a kernel without vIOMMUs", func(k *fakeKernel) { k.fail("viommu", 1, unix.ENOTTY) }, ErrUnsupported, "Linux 6.16"},
		{"a kernel without vEVENTQs", func(k *fakeKernel) { k.fail("veventq", 1, unix.ENOTTY) }, ErrUnsupported, "Linux 6.16"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newFake(t)
			tt.spoil(k)
			h, err := open(Config{}, k)
			if err == nil {
				var d *Device
				if d, err = h.Add(dev0); err == nil {
					_, err = h.Attach(0x100, d)
				}
				assert.NoError(t, h.Close())
			}
			assert.ErrorIs(t, err, tt.is)
			assert.ErrorContains(t, err, tt.says)
			k.assertEmpty()
		})
	}
}

func TestAdd_of_later_devices(t *testing.T) {
	t.Run("the same registers, another SMMU", func(t *testing.T) {
		k := newFake(t)
		k.smmus[dev1] = labSMMU()
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		before := k.kinds()
		_, err = h.Add(dev1)
		assert.ErrorIs(t, err, ErrDiffers)
		assert.Equal(t, before, k.kinds())
	})
	t.Run("an SMMUv3 without nesting", func(t *testing.T) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		objects := k.objectCount()
		k.noHWInfo = true
		_, err = h.Add(dev1)
		assert.ErrorIs(t, err, ErrUnsupported)
		assert.Equal(t, objects, k.objectCount())
	})
	t.Run("an error of the kernel", func(t *testing.T) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		k.fail("hwpt", 1, unix.ENOMEM)
		_, err = h.Add(dev1)
		assert.ErrorIs(t, err, unix.ENOMEM)
		assert.NotErrorIs(t, err, ErrDiffers, "the SMMU is the same")
		_, err = h.Add(dev1)
		assert.NoError(t, err)
	})
	t.Run("a probe that is not destroyed at once", func(t *testing.T) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		k.fail("destroy", 1, unix.EBUSY)
		_, err = h.Add(dev1)
		require.NoError(t, err)
		require.NoError(t, h.Close())
		assert.Zero(t, h.Stats().Objects)
	})
	t.Run("other capabilities", func(t *testing.T) {
		k := newFake(t)
		other := labSMMU()
		other.IDR[1] |= 16 << 6 // SSIDSIZE
		k.smmus[dev1] = other
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		_, err = h.Add(dev1)
		assert.ErrorIs(t, err, ErrDiffers)
		assert.ErrorContains(t, err, "02730410")
	})
	t.Run("registers that differ in unused fields", func(t *testing.T) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		_, err := h.Add(dev0)
		require.NoError(t, err)
		*k.smmus[dev1] = *labSMMU()
		k.smmus[dev1].IDR[0] |= 1 << 5 // BTM
		_, err = h.Add(dev1)
		assert.NoError(t, err)
	})
	t.Run("after the first one is closed", func(t *testing.T) {
		k := newFake(t)
		h := openFake(t, k, Config{})
		d, err := h.Add(dev0)
		require.NoError(t, err)
		want, err := h.Capabilities()
		require.NoError(t, err)
		require.NoError(t, d.Close())
		got, err := h.Capabilities()
		require.NoError(t, err)
		assert.Equal(t, want, got, "Capabilities never change")
		_, err = h.Add(dev0)
		assert.NoError(t, err)
	})
}

func TestCapabilities_need_a_device(t *testing.T) {
	h := openFake(t, newFake(t), Config{})
	_, err := h.Capabilities()
	assert.ErrorIs(t, err, ErrNoDevice)
	assert.NoError(t, h.Invalidate([]smmuv3.Command{smmuv3.NewTLBINSNHAll()}), "there is nothing to invalidate")
}

// The registers of QEMU's SMMU in the lab, and the fields that a guest may read.
func TestCapabilities_of_the_lab(t *testing.T) {
	h := hardware{kind: uapi.HWInfoTypeARMSMMUv3, regs: *labSMMU()}
	ids, err := h.idRegs(false)
	require.NoError(t, err)
	assert.Equal(t, smmuv3.IDRegs{
		// TTF AArch64, ASID16, TTENDIAN little, STALL_MODEL terminate, TERM_MODEL, ST_LEVEL two.
		// S1P and COHACC are implied. S2P and VMID16 belong to the host.
		IDR: [6]uint32{
			1<<1 | 2<<2 | 1<<4 | 1<<12 | 2<<21 | 1<<24 | 1<<26 | 1<<27,
			16, // SIDSIZE; the virtual device chooses the sizes of queues
			0,
			1<<2 | 1<<10 | 2<<11, // HAD by the version, RIL, BBML
			0,
			4 | 7<<4, // OAS 44 bits, all granules
		},
		AIDR: 1,
	}, ids)

	h.regs.AIDR = 0
	ids, err = h.idRegs(false)
	require.NoError(t, err)
	assert.False(t, ids.Has(smmuv3.HAD), "SMMUv3.0 does not imply HAD, and IDR3.HAD is not used")
}

func TestCapabilities_leave_out_unsupported_features(t *testing.T) {
	h := hardware{kind: uapi.HWInfoTypeARMSMMUv3}
	for i := range h.regs.IDR {
		h.regs.IDR[i] = ^uint32(0)
	}
	for _, ats := range []bool{false, true} {
		ids, err := h.idRegs(ats)
		require.NoError(t, err)
		assert.Equal(t, ats, ids.Has(smmuv3.ATS), "Config.ATS")
		for _, f := range []smmuv3.IDField{smmuv3.S2P, smmuv3.BTM, smmuv3.HTTU, smmuv3.Hyp, smmuv3.MSI, smmuv3.PRI, smmuv3.MPAM,
			smmuv3.E0PD, smmuv3.PBHA, smmuv3.D128, smmuv3.AIE, smmuv3.EPAN, smmuv3.STT} {
			assert.False(t, ids.Has(f), "%v", f)
		}
	}
	h.kind = 1
	_, err := h.idRegs(false)
	assert.ErrorIs(t, err, ErrUnsupported)
}

func TestBind_error_without_sentinel(t *testing.T) {
	k := newFake(t)
	_, _, s := attached(t, k)
	k.fail("attach", 1, unix.EBUSY)
	err := s.Bind(bypass)
	assert.EqualError(t, err, "VFIO_DEVICE_ATTACH_IOMMUFD_PT: device or resource busy "+
		"(the device is being reset, or has PASIDs of its own in use)")
	assert.False(t, errors.Is(err, bridge.ErrRejected), "the next Bind may work")
}
