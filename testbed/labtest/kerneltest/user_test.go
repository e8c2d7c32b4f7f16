//go:build linux && (amd64 || arm64)

package kerneltest

import (
	"structs"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// user is a user of iommufd without bridge/iommufd, with one edu device.
type user struct {
	*edu.Device
	t      *testing.T
	iommu  int    // /dev/iommu
	vfio   int    // the device's VFIO device
	device uint32 // the device's object
}

// Requests of Linux's iommufd.h and vfio.h.
const (
	iommuIOASAlloc      = 0x3b81
	iommuIOASMap        = 0x3b85
	iommuIOASUnmap      = 0x3b86
	iommuHWPTAlloc      = 0x3b89
	iommuDirtyTracking  = 0x3b8b // IOMMU_HWPT_SET_DIRTY_TRACKING
	iommuDirtyBitmap    = 0x3b8c // IOMMU_HWPT_GET_DIRTY_BITMAP
	vfioBindIOMMUFD     = 0x3b76
	vfioAttachIOMMUFDPT = 0x3b77
	vfioDetachIOMMUFDPT = 0x3b78
)

// needsOwn skips the test on a machine whose SMMU is QEMU's.
func needsOwn(t *testing.T) {
	t.Helper()
	needsLab(t)
	if !lab.InGuest() {
		t.Skip(SkipQEMU + "its SMMU has no substreams, and its devices report no aborts")
	}
}

// newUsers returns a user for each of the first devices. They share an iommufd.
func newUsers(t *testing.T, n int) []*user {
	t.Helper()
	needsOwn(t)
	iommu, err := unix.Open(iommufd.DefaultPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(iommu) })
	users := make([]*user, 0, n)
	for _, address := range lab.Alone()[:n] {
		path, err := iommufd.FindDevice(address)
		require.NoError(t, err)
		u := &user{t: t, iommu: iommu}
		u.vfio, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		require.NoError(t, err)
		t.Cleanup(func() { _ = unix.Close(u.vfio) })
		bind := struct {
			_           structs.HostLayout
			size, flags uint32
			iommufd     int32
			device      uint32
			tokenUUID   uint64
		}{size: 16, iommufd: int32(iommu)}
		require.NoError(t, u.request(u.vfio, vfioBindIOMMUFD, unsafe.Pointer(&bind)))
		u.device = bind.device
		users = append(users, u)
	}
	return users
}

// open makes the device usable. VFIO needs it attached first.
func (u *user) open() {
	u.t.Helper()
	if u.Device != nil {
		return
	}
	var err error
	u.Device, err = edu.Open(u.vfio)
	require.NoError(u.t, err)
	u.t.Cleanup(func() { assert.NoError(u.t, u.Close()) })
}

func (u *user) request(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// space is an address space of iommufd, an IOAS, with memory at spaceAt.
type space struct {
	id  uint32
	mem []byte
}

// spaceAt is the IOVA of the memory of each space.
const spaceAt = 0x1000_0000

// newSpace returns a space whose memory holds mark everywhere.
func (u *user) newSpace(mark byte, size int) *space {
	u.t.Helper()
	alloc := struct {
		_               structs.HostLayout
		size, flags, id uint32
	}{size: 12}
	require.NoError(u.t, u.request(u.iommu, iommuIOASAlloc, unsafe.Pointer(&alloc)))
	s := &space{alloc.id, anonymous(u.t, size)}
	for i := range s.mem {
		s.mem[i] = mark
	}
	u.mapMemory(s)
	return s
}

// mapMemory maps the memory of a space, readable and writable.
func (u *user) mapMemory(s *space) {
	u.t.Helper()
	arg := struct {
		_                     structs.HostLayout
		size, flags, id, zero uint32
		va                    unsafe.Pointer
		length, iova          uint64
	}{size: 40, flags: 7, id: s.id, va: unsafe.Pointer(&s.mem[0]), length: uint64(len(s.mem)), iova: spaceAt}
	require.NoError(u.t, u.request(u.iommu, iommuIOASMap, unsafe.Pointer(&arg)))
}

// unmapMemory unmaps the memory of a space.
func (u *user) unmapMemory(s *space) {
	u.t.Helper()
	arg := struct {
		_            structs.HostLayout
		size, id     uint32
		iova, length uint64
	}{size: 24, id: s.id, iova: spaceAt, length: uint64(len(s.mem))}
	require.NoError(u.t, u.request(u.iommu, iommuIOASUnmap, unsafe.Pointer(&arg)))
}

// Flags of IOMMU_HWPT_ALLOC.
const (
	hwptNestParent = 1 << 0
	hwptDirty      = 1 << 1
	hwptPASID      = 1 << 3
)

// table returns a page table of a space.
func (u *user) table(s *space, flags uint32) (uint32, error) {
	arg := struct {
		_                                                  structs.HostLayout
		size, flags, device, space, id, zero, kind, length uint32
		data                                               uint64
		fault, zero2                                       uint32
	}{size: 48, flags: flags, device: u.device, space: s.id}
	err := u.request(u.iommu, iommuHWPTAlloc, unsafe.Pointer(&arg))
	return arg.id, err
}

// noPASID is for DMA without a PASID.
const noPASID = -1

// attach attaches the device, or one of its PASIDs, to a page table, in place of an earlier one.
func (u *user) attach(table uint32, pasid int) error {
	arg := struct {
		_                         structs.HostLayout
		size, flags, table, pasid uint32
	}{size: 16, table: table}
	if pasid != noPASID {
		arg.flags, arg.pasid = 1, uint32(pasid)
	}
	return u.request(u.vfio, vfioAttachIOMMUFDPT, unsafe.Pointer(&arg))
}

// detach detaches the device, or one of its PASIDs.
func (u *user) detach(pasid int) error {
	arg := struct {
		_                  structs.HostLayout
		size, flags, pasid uint32
	}{size: 12}
	if pasid != noPASID {
		arg.flags, arg.pasid = 1, uint32(pasid)
	}
	return u.request(u.vfio, vfioDetachIOMMUFDPT, unsafe.Pointer(&arg))
}

// copies makes the device copy 64 bytes of a space's memory from offset from to offset to, and
// returns how that ended.
func (u *user) copies(pasid int, from, to uint64) regs.Code {
	u.t.Helper()
	u.open()
	a := regs.Attrs(0)
	if pasid != noPASID {
		a = a.WithPASID(uint32(pasid))
	}
	if err := u.LoadWith(a, spaceAt+from, 0, 64); err != nil {
		require.ErrorIs(u.t, err, edu.ErrAborted)
		return edu.Code(err)
	}
	err := u.StoreWith(a, spaceAt+to, 0, 64)
	if err != nil {
		require.ErrorIs(u.t, err, edu.ErrAborted)
	}
	return edu.Code(err)
}
