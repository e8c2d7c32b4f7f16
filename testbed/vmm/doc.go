// Package vmm is a small virtual machine monitor for arm64 guests under KVM. It has the devices
// that the test boots need.
//
// A Machine has a GICv3 with an ITS, an architected timer, PSCI and two PL011 UARTs. Its caller
// adds virtio block devices, PCI devices of the host that are passed through, edu functions, and an
// SMMUv3 in front of them. The device models, the device tree and the ACPI tables are portable Go.
// Only Machine and its support for passed-through devices need KVM.
//
// Without firmware, a machine with ACPI has a device tree that points to the tables, in the form that
// an EFI stub passes to Linux. With firmware (EDK2's ArmVirtQemu), it boots from a disk: it has flash,
// QEMU's firmware configuration device with the tables, and a clock.
//
// A program in the guest controls the DMA of edu functions (package edu). Edu gives a function's
// place on the root bus and its capabilities. This example adds two functions of one device, and a
// function that can stall:
//
//	all := edu.Features{PASIDBits: 20, ATS: true, PRI: true, FLR: true}
//	for _, e := range []vmm.Edu{
//		{Device: 2, Features: all},
//		{Device: 3, Function: 0},
//		{Device: 3, Function: 1},
//		{Device: 4, Features: edu.Features{PASIDBits: 20, Stalls: true}},
//	} {
//		f, err := m.AddEdu(e)
//		err = smmu.Attach(e.StreamID(), host, f.Endpoint()) // vsmmu.Device, soft.Host
//	}
//
// The guest-physical memory map is:
//
//	   0000_0000  flash: the firmware's code and, at 0400_0000, its variables
//	   0800_0000  GICv3 distributor
//	   0808_0000  ITS
//	   080a_0000  redistributors
//	   0900_0000  UART 0, the console
//	   0901_0000  UART 1, the control channel to the guest's init
//	   0902_0000  firmware configuration device
//	   0903_0000  RTC
//	   0905_0000  SMMUv3s
//	   0a00_0000  virtio-mmio slots
//	   1000_0000  PCI memory
//	   3f00_0000  PCI configuration space
//	   4000_0000  RAM: kernel, device tree with ACPI tables, initrd
//	20_0000_0000  PCI memory for 64-bit base address registers
package vmm
