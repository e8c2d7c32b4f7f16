// Package vsmmuv3 gives a guest a virtual SMMUv3 in front of devices that the VMM emulates. New
// makes all parts of the SMMU, and Endpoint puts a device behind the SMMU.
//
//	smmu, err := vsmmuv3.New(vsmmuv3.Config{Memory: ram, Interrupts: vsmmu.SPIs(74, setSPI)})
//	disk, err := smmu.Endpoint(0x10)          // StreamID 0x10, as the guest's firmware says
//	err = disk.ReadAt(p, iova)                // the disk model's DMA
//
//	v := smmu.Load(off, size)                 // the guest's accesses to its 128 KiB of registers
//	smmu.Store(off, size, v)
//
//	state, err := smmu.Save()                 // and, elsewhere: New(Config{Saved: state, ...})
//	err = smmu.Close()
//
// docs/embedding.md is the guide, from the first lines of code to live migration. Each part is also
// a package. SMMU.Device is a vsmmu.Device, whose documentation lists the duties of an embedder.
// SMMU.Host is a bridge/soft host. idr.Derive chooses the ID registers. A VMM that passes devices
// through also uses bridge/iommufd. Package firmware describes the SMMU to the guest, and vsmmutest
// is the guest in tests.
package vsmmuv3
