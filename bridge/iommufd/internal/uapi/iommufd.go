//go:build linux && (amd64 || arm64)

package uapi

import (
	"structs"
	"unsafe"
)

// Requests of /dev/iommu: _IO(';', number), which has neither size nor direction. Each structure begins with its size.
const (
	IOMMUDestroy        = 0x3b80
	IOMMUIOASAlloc      = 0x3b81
	IOMMUIOASMap        = 0x3b85
	IOMMUIOASUnmap      = 0x3b86
	IOMMUHWPTAlloc      = 0x3b89
	IOMMUGetHWInfo      = 0x3b8a
	IOMMUHWPTInvalidate = 0x3b8d
	IOMMUVIOMMUAlloc    = 0x3b90
	IOMMUVDeviceAlloc   = 0x3b91
	IOMMUVEventQAlloc   = 0x3b93
)

// Destroy is struct iommu_destroy.
type Destroy struct {
	_    structs.HostLayout
	Size uint32
	ID   uint32
}

// IOASAlloc is struct iommu_ioas_alloc.
type IOASAlloc struct {
	_     structs.HostLayout
	Size  uint32
	Flags uint32
	OutID uint32
}

// Flags of IOASMap.
const (
	MapFixedIOVA = 1 << 0
	MapWriteable = 1 << 1
	MapReadable  = 1 << 2
)

// IOASMap is struct iommu_ioas_map.
type IOASMap struct {
	_      structs.HostLayout
	Size   uint32
	Flags  uint32
	IOASID uint32
	_      uint32
	UserVA unsafe.Pointer
	Length uint64
	IOVA   uint64
}

// IOASUnmap is struct iommu_ioas_unmap.
type IOASUnmap struct {
	_      structs.HostLayout
	Size   uint32
	IOASID uint32
	IOVA   uint64
	Length uint64 // in: bytes; out: bytes unmapped
}

// HWPTAllocNestParent is a flag of HWPTAlloc.
const HWPTAllocNestParent = 1 << 0

// HWPTDataARMSMMUv3 is the DataType of an HWPTAlloc with HWPTARMSMMUv3.
const HWPTDataARMSMMUv3 = 2

// HWPTAlloc is struct iommu_hwpt_alloc.
type HWPTAlloc struct {
	_        structs.HostLayout
	Size     uint32
	Flags    uint32
	DevID    uint32
	PTID     uint32 // an IOAS, a parent HWPT or a vIOMMU
	OutID    uint32
	_        uint32
	DataType uint32
	DataLen  uint32
	Data     unsafe.Pointer
	FaultID  uint32
	_        uint32
}

// HWPTARMSMMUv3 is struct iommu_hwpt_arm_smmuv3: the first two double-words of a Stream Table Entry.
type HWPTARMSMMUv3 struct {
	_   structs.HostLayout
	STE [2]uint64
}

// Values of HWInfo.OutDataType: the IOMMU's driver tells nothing of it, or has filled an HWInfoARMSMMUv3.
const (
	HWInfoTypeNone      = 0
	HWInfoTypeARMSMMUv3 = 2
)

// HWCapPCIATSNotSupported is a bit of HWInfo.OutCapabilities. Older kernels do not know it, and say nothing.
const HWCapPCIATSNotSupported = 1 << 3

// HWInfo is struct iommu_hw_info.
type HWInfo struct {
	_               structs.HostLayout
	Size            uint32
	Flags           uint32
	DevID           uint32
	DataLen         uint32 // in: bytes at Data; out: bytes that the kernel has
	Data            unsafe.Pointer
	OutDataType     uint32
	OutMaxPASIDLog2 uint8
	_               [3]uint8
	OutCapabilities uint64
}

// HWInfoErrataRepeatTLBICFGI is a flag of HWInfoARMSMMUv3: invalidations, with the SYNC after them, are to be issued twice.
const HWInfoErrataRepeatTLBICFGI = 1 << 0

// HWInfoARMSMMUv3 is struct iommu_hw_info_arm_smmuv3: the registers as the hardware has them.
type HWInfoARMSMMUv3 struct {
	_     structs.HostLayout
	Flags uint32
	_     uint32
	IDR   [6]uint32
	IIDR  uint32
	AIDR  uint32
}

// InvalidateDataARMSMMUv3 is the DataType of an HWPTInvalidate whose entries are commands of 16 bytes.
const InvalidateDataARMSMMUv3 = 1

// HWPTInvalidate is struct iommu_hwpt_invalidate.
type HWPTInvalidate struct {
	_        structs.HostLayout
	Size     uint32
	HWPTID   uint32 // or a vIOMMU
	Data     unsafe.Pointer
	DataType uint32
	EntryLen uint32
	EntryNum uint32 // in: entries at Data; out: entries handled, which is not to be believed after an error
	_        uint32
}

// VIOMMUTypeARMSMMUv3 is a Type of VIOMMUAlloc.
const VIOMMUTypeARMSMMUv3 = 1

// VIOMMUAlloc is struct iommu_viommu_alloc.
type VIOMMUAlloc struct {
	_       structs.HostLayout
	Size    uint32
	Flags   uint32
	Type    uint32
	DevID   uint32
	HWPTID  uint32
	OutID   uint32
	DataLen uint32
	_       uint32
	Data    unsafe.Pointer
}

// VDeviceAlloc is struct iommu_vdevice_alloc.
type VDeviceAlloc struct {
	_        structs.HostLayout
	Size     uint32
	VIOMMUID uint32
	DevID    uint32
	OutID    uint32
	VirtID   uint64 // the StreamID that the guest has for the device
}

// VEventQTypeARMSMMUv3 is a Type of VEventQAlloc.
const VEventQTypeARMSMMUv3 = 1

// VEventQAlloc is struct iommu_veventq_alloc.
type VEventQAlloc struct {
	_        structs.HostLayout
	Size     uint32
	Flags    uint32
	VIOMMUID uint32
	Type     uint32
	Depth    uint32
	OutID    uint32
	OutFD    uint32
	_        uint32
}

// VEventFlagLostEvents is a flag in the header of a vEVENT that stands for events lost, and that no data follows.
const VEventFlagLostEvents = 1 << 0

// VEventHeader is struct iommufd_vevent_header. For an SMMUv3 the 32 bytes of an event record follow.
type VEventHeader struct {
	_        structs.HostLayout
	Flags    uint32
	Sequence uint32 // 0 to MaxVEventSequence, and then 0 again
}

// MaxVEventSequence is the largest VEventHeader.Sequence.
const MaxVEventSequence = 1<<31 - 1
