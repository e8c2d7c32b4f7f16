//go:build linux && (amd64 || arm64)

package uapi

import (
	"structs"
	"unsafe"
)

// Requests of /dev/iommu, from enum iommufd_cmd of linux/iommufd.h: _IO(';', number), which encodes
// neither size nor direction. Each structure begins with its size.
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

// Destroy mirrors struct iommu_destroy of linux/iommufd.h.
type Destroy struct {
	_    structs.HostLayout
	Size uint32
	ID   uint32
}

// IOASAlloc mirrors struct iommu_ioas_alloc of linux/iommufd.h.
type IOASAlloc struct {
	_     structs.HostLayout
	Size  uint32
	Flags uint32
	OutID uint32
}

// Flags of IOASMap, from enum iommufd_ioas_map_flags.
const (
	MapFixedIOVA = 1 << 0
	MapWriteable = 1 << 1
	MapReadable  = 1 << 2
)

// IOASMap mirrors struct iommu_ioas_map of linux/iommufd.h.
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

// IOASUnmap mirrors struct iommu_ioas_unmap of linux/iommufd.h.
type IOASUnmap struct {
	_      structs.HostLayout
	Size   uint32
	IOASID uint32
	IOVA   uint64
	Length uint64 // in: number of bytes; out: number of unmapped bytes
}

// HWPTAllocNestParent is a flag of HWPTAlloc, from enum iommufd_hwpt_alloc_flags.
const HWPTAllocNestParent = 1 << 0

// HWPTDataARMSMMUv3 is the DataType of an HWPTAlloc whose Data is an HWPTARMSMMUv3, from enum
// iommu_hwpt_data_type.
const HWPTDataARMSMMUv3 = 2

// HWPTAlloc mirrors struct iommu_hwpt_alloc of linux/iommufd.h.
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

// HWPTARMSMMUv3 mirrors struct iommu_hwpt_arm_smmuv3 of linux/iommufd.h: the first two
// double-words of an STE.
type HWPTARMSMMUv3 struct {
	_   structs.HostLayout
	STE [2]uint64
}

// Values of HWInfo.OutDataType, from enum iommu_hw_info_type.
const (
	HWInfoTypeNone      = 0 // the driver reports nothing
	HWInfoTypeARMSMMUv3 = 2 // Data is an HWInfoARMSMMUv3
)

// HWCapPCIATSNotSupported is a bit of HWInfo.OutCapabilities, from enum iommufd_hw_capabilities.
// Kernels before 7.1 never set it.
const HWCapPCIATSNotSupported = 1 << 3

// HWInfo mirrors struct iommu_hw_info of linux/iommufd.h.
type HWInfo struct {
	_               structs.HostLayout
	Size            uint32
	Flags           uint32
	DevID           uint32
	DataLen         uint32 // in: size of Data; out: size of the kernel's structure
	Data            unsafe.Pointer
	OutDataType     uint32
	OutMaxPASIDLog2 uint8
	_               [3]uint8
	OutCapabilities uint64
}

// HWInfoErrataRepeatTLBICFGI is a flag of HWInfoARMSMMUv3, from Linux 7.3 on: TLBI and CFGI
// commands, with the SYNC after them, must be issued twice.
const HWInfoErrataRepeatTLBICFGI = 1 << 0

// HWInfoARMSMMUv3 mirrors struct iommu_hw_info_arm_smmuv3 of linux/iommufd.h: the hardware's
// registers.
type HWInfoARMSMMUv3 struct {
	_     structs.HostLayout
	Flags uint32
	_     uint32
	IDR   [6]uint32
	IIDR  uint32
	AIDR  uint32
}

// InvalidateDataARMSMMUv3 is the DataType of an HWPTInvalidate whose entries are commands of 16
// bytes. It is IOMMU_VIOMMU_INVALIDATE_DATA_ARM_SMMUV3.
const InvalidateDataARMSMMUv3 = 1

// HWPTInvalidate mirrors struct iommu_hwpt_invalidate of linux/iommufd.h.
type HWPTInvalidate struct {
	_        structs.HostLayout
	Size     uint32
	HWPTID   uint32 // an HWPT or a vIOMMU
	Data     unsafe.Pointer
	DataType uint32
	EntryLen uint32
	EntryNum uint32 // in: number of entries; out: number of handled entries, not exact after an error
	_        uint32
}

// VIOMMUTypeARMSMMUv3 is a Type of VIOMMUAlloc, from enum iommu_viommu_type.
const VIOMMUTypeARMSMMUv3 = 1

// VIOMMUAlloc mirrors struct iommu_viommu_alloc of linux/iommufd.h.
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

// VDeviceAlloc mirrors struct iommu_vdevice_alloc of linux/iommufd.h.
type VDeviceAlloc struct {
	_        structs.HostLayout
	Size     uint32
	VIOMMUID uint32
	DevID    uint32
	OutID    uint32
	VirtID   uint64 // the guest's StreamID
}

// VEventQTypeARMSMMUv3 is a Type of VEventQAlloc, from enum iommu_veventq_type.
const VEventQTypeARMSMMUv3 = 1

// VEventQAlloc mirrors struct iommu_veventq_alloc of linux/iommufd.h.
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

// VEventFlagLostEvents is a flag of VEventHeader, from enum iommu_veventq_flag: the header reports
// lost events, and no data follows it.
const VEventFlagLostEvents = 1 << 0

// VEventHeader mirrors struct iommufd_vevent_header of linux/iommufd.h. An SMMUv3's event record of
// 32 bytes follows it, which is struct iommu_vevent_arm_smmuv3.
type VEventHeader struct {
	_        structs.HostLayout
	Flags    uint32
	Sequence uint32 // 0 to MaxVEventSequence, then 0 again
}

// MaxVEventSequence is the largest VEventHeader.Sequence.
const MaxVEventSequence = 1<<31 - 1
