//go:build linux && (amd64 || arm64)

package uapi

import (
	"structs"
	"unsafe"
)

// Requests of a VFIO device's character device, from linux/vfio.h: _IO(';', VFIO_BASE + number),
// where VFIO_BASE is 100. Each structure begins with its size.
const (
	VFIODeviceBindIOMMUFD     = 0x3b76
	VFIODeviceAttachIOMMUFDPT = 0x3b77
	VFIODeviceDetachIOMMUFDPT = 0x3b78
)

// BindIOMMUFD mirrors struct vfio_device_bind_iommufd of linux/vfio.h, without the token that only
// virtual functions need.
type BindIOMMUFD struct {
	_        structs.HostLayout
	ArgSz    uint32
	Flags    uint32
	IOMMUFD  int32
	OutDevID uint32
}

// AttachIOMMUFDPT mirrors struct vfio_device_attach_iommufd_pt of linux/vfio.h, without the PASID.
type AttachIOMMUFDPT struct {
	_     structs.HostLayout
	ArgSz uint32
	Flags uint32
	PTID  uint32
}

// DetachIOMMUFDPT mirrors struct vfio_device_detach_iommufd_pt of linux/vfio.h, without the PASID.
type DetachIOMMUFDPT struct {
	_     structs.HostLayout
	ArgSz uint32
	Flags uint32
}

// SizeOf returns the size of a structure, for its own size field.
func SizeOf[T any]() uint32 {
	var t T
	return uint32(unsafe.Sizeof(t))
}
