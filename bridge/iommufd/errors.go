//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"golang.org/x/sys/unix"
)

// Sentinels for errors of a Host, besides those of package bridge.
var (
	// ErrNoDevice means that no device was added, so that the physical SMMU is unknown.
	ErrNoDevice = errors.New("no device has been added")
	// ErrUnsupported means that the kernel, the SMMU or the device lacks a feature. The error names
	// it.
	ErrUnsupported = errors.New("not supported here")
	// ErrDiffers means that the device is not behind the physical SMMU of earlier devices, or that
	// its SMMU has other capabilities.
	ErrDiffers = errors.New("different from the earlier devices")
)

// op names a request to the kernel in errors.
type op string

const (
	opOpenIOMMU  op = "" // the error of Open names it
	opOpenDevice op = "open"
	opIOAS       op = "IOMMU_IOAS_ALLOC"
	opMap        op = "IOMMU_IOAS_MAP"
	opUnmap      op = "IOMMU_IOAS_UNMAP"
	opBind       op = "VFIO_DEVICE_BIND_IOMMUFD"
	opHWInfo     op = "IOMMU_GET_HW_INFO"
	opParent     op = "IOMMU_HWPT_ALLOC of stage 2"
	opVIOMMU     op = "IOMMU_VIOMMU_ALLOC"
	opVDevice    op = "IOMMU_VDEVICE_ALLOC"
	opNested     op = "IOMMU_HWPT_ALLOC of stage 1"
	opVEventQ    op = "IOMMU_VEVENTQ_ALLOC"
	opQueue      op = "set up the vEVENTQ's descriptor"
	opAttach     op = "VFIO_DEVICE_ATTACH_IOMMUFD_PT"
	opDetach     op = "VFIO_DEVICE_DETACH_IOMMUFD_PT"
	opInvalidate op = "IOMMU_HWPT_INVALIDATE"
	opDestroy    op = "IOMMU_DESTROY"
)

// answer is an errno that the kernel returns for a request.
type answer struct {
	op    op
	errno unix.Errno
}

// meaning explains an answer: the sentinel that the error matches, if any, and advice.
type meaning struct {
	is     error
	advice string
}

const (
	noCdev   = "bind the device to vfio-pci; the kernel needs CONFIG_VFIO_DEVICE_CDEV"
	noModule = "the kernel needs CONFIG_IOMMUFD, and the module iommufd must be loaded"
	tooOld   = "needs Linux 6.16 or later with CONFIG_ARM_SMMU_V3_IOMMUFD"
	noAccess = "the user of this process must be able to read and write the file"
	reserved = "addresses that the kernel reserves for MSIs or that stage 2 does not reach"
)

var meanings = map[answer]meaning{
	{opOpenIOMMU, unix.ENOENT}: {ErrUnsupported, noModule},
	{opOpenIOMMU, unix.ENODEV}: {ErrUnsupported, noModule},
	{opOpenIOMMU, unix.EACCES}: {nil, noAccess},
	{opOpenIOMMU, unix.EPERM}:  {nil, noAccess},

	{opOpenDevice, unix.ENOENT}: {nil, noCdev},
	{opOpenDevice, unix.ENXIO}:  {nil, noCdev},
	{opOpenDevice, unix.EACCES}: {nil, noAccess},
	{opOpenDevice, unix.EPERM}:  {nil, noAccess},

	{opIOAS, unix.ENOTTY}: {ErrUnsupported, "the file is not iommufd's device node"},

	{opMap, unix.ENOMEM}: {nil, "the kernel pins the memory: RLIMIT_MEMLOCK must allow all of it"},
	{opMap, unix.EINVAL}: {nil, "guest address, host address and size must be multiples of the page size, " +
		"and the slot must not overlap " + reserved},
	{opMap, unix.EFAULT}: {nil, "the host memory is not mapped or not writable"},

	{opBind, unix.ENOTTY}: {
		ErrUnsupported, "the file is not a VFIO device, or the kernel lacks CONFIG_VFIO_DEVICE_CDEV",
	},
	{opBind, unix.EBUSY}: {bridge.ErrInUse, "another process has the device, " +
		"or a driver other than vfio-pci is bound to a device of its IOMMU group"},
	{opBind, unix.EINVAL}: {nil, "the device is already open, here or in another process, " +
		"or its IOMMU is not cache-coherent, which VFIO requires"},
	{opBind, unix.EPERM}: {nil, "the platform does not isolate MSIs " +
		"(see iommufd's module parameter allow_unsafe_interrupts)"},
	{opBind, unix.ENODEV}: {nil, "the device has no IOMMU or was removed"},

	{opHWInfo, unix.ENOTTY}:     {ErrUnsupported, tooOld},
	{opHWInfo, unix.EOPNOTSUPP}: {ErrUnsupported, "the device is not behind an SMMUv3"},

	{opParent, unix.EOPNOTSUPP}: {ErrUnsupported, "the SMMU must have both stages: IDR0.S1P, IDR0.S2P"},
	{opParent, unix.EADDRINUSE}: {nil, "a slot of the guest's memory overlaps " + reserved},

	{opVIOMMU, unix.ENOTTY}: {ErrUnsupported, tooOld},
	{opVIOMMU, unix.EOPNOTSUPP}: {ErrUnsupported, "nesting needs an SMMU with IDR3.FWB " +
		"or a root complex that the IORT declares CANWBS, " +
		"and a kernel with CONFIG_ARM_SMMU_V3_IOMMUFD"},

	{opVDevice, unix.ENOTTY}:     {ErrUnsupported, tooOld},
	{opVDevice, unix.EEXIST}:     {bridge.ErrInUse, "the StreamID is in use, or the device has another one"},
	{opVDevice, unix.EINVAL}:     {ErrDiffers, "the device is behind another physical SMMU"},
	{opVDevice, unix.EOPNOTSUPP}: {ErrUnsupported, "the device must have exactly one StreamID on the physical SMMU"},

	{opNested, unix.EIO}:        {bridge.ErrRejected, "the kernel does not accept this STE"},
	{opNested, unix.EINVAL}:     {bridge.ErrRejected, "the device is not behind the vIOMMU's SMMU"},
	{opNested, unix.EOPNOTSUPP}: {bridge.ErrRejected, "the kernel does not support this kind of table"},
	{opNested, unix.ENODEV}:     {bridge.ErrGone, ""},

	{opVEventQ, unix.ENOTTY}: {ErrUnsupported, tooOld},

	{opAttach, unix.EINVAL}: {bridge.ErrRejected, "the table is not for this device, " +
		"or the device's IOMMU group is attached to another table"},
	{opAttach, unix.EBUSY}:      {nil, "the device is being reset, or has PASIDs of its own in use"},
	{opAttach, unix.EADDRINUSE}: {nil, "a slot of the guest's memory overlaps " + reserved},
	{opAttach, unix.ENODEV}:     {bridge.ErrGone, ""},
	{opDetach, unix.ENODEV}:     {bridge.ErrGone, ""},

	{opInvalidate, unix.EIO}:       {nil, "the kernel does not accept one of the commands"},
	{opInvalidate, unix.ETIMEDOUT}: {nil, "the SMMU does not complete a SYNC (see dmesg)"},
}

// callError is a failed request, with the errno and its meaning.
type callError struct {
	op    op
	errno error
	meaning
}

// failed returns the error of a request, or nil if err is nil.
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

// Error returns "request: errno (advice)".
func (e *callError) Error() string {
	s := e.errno.Error()
	if e.op != "" {
		s = string(e.op) + ": " + s
	}
	switch {
	case e.advice != "":
		s += " (" + e.advice + ")"
	case e.is != nil:
		s += fmt.Sprintf(" (%v)", e.is)
	}
	return s
}

// Unwrap returns the errno and the sentinel.
func (e *callError) Unwrap() []error {
	if e.is == nil {
		return []error{e.errno}
	}
	return []error{e.is, e.errno}
}
