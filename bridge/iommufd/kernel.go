//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"golang.org/x/sys/unix"
)

// id is the number of an iommufd object. 0 means no object.
type id uint32

// kernel has a method for each request, and counts the objects that exist.
type kernel struct {
	sys     system
	fd      int // of /dev/iommu
	ioctls  atomic.Uint64
	objects atomic.Int64
}

func (k *kernel) call(o op, fd int, request uintptr, arg unsafe.Pointer) error {
	k.ioctls.Add(1)
	return failed(o, k.sys.ioctl(fd, request, arg))
}

// created counts the object that a request created.
func (k *kernel) created(object uint32, err error) (id, error) {
	if err != nil {
		return 0, err
	}
	k.objects.Add(1)
	return id(object), nil
}

// destroy destroys the object and sets its id to 0. If the kernel refuses, the id stays. An id of 0
// has no effect.
func (k *kernel) destroy(object *id) error {
	if *object == 0 {
		return nil
	}
	arg := uapi.Destroy{Size: uapi.SizeOf[uapi.Destroy](), ID: uint32(*object)}
	err := k.call(opDestroy, k.fd, uapi.IOMMUDestroy, unsafe.Pointer(&arg))
	// ENOENT is a success: the kernel itself destroys the vDEVICE of a device that is removed.
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	*object = 0
	k.objects.Add(-1)
	return nil
}

func (k *kernel) allocIOAS() (id, error) {
	arg := uapi.IOASAlloc{Size: uapi.SizeOf[uapi.IOASAlloc]()}
	err := k.call(opIOAS, k.fd, uapi.IOMMUIOASAlloc, unsafe.Pointer(&arg))
	return k.created(arg.OutID, err)
}

func (k *kernel) mapMemory(ioas id, s guestmem.Slot) error {
	arg := uapi.IOASMap{
		Size:   uapi.SizeOf[uapi.IOASMap](),
		Flags:  uapi.MapFixedIOVA | uapi.MapReadable | uapi.MapWriteable,
		IOASID: uint32(ioas),
		UserVA: unsafe.Pointer(unsafe.SliceData(s.Mem)),
		Length: uint64(len(s.Mem)),
		IOVA:   uint64(s.GPA),
	}
	if s.ReadOnly {
		arg.Flags &^= uapi.MapWriteable
	}
	return k.call(opMap, k.fd, uapi.IOMMUIOASMap, unsafe.Pointer(&arg))
}

// unmapMemory returns the number of bytes that it unmapped.
func (k *kernel) unmapMemory(ioas id, gpa guestmem.GPA, length uint64) (uint64, error) {
	arg := uapi.IOASUnmap{Size: uapi.SizeOf[uapi.IOASUnmap](), IOASID: uint32(ioas), IOVA: uint64(gpa), Length: length}
	err := k.call(opUnmap, k.fd, uapi.IOMMUIOASUnmap, unsafe.Pointer(&arg))
	return arg.Length, err
}

// bind makes a VFIO device an object of this iommufd, until its descriptor is closed.
func (k *kernel) bind(device int) (id, error) {
	arg := uapi.BindIOMMUFD{ArgSz: uapi.SizeOf[uapi.BindIOMMUFD](), IOMMUFD: int32(k.fd)}
	err := k.call(opBind, device, uapi.VFIODeviceBindIOMMUFD, unsafe.Pointer(&arg))
	return k.created(arg.OutDevID, err)
}

// unbind closes a device's descriptor, which destroys the object.
func (k *kernel) unbind(device int) error {
	k.objects.Add(-1)
	return k.sys.close(device)
}

// hardware describes a device and its SMMU.
type hardware struct {
	kind  uint32 // HWInfo.OutDataType
	regs  uapi.HWInfoARMSMMUv3
	noATS bool // the device does not support ATS
}

func (k *kernel) hardware(device id) (hardware, error) {
	h := new(hardware)
	arg := uapi.HWInfo{
		Size:    uapi.SizeOf[uapi.HWInfo](),
		DevID:   uint32(device),
		DataLen: uapi.SizeOf[uapi.HWInfoARMSMMUv3](),
		Data:    unsafe.Pointer(&h.regs),
	}
	err := k.call(opHWInfo, k.fd, uapi.IOMMUGetHWInfo, unsafe.Pointer(&arg))
	h.kind = arg.OutDataType
	h.noATS = arg.OutCapabilities&uapi.HWCapPCIATSNotSupported != 0
	return *h, err
}

func (k *kernel) allocParent(device, ioas id) (id, error) {
	arg := uapi.HWPTAlloc{
		Size:  uapi.SizeOf[uapi.HWPTAlloc](),
		Flags: uapi.HWPTAllocNestParent,
		DevID: uint32(device),
		PTID:  uint32(ioas),
	}
	err := k.call(opParent, k.fd, uapi.IOMMUHWPTAlloc, unsafe.Pointer(&arg))
	return k.created(arg.OutID, err)
}

func (k *kernel) allocVIOMMU(device, parent id) (id, error) {
	arg := uapi.VIOMMUAlloc{
		Size:   uapi.SizeOf[uapi.VIOMMUAlloc](),
		Type:   uapi.VIOMMUTypeARMSMMUv3,
		DevID:  uint32(device),
		HWPTID: uint32(parent),
	}
	err := k.call(opVIOMMU, k.fd, uapi.IOMMUVIOMMUAlloc, unsafe.Pointer(&arg))
	return k.created(arg.OutID, err)
}

func (k *kernel) allocNested(device, viommu id, ste vSTE) (id, error) {
	data := &uapi.HWPTARMSMMUv3{STE: ste}
	arg := uapi.HWPTAlloc{
		Size:     uapi.SizeOf[uapi.HWPTAlloc](),
		DevID:    uint32(device),
		PTID:     uint32(viommu),
		DataType: uapi.HWPTDataARMSMMUv3,
		DataLen:  uapi.SizeOf[uapi.HWPTARMSMMUv3](),
		Data:     unsafe.Pointer(data),
	}
	err := k.call(opNested, k.fd, uapi.IOMMUHWPTAlloc, unsafe.Pointer(&arg))
	return k.created(arg.OutID, err)
}

func (k *kernel) allocVDevice(device, viommu id, sid smmuv3.StreamID) (id, error) {
	arg := uapi.VDeviceAlloc{
		Size:     uapi.SizeOf[uapi.VDeviceAlloc](),
		VIOMMUID: uint32(viommu),
		DevID:    uint32(device),
		VirtID:   uint64(sid),
	}
	err := k.call(opVDevice, k.fd, uapi.IOMMUVDeviceAlloc, unsafe.Pointer(&arg))
	return k.created(arg.OutID, err)
}

// allocVEventQ also returns a descriptor, which holds the object until it is closed.
func (k *kernel) allocVEventQ(viommu id, depth uint32) (queue id, fd int, err error) {
	arg := uapi.VEventQAlloc{
		Size:     uapi.SizeOf[uapi.VEventQAlloc](),
		VIOMMUID: uint32(viommu),
		Type:     uapi.VEventQTypeARMSMMUv3,
		Depth:    depth,
	}
	err = k.call(opVEventQ, k.fd, uapi.IOMMUVEventQAlloc, unsafe.Pointer(&arg))
	queue, err = k.created(arg.OutID, err)
	return queue, int(arg.OutFD), err
}

// attach attaches a device to a table. It replaces the table that the device is attached to, if
// any.
func (k *kernel) attach(device int, table id) error {
	arg := uapi.AttachIOMMUFDPT{ArgSz: uapi.SizeOf[uapi.AttachIOMMUFDPT](), PTID: uint32(table)}
	return k.call(opAttach, device, uapi.VFIODeviceAttachIOMMUFDPT, unsafe.Pointer(&arg))
}

// detach detaches a device from its table. The DMA of a bound device without a table is blocked.
func (k *kernel) detach(device int) error {
	arg := uapi.DetachIOMMUFDPT{ArgSz: uapi.SizeOf[uapi.DetachIOMMUFDPT]()}
	return k.call(opDetach, device, uapi.VFIODeviceDetachIOMMUFDPT, unsafe.Pointer(&arg))
}

func (k *kernel) invalidate(arg *uapi.HWPTInvalidate) error {
	return k.call(opInvalidate, k.fd, uapi.IOMMUHWPTInvalidate, unsafe.Pointer(arg))
}
