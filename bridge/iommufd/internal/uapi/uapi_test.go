//go:build linux && (amd64 || arm64)

package uapi

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// The sizes are those of the C structures.
func TestSizes(t *testing.T) {
	for _, tt := range []struct {
		name      string
		size, got uint32
	}{
		{"iommu_destroy", 8, SizeOf[Destroy]()},
		{"iommu_ioas_alloc", 12, SizeOf[IOASAlloc]()},
		{"iommu_ioas_map", 40, SizeOf[IOASMap]()},
		{"iommu_ioas_unmap", 24, SizeOf[IOASUnmap]()},
		{"iommu_hwpt_alloc", 48, SizeOf[HWPTAlloc]()},
		{"iommu_hwpt_arm_smmuv3", 16, SizeOf[HWPTARMSMMUv3]()},
		{"iommu_hw_info", 40, SizeOf[HWInfo]()},
		{"iommu_hw_info_arm_smmuv3", 40, SizeOf[HWInfoARMSMMUv3]()},
		{"iommu_hwpt_invalidate", 32, SizeOf[HWPTInvalidate]()},
		{"iommu_viommu_alloc", 40, SizeOf[VIOMMUAlloc]()},
		{"iommu_vdevice_alloc", 24, SizeOf[VDeviceAlloc]()},
		{"iommu_veventq_alloc", 32, SizeOf[VEventQAlloc]()},
		{"iommufd_vevent_header", 8, SizeOf[VEventHeader]()},
		{"vfio_device_bind_iommufd up to out_devid", 16, SizeOf[BindIOMMUFD]()},
		{"vfio_device_attach_iommufd_pt up to pt_id", 12, SizeOf[AttachIOMMUFDPT]()},
		{"vfio_device_detach_iommufd_pt up to flags", 8, SizeOf[DetachIOMMUFDPT]()},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.size, tt.got) })
	}
}

// The offsets are those of the C structures, for fields behind padding and for outputs.
func TestOffsets(t *testing.T) {
	for _, tt := range []struct {
		name        string
		offset, got uintptr
	}{
		{"iommu_ioas_alloc.out_ioas_id", 8, unsafe.Offsetof(IOASAlloc{}.OutID)},
		{"iommu_ioas_map.user_va", 16, unsafe.Offsetof(IOASMap{}.UserVA)},
		{"iommu_ioas_map.iova", 32, unsafe.Offsetof(IOASMap{}.IOVA)},
		{"iommu_ioas_unmap.iova", 8, unsafe.Offsetof(IOASUnmap{}.IOVA)},
		{"iommu_hwpt_alloc.out_hwpt_id", 16, unsafe.Offsetof(HWPTAlloc{}.OutID)},
		{"iommu_hwpt_alloc.data_type", 24, unsafe.Offsetof(HWPTAlloc{}.DataType)},
		{"iommu_hwpt_alloc.data_uptr", 32, unsafe.Offsetof(HWPTAlloc{}.Data)},
		{"iommu_hw_info.data_uptr", 16, unsafe.Offsetof(HWInfo{}.Data)},
		{"iommu_hw_info.out_data_type", 24, unsafe.Offsetof(HWInfo{}.OutDataType)},
		{"iommu_hw_info.out_capabilities", 32, unsafe.Offsetof(HWInfo{}.OutCapabilities)},
		{"iommu_hw_info_arm_smmuv3.idr", 8, unsafe.Offsetof(HWInfoARMSMMUv3{}.IDR)},
		{"iommu_hw_info_arm_smmuv3.aidr", 36, unsafe.Offsetof(HWInfoARMSMMUv3{}.AIDR)},
		{"iommu_hwpt_invalidate.data_uptr", 8, unsafe.Offsetof(HWPTInvalidate{}.Data)},
		{"iommu_hwpt_invalidate.entry_num", 24, unsafe.Offsetof(HWPTInvalidate{}.EntryNum)},
		{"iommu_viommu_alloc.out_viommu_id", 20, unsafe.Offsetof(VIOMMUAlloc{}.OutID)},
		{"iommu_viommu_alloc.data_uptr", 32, unsafe.Offsetof(VIOMMUAlloc{}.Data)},
		{"iommu_vdevice_alloc.out_vdevice_id", 12, unsafe.Offsetof(VDeviceAlloc{}.OutID)},
		{"iommu_vdevice_alloc.virt_id", 16, unsafe.Offsetof(VDeviceAlloc{}.VirtID)},
		{"iommu_veventq_alloc.out_veventq_id", 20, unsafe.Offsetof(VEventQAlloc{}.OutID)},
		{"iommu_veventq_alloc.out_veventq_fd", 24, unsafe.Offsetof(VEventQAlloc{}.OutFD)},
		{"vfio_device_bind_iommufd.out_devid", 12, unsafe.Offsetof(BindIOMMUFD{}.OutDevID)},
		{"vfio_device_attach_iommufd_pt.pt_id", 8, unsafe.Offsetof(AttachIOMMUFDPT{}.PTID)},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.offset, tt.got) })
	}
}

// The numbers are those of enum iommufd_cmd, and VFIO_BASE plus 18 to 20. The type is ';'.
func TestRequests(t *testing.T) {
	io := func(nr uintptr) uintptr { return ';'<<8 | nr }
	for nr, got := range map[uintptr]uintptr{
		0x80: IOMMUDestroy, 0x81: IOMMUIOASAlloc, 0x85: IOMMUIOASMap, 0x86: IOMMUIOASUnmap,
		0x89: IOMMUHWPTAlloc, 0x8a: IOMMUGetHWInfo, 0x8d: IOMMUHWPTInvalidate,
		0x90: IOMMUVIOMMUAlloc, 0x91: IOMMUVDeviceAlloc, 0x93: IOMMUVEventQAlloc,
		100 + 18: VFIODeviceBindIOMMUFD, 100 + 19: VFIODeviceAttachIOMMUFDPT, 100 + 20: VFIODeviceDetachIOMMUFDPT,
	} {
		assert.Equal(t, io(nr), got)
	}
}
