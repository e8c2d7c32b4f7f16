//go:build linux && (amd64 || arm64)

package uapi

import (
	"structs"
	"unsafe"
)

// Requests of a VFIO device's character device: _IO(';', 100 + number). Each structure begins with its size.
const (
	VFIODeviceBindIOMMUFD     = 0x3b76
	VFIODeviceAttachIOMMUFDPT = 0x3b77
	VFIODeviceDetachIOMMUFDPT = 0x3b78
)

// BindIOMMUFD is struct vfio_device_bind_iommufd, without the token that only virtual functions of a device bound to
// vfio-pci need.
type BindIOMMUFD struct {
	_        structs.HostLayout
	ArgSz    uint32
	Flags    uint32
	IOMMUFD  int32
	OutDevID uint32
}

// AttachIOMMUFDPT is struct vfio_device_attach_iommufd_pt, up to the PASID that is never used.
type AttachIOMMUFDPT struct {
	_     structs.HostLayout
	ArgSz uint32
	Flags uint32
	PTID  uint32
}

// DetachIOMMUFDPT is struct vfio_device_detach_iommufd_pt, up to the PASID that is never used.
type DetachIOMMUFDPT struct {
	_     structs.HostLayout
	ArgSz uint32
	Flags uint32
}

// SizeOf is the size of a structure, as the structure itself says it to the kernel.
func SizeOf[T any]() uint32 {
	var t T
	return uint32(unsafe.Sizeof(t))
}
