// Package iommufd is a bridge.Host on Linux: the physical SMMUv3 behind /dev/iommu carries out the guest's stage 1, nested
// on a stage 2 that maps the guest's memory, for devices that VFIO passes through.
//
//	h, err := iommufd.Open(iommufd.Config{})
//	dev, err := h.Add("/dev/vfio/devices/vfio0") // see FindDevice; the first device decides Capabilities
//	err = h.Map(guestmem.Slot{GPA: 0x4000_0000, Mem: ram})
//	...
//	err = smmu.Attach(sid, h, dev) // smmu is a *vsmmu.Device
//
// What stands behind a Host in the kernel, and when:
//
//	Open    IOAS
//	Map     a mapping in the IOAS: IOVA = GPA
//	Add     the device, bound; with the first of them the parent HWPT (stage 2), the vIOMMU, the nested HWPTs "abort" and
//	        "bypass" that all streams share, and the vEVENTQ
//	Attach  a vDEVICE that has the guest's StreamID; the device is attached to "abort"
//	Bind    to translate: a nested HWPT made from the STE, which then replaces the one attached
//
// All of it is given back by Stream.Close, Device.Close, Unmap and Host.Close, in the reverse order.
//
// Linux 6.16 or later is needed, with CONFIG_IOMMUFD, CONFIG_VFIO_DEVICE_CDEV and CONFIG_ARM_SMMU_V3_IOMMUFD, and an SMMU
// that has both stages and keeps a guest from bypassing the caches: IDR3.FWB, or a root complex that the IORT declares
// CANWBS. Elsewhere than on 64-bit little-endian Linux the package has nothing but MSIBase and MSISize.
package iommufd
