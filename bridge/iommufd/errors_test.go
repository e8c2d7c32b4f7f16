//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The functions that an embedder calls return "iommufd: operation object: cause (advice)".
func TestErrors_of_an_embedders_calls_are_complete(t *testing.T) {
	page := make([]byte, 4096)
	for _, tt := range []struct {
		name string
		call func(t *testing.T, k *fakeKernel) error
		want string
	}{
		{"Open without iommufd", func(_ *testing.T, k *fakeKernel) error {
			k.fail("open", 1, unix.ENOENT)
			_, err := open(Config{}, k)
			return err
		}, "iommufd: open /dev/iommu: no such file or directory (the kernel needs CONFIG_IOMMUFD, and the module iommufd must be loaded)"},
		{"Open of another file", func(_ *testing.T, k *fakeKernel) error {
			k.fail("ioas", 1, unix.ENOTTY)
			_, err := open(Config{}, k)
			return err
		}, "iommufd: open /dev/iommu: IOMMU_IOAS_ALLOC: inappropriate ioctl for device (the file is not iommufd's device node)"},
		{"Add without device", func(t *testing.T, k *fakeKernel) error {
			_, err := openFake(t, k, Config{}).Add("/dev/vfio/devices/vfio9")
			return err
		}, "iommufd: add /dev/vfio/devices/vfio9: open: no such file or directory (bind the device to vfio-pci; the kernel needs CONFIG_VFIO_DEVICE_CDEV)"},
		{"Add", func(t *testing.T, k *fakeKernel) error {
			k.fail("bind", 1, unix.EPERM)
			_, err := openFake(t, k, Config{}).Add(dev0)
			return err
		}, "iommufd: add /dev/vfio/devices/vfio0: VFIO_DEVICE_BIND_IOMMUFD: operation not permitted (the platform does not isolate MSIs (see iommufd's module parameter allow_unsafe_interrupts))"},
		{"AddFD of no descriptor", func(t *testing.T, k *fakeKernel) error {
			_, err := openFake(t, k, Config{}).AddFD(-1)
			return err
		}, "iommufd: add descriptor -1: a descriptor is not negative"},
		{"Device.Close while attached", func(t *testing.T, k *fakeKernel) error {
			_, d, _ := attached(t, k)
			return d.Close()
		}, "iommufd: close /dev/vfio/devices/vfio0: device in use as stream 0x100"},
		{"Device.Close again", func(t *testing.T, k *fakeKernel) error {
			_, d, s := attached(t, k)
			require.NoError(t, s.Close())
			require.NoError(t, d.Close())
			return d.Close()
		}, "iommufd: close /dev/vfio/devices/vfio0: closed"},
		{"Map", func(t *testing.T, k *fakeKernel) error {
			k.fail("map", 1, unix.ENOMEM)
			return openFake(t, k, Config{}).Map(guestmem.Slot{GPA: 0x4000_0000, Mem: page})
		}, "iommufd: map slot at 0x40000000, 0x1000 bytes: IOMMU_IOAS_MAP: cannot allocate memory (the kernel pins the memory: RLIMIT_MEMLOCK must allow all of it)"},
		{"Unmap of no slot", func(t *testing.T, k *fakeKernel) error {
			return openFake(t, k, Config{}).Unmap(0x4000_0000)
		}, "iommufd: unmap slot at 0x40000000: " + guestmem.ErrNoSlot.Error()},
		{"Close", func(t *testing.T, k *fakeKernel) error {
			h := openFake(t, k, Config{})
			k.fail("destroy", 0, unix.EBUSY)
			return h.Close()
		}, "iommufd: close: IOMMU_DESTROY: device or resource busy"},
		{"Close again", func(t *testing.T, k *fakeKernel) error {
			h := openFake(t, k, Config{})
			require.NoError(t, h.Close())
			return h.Close()
		}, "iommufd: close: host closed"},
		{"FindDevice", func(t *testing.T, _ *fakeKernel) error {
			_, err := findDevice(t.TempDir(), "../vfio")
			return err
		}, `iommufd: find PCI device ../vfio: "../vfio" is not a PCI address (want an address such as 0000:00:02.0)`},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.EqualError(t, tt.call(t, newFake(t)), tt.want) })
	}
}

// The methods of bridge.Host and bridge.Stream return the cause only: the device adds package,
// operation and StreamID.
func TestErrors_of_a_host_are_the_cause(t *testing.T) {
	refusal := bridge.ErrRejected.Error() + ": "
	for _, tt := range []struct {
		name string
		call func(t *testing.T, k *fakeKernel, h *Host, d *Device, s bridge.Stream) error
		want string
	}{
		{"Attach of another's endpoint", func(_ *testing.T, _ *fakeKernel, h *Host, _ *Device, _ bridge.Stream) error {
			_, err := h.Attach(1, "vfio0")
			return err
		}, bridge.ErrEndpoint.Error() + ": string (want a *iommufd.Device)"},
		{"Attach of another host's device", func(_ *testing.T, _ *fakeKernel, h *Host, _ *Device, _ bridge.Stream) error {
			_, err := h.Attach(1, &Device{})
			return err
		}, bridge.ErrEndpoint.Error() + ": the device belongs to another host"},
		{"Attach of a StreamID in use", func(t *testing.T, _ *fakeKernel, h *Host, _ *Device, _ bridge.Stream) error {
			other, err := h.Add(dev1)
			require.NoError(t, err)
			_, err = h.Attach(0x100, other)
			return err
		}, "StreamID in use"},
		{"Attach of a device in use", func(_ *testing.T, _ *fakeKernel, h *Host, d *Device, _ bridge.Stream) error {
			_, err := h.Attach(1, d)
			return err
		}, "endpoint in use"},
		{"Attach", func(t *testing.T, k *fakeKernel, h *Host, d *Device, s bridge.Stream) error {
			require.NoError(t, s.Close())
			k.fail("vdevice", 1, unix.EEXIST)
			_, err := h.Attach(1, d)
			return err
		}, "IOMMU_VDEVICE_ALLOC: file exists (the StreamID is in use, or the device has another one)"},
		{"Bind of an illegal stage", func(_ *testing.T, _ *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			return s.Bind(translate(0x1020))
		}, refusal + "S1ContextPtr 0x1020 is misaligned or out of range"},
		{"Bind of no disposition", func(_ *testing.T, _ *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			return s.Bind(bridge.GuestStage{Disposition: 99})
		}, refusal + "disposition 99"},
		{"Bind", func(_ *testing.T, k *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			k.fail("hwpt", 1, unix.EIO)
			return s.Bind(translate(0x1000))
		}, "IOMMU_HWPT_ALLOC of stage 1: input/output error (the kernel does not accept this STE)"},
		{"Bind of a device that is gone", func(_ *testing.T, k *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			k.fail("attach", 1, unix.ENODEV)
			return s.Bind(bypass)
		}, "VFIO_DEVICE_ATTACH_IOMMUFD_PT: no such device (" + bridge.ErrGone.Error() + ")"},
		{"Stream.Close", func(_ *testing.T, k *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			k.fail("detach", 1, unix.EIO)
			return s.Close()
		}, "VFIO_DEVICE_DETACH_IOMMUFD_PT: input/output error"},
		{"Stream.Close that does not abort", func(t *testing.T, k *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			require.NoError(t, s.Bind(bypass))
			heal := k.failAll(unix.EIO, "attach", "detach")
			defer heal()
			return s.Close()
		}, "VFIO_DEVICE_DETACH_IOMMUFD_PT: input/output error; binding an abort failed too: VFIO_DEVICE_ATTACH_IOMMUFD_PT: input/output error"},
		{"Stream.Close again", func(t *testing.T, _ *fakeKernel, _ *Host, _ *Device, s bridge.Stream) error {
			require.NoError(t, s.Close())
			return s.Close()
		}, "stream closed"},
		{"Invalidate", func(t *testing.T, k *fakeKernel, h *Host, _ *Device, s bridge.Stream) error {
			require.NoError(t, s.Bind(translate(0x1000)))
			k.fail("invalidate", 1, unix.ETIMEDOUT)
			return h.Invalidate(pages(3))
		}, "3 commands: IOMMU_HWPT_INVALIDATE: connection timed out (the SMMU does not complete a SYNC (see dmesg))"},
		{"Invalidate of another command", func(_ *testing.T, _ *fakeKernel, h *Host, _ *Device, _ bridge.Stream) error {
			return h.Invalidate([]smmuv3.Command{{0x03}})
		}, "CFGI_STE is not a command a host executes"},
		{"Invalidate after Close", func(t *testing.T, _ *fakeKernel, h *Host, _ *Device, _ bridge.Stream) error {
			require.NoError(t, h.Close())
			return h.Invalidate(nil)
		}, "host closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k := newFake(t)
			h, d, s := attached(t, k)
			assert.EqualError(t, tt.call(t, k, h, d, s), tt.want)
		})
	}
	t.Run("Capabilities", func(t *testing.T) {
		_, err := openFake(t, newFake(t), Config{}).Capabilities()
		assert.EqualError(t, err, "no device has been added")
	})
}

// Each answer of the table is in the error with its advice, and matches its errno and its sentinel.
func TestErrors_of_the_kernel_match_errno_and_sentinel(t *testing.T) {
	for a, m := range meanings {
		err := failed(a.op, a.errno)
		assert.ErrorIs(t, err, a.errno)
		assert.ErrorContains(t, err, m.advice)
		assert.True(t, m.advice != "" || m.is != nil, "%s %v", a.op, a.errno)
		for _, sentinel := range []error{ErrUnsupported, ErrDiffers, bridge.ErrRejected, bridge.ErrGone, bridge.ErrInUse} {
			if errors.Is(m.is, sentinel) {
				assert.ErrorIs(t, err, sentinel)
			} else {
				assert.NotErrorIs(t, err, sentinel)
			}
		}
	}
	assert.NoError(t, failed(opBind, nil))
}
