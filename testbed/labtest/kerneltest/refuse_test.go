//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"errors"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// A user without permission gets advice. Root has all permissions, so the thread becomes another
// user's.
func TestKernelRefusesUserWithoutPermission(t *testing.T) {
	newKernelRig(t) // skips the test outside the lab
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const nobody = 65534
	require.NoError(t, errors.Join(unix.Setfsgid(nobody), unix.Setfsuid(nobody)))
	_, err := iommufd.Open(iommufd.Config{})
	require.NoError(t, errors.Join(unix.Setfsuid(0), unix.Setfsgid(0)))
	require.ErrorIs(t, err, unix.EACCES)
	assert.ErrorContains(t, err, "/dev/iommu")
	assert.ErrorContains(t, err, "the user of this process must be able to read and write the file")
	t.Log(err)
}

// On a machine with its own IORT, the root complex is not CANWBS.
func TestRefusesWithoutCANWBS(t *testing.T) { refused(t, "CANWBS") }

// iommufd refuses an SMMU whose granules are larger than the kernel's pages.
func TestRefusesLargeGranules(t *testing.T) {
	needsLab(t)
	h, err := iommufd.Open(iommufd.Config{})
	require.NoError(t, err)
	path, err := iommufd.FindDevice(lab.Alone()[0])
	require.NoError(t, err)
	_, err = h.Add(path)
	require.ErrorIs(t, err, unix.EINVAL)
	assert.ErrorContains(t, err, "IOMMU_HWPT_ALLOC of stage 2")
	t.Log(err)
	require.NoError(t, h.Close())
	assert.Zero(t, h.Stats().Objects)
}

// The SMMU has no stage 2.
func TestRefusesStage1Alone(t *testing.T) { refused(t, "IDR0.S1P, IDR0.S2P") }

// The SMMU has no stage 1.
func TestRefusesStage2Alone(t *testing.T) { refused(t, "IDR0.S1P, IDR0.S2P") }

// VFIO refuses devices whose SMMU's accesses are not cache-coherent.
func TestRefusesIncoherentSMMU(t *testing.T) {
	needsLab(t)
	_, err := iommufd.FindDevice(lab.Alone()[0])
	require.ErrorContains(t, err, "cache-coherent")
	t.Log(err)
}

// refused checks that the host refuses the machine's devices with advice, and leaves no object.
func refused(t *testing.T, says string) {
	t.Helper()
	needsLab(t)
	h, err := iommufd.Open(iommufd.Config{})
	require.NoError(t, err)
	path, err := iommufd.FindDevice(lab.Alone()[0])
	require.NoError(t, err)
	_, err = h.Add(path)
	require.ErrorIs(t, err, iommufd.ErrUnsupported)
	assert.ErrorContains(t, err, says)
	t.Log(err)
	require.NoError(t, h.Close())
	assert.Zero(t, h.Stats().Objects)
	figures := machine.Figures(h.Stats())
	assert.NoError(t, lab.Send(machine.Message{Figures: &figures}))
}

func TestKernelRefusesWithAdvice(t *testing.T) {
	r := newKernelRig(t)
	path, err := iommufd.FindDevice(lab.Alone()[0])
	require.NoError(t, err)
	for _, tt := range []struct {
		name string
		err  func() error
		is   error
		says string
	}{
		{"no iommufd", func() error { _, err := iommufd.Open(iommufd.Config{Path: "/dev/nowhere"}); return err }, iommufd.ErrUnsupported, "CONFIG_IOMMUFD"},
		{"not iommufd", func() error { _, err := iommufd.Open(iommufd.Config{Path: "/dev/null"}); return err }, unix.ENOTTY, "IOMMU_IOAS_ALLOC"},
		{"no such device", func() error { _, err := r.host.Add("/dev/vfio/devices/vfio99"); return err }, unix.ENOENT, "vfio-pci"},
		{"not a VFIO device", func() error { _, err := r.host.Add("/dev/null"); return err }, iommufd.ErrUnsupported, "not a VFIO device"},
		{"bound already", func() error { _, err := r.host.Add(path); return err }, nil, "VFIO_DEVICE_BIND_IOMMUFD"},
		{"another process's", func() error {
			other, err := iommufd.Open(iommufd.Config{})
			require.NoError(t, err)
			defer func() { assert.NoError(t, other.Close()) }()
			_, err = other.Add(path)
			return err
		}, nil, "VFIO_DEVICE_BIND_IOMMUFD"},
		{"not bound to vfio-pci", func() error { _, err := iommufd.FindDevice("0000:00:00.0"); return err }, nil, "driver_override"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.err()
			require.ErrorContains(t, err, tt.says)
			if tt.is != nil {
				assert.ErrorIs(t, err, tt.is)
			}
			t.Log(err)
		})
	}
}

// The kernel attaches whole IOMMU groups, so a device that shares its group is refused.
func TestKernelRefusesSharedGroup(t *testing.T) {
	r := newKernelRig(t)
	siblings := lab.Siblings()
	require.Len(t, siblings, 2)
	path, err := iommufd.FindDevice(siblings[0])
	require.NoError(t, err)
	_, err = r.host.Add(path)
	require.ErrorIs(t, err, iommufd.ErrUnsupported)
	for _, address := range siblings {
		assert.ErrorContains(t, err, address)
	}
	t.Log(err)
}
