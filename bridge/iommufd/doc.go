// Package iommufd provides a bridge.Host on Linux. The physical SMMUv3 behind /dev/iommu translates
// by the guest's stage 1, nested on a stage 2 that maps the guest's memory. It serves devices that
// VFIO passes through.
//
//	h, err := iommufd.Open(iommufd.Config{})
//	path, err := iommufd.FindDevice("0000:00:02.0")
//	dev, err := h.Add(path) // the first device determines Capabilities
//	err = h.Map(guestmem.Slot{GPA: 0x4000_0000, Mem: ram})
//	...
//	err = smmu.Attach(sid, h, dev) // smmu is a *vsmmu.Device
//
// The kernel's objects behind a Host, by the method that creates them:
//
//	Open    IOAS
//	Map     mapping in the IOAS: IOVA = GPA
//	Add     the bound device; for the first one also the parent HWPT (stage 2), the vIOMMU, the
//	        nested HWPTs "abort" and "bypass" that all streams share, and the vEVENTQ
//	Attach  vDEVICE with the guest's StreamID; the device is attached to "abort"
//	Bind    nested HWPT made from the STE of a stage that translates; it replaces the attached one
//
// Stream.Close, Device.Close, Unmap and Host.Close destroy them in reverse order. If the kernel
// refuses to destroy an object, the host keeps it and tries again: a vDEVICE in the device's next
// Attach or Close, other objects in Add, Attach, Bind and Host.Close. Stats.Objects counts it
// until then.
//
// # Requirements
//
// The package needs Linux 6.16 or later on 64-bit Arm with CONFIG_IOMMUFD, CONFIG_VFIO_DEVICE_CDEV
// and CONFIG_ARM_SMMU_V3_IOMMUFD. The SMMU must have both stages. The kernel also requires that a
// guest cannot bypass the caches: the SMMU has IDR3.FWB, or the IORT declares the root complex
// CANWBS. On other platforms the package only has MSIBase and MSISize.
//
// # Errors
//
// The errors of Open, FindDevice, Host.Add, Host.AddFD, Host.Map, Host.Unmap, Host.Close and
// Device.Close are complete: package, operation, object, cause, and advice. The methods of
// bridge.Host and bridge.Stream return the cause only. An error of the kernel matches its errno
// and, where it has a meaning for the caller, a sentinel of this package or of package bridge.
package iommufd
