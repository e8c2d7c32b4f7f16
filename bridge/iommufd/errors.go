//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"golang.org/x/sys/unix"
)

// Errors that a Host's errors match, beside those of package bridge.
var (
	// ErrNoDevice: nothing is known of the physical SMMU before the first device is added.
	ErrNoDevice = errors.New("no device has been added")
	// ErrUnsupported: this kernel, SMMU or device cannot do it, and the error says what it lacks.
	ErrUnsupported = errors.New("not supported here")
	// ErrDiffers: the device is not behind the physical SMMU of those before it, or that SMMU has other capabilities for it.
	ErrDiffers = errors.New("not like the devices before it")
)

// op is something asked of the kernel, as errors name it.
type op string

const (
	opOpenIOMMU  op = "open of the IOMMU device"
	opOpenDevice op = "open of the VFIO device"
	opIOAS       op = "IOMMU_IOAS_ALLOC"
	opMap        op = "IOMMU_IOAS_MAP"
	opUnmap      op = "IOMMU_IOAS_UNMAP"
	opBind       op = "VFIO_DEVICE_BIND_IOMMUFD"
	opHWInfo     op = "IOMMU_GET_HW_INFO"
	opParent     op = "IOMMU_HWPT_ALLOC of stage 2"
	opVIOMMU     op = "IOMMU_VIOMMU_ALLOC"
	opVDevice    op = "IOMMU_VDEVICE_ALLOC"
	opNested     op = "IOMMU_HWPT_ALLOC of a guest's stage 1"
	opVEventQ    op = "IOMMU_VEVENTQ_ALLOC"
	opQueue      op = "opening the vEVENTQ"
	opAttach     op = "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
	opDetach     op = "VFIO_DEVICE_DETACH_IOMMUFD_PT"
	opInvalidate op = "IOMMU_HWPT_INVALIDATE"
	opDestroy    op = "IOMMU_DESTROY"
)

// answer is one way for the kernel to refuse.
type answer struct {
	op    op
	errno unix.Errno
}

// meaning is what stands behind an answer: the sentinel that it is for callers, if any, and what to do.
type meaning struct {
	is     error
	advice string
}

const (
	noCdev   = "is the device bound to vfio-pci, and has the kernel CONFIG_VFIO_DEVICE_CDEV?"
	tooOld   = "Linux 6.16 or later is needed, with CONFIG_ARM_SMMU_V3_IOMMUFD"
	noAccess = "let this process's user read and write the file"
	reserved = "the addresses that the kernel keeps for MSIs or those that stage 2 does not reach"
)

var meanings = map[answer]meaning{
	{opOpenIOMMU, unix.ENOENT}: {ErrUnsupported, "has the kernel CONFIG_IOMMUFD, and is the module iommufd loaded?"},
	{opOpenIOMMU, unix.ENODEV}: {ErrUnsupported, "has the kernel CONFIG_IOMMUFD, and is the module iommufd loaded?"},
	{opOpenIOMMU, unix.EACCES}: {nil, noAccess},
	{opOpenIOMMU, unix.EPERM}:  {nil, noAccess},

	{opOpenDevice, unix.ENOENT}: {nil, noCdev},
	{opOpenDevice, unix.ENXIO}:  {nil, noCdev},
	{opOpenDevice, unix.EACCES}: {nil, noAccess},
	{opOpenDevice, unix.EPERM}:  {nil, noAccess},

	{opBind, unix.ENOTTY}: {ErrUnsupported, "the file is no VFIO device, or the kernel lacks CONFIG_VFIO_DEVICE_CDEV"},
	{opBind, unix.EBUSY}:  {bridge.ErrInUse, "another process has the device, or a driver other than vfio-pci has one of its IOMMU group"},
	{opBind, unix.EINVAL}: {nil, "the device is open already, here or in another process, or the accesses of its IOMMU are not cache-coherent, which VFIO insists on"},
	{opBind, unix.EPERM}:  {nil, "the platform does not isolate MSIs (see the module parameter allow_unsafe_interrupts of iommufd)"},
	{opBind, unix.ENODEV}: {nil, "the device is not behind an IOMMU, or has been removed"},

	{opHWInfo, unix.ENOTTY}:     {ErrUnsupported, tooOld},
	{opHWInfo, unix.EOPNOTSUPP}: {ErrUnsupported, "the device is not behind an SMMUv3"},

	{opParent, unix.EOPNOTSUPP}: {ErrUnsupported, "the SMMU does not nest: it must have both stages (IDR0.S1P, IDR0.S2P)"},
	{opParent, unix.EADDRINUSE}: {nil, "a slot of the guest's memory meets " + reserved},

	{opVIOMMU, unix.ENOTTY}: {ErrUnsupported, tooOld},
	{opVIOMMU, unix.EOPNOTSUPP}: {ErrUnsupported, "nesting needs an SMMU with IDR3.FWB, or a root complex that the IORT declares CANWBS, " +
		"and a kernel with CONFIG_ARM_SMMU_V3_IOMMUFD"},

	{opVDevice, unix.ENOTTY}:     {ErrUnsupported, tooOld},
	{opVDevice, unix.EEXIST}:     {bridge.ErrInUse, "the StreamID is taken, or the device has one"},
	{opVDevice, unix.EINVAL}:     {ErrDiffers, "the device is behind another physical SMMU"},
	{opVDevice, unix.EOPNOTSUPP}: {ErrUnsupported, "the device has more than one StreamID on the physical SMMU"},

	{opNested, unix.EIO}:        {bridge.ErrRejected, "the kernel does not allow this STE"},
	{opNested, unix.EINVAL}:     {bridge.ErrRejected, "the device and the vIOMMU do not go together"},
	{opNested, unix.EOPNOTSUPP}: {bridge.ErrRejected, "the kernel does not know this kind of table"},

	{opVEventQ, unix.ENOTTY}: {ErrUnsupported, tooOld},

	{opAttach, unix.EINVAL}:     {bridge.ErrRejected, "the table is not for this device, or the device's IOMMU group is attached to another"},
	{opAttach, unix.EBUSY}:      {nil, "the device is being reset, or has PASIDs of its own in use"},
	{opAttach, unix.EADDRINUSE}: {nil, "a slot of the guest's memory meets " + reserved},
	{opAttach, unix.ENODEV}:     {bridge.ErrGone, ""},
	{opNested, unix.ENODEV}:     {bridge.ErrGone, ""},
	{opDetach, unix.ENODEV}:     {bridge.ErrGone, ""},

	{opMap, unix.ENOMEM}: {nil, "the memory is pinned: RLIMIT_MEMLOCK must leave room for all of it"},
	{opMap, unix.EINVAL}: {nil, "guest address, host address and size must be multiples of the page size, and the range must not meet " + reserved},
	{opMap, unix.EFAULT}: {nil, "the host memory is not mapped, or not writable"},
}

// callError is what the kernel answered, and what that means.
type callError struct {
	op    op
	errno error
	meaning
}

// failed is the error for an answer, or nil for success.
func failed(o op, err error) error {
	if err == nil {
		return nil
	}
	e := &callError{op: o, errno: err}
	var errno unix.Errno
	if errors.As(err, &errno) {
		e.meaning = meanings[answer{o, errno}]
	}
	return e
}

func (e *callError) Error() string {
	s := fmt.Sprintf("%s: %v", e.op, e.errno)
	switch {
	case e.advice != "":
		s += fmt.Sprintf(" (%s)", e.advice)
	case e.is != nil:
		s += fmt.Sprintf(" (%v)", e.is)
	}
	return s
}

// Unwrap gives the errno, and the sentinel that it stands for.
func (e *callError) Unwrap() []error {
	if e.is == nil {
		return []error{e.errno}
	}
	return []error{e.is, e.errno}
}
