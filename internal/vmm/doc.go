// Package vmm is a small virtual machine monitor for arm64 guests under KVM: what the test boot needs, and no more.
//
// A Machine has a GICv3, an architected timer, PSCI, two PL011 UARTs, virtio block devices, and room for an SMMUv3 that
// these stand behind. Its devices and its device tree are plain Go; only Machine itself is bound to KVM.
//
//	0800_0000  GICv3 distributor, redistributors behind it
//	0900_0000  UART 0, the console
//	0901_0000  UART 1, the control channel to the guest's init
//	0905_0000  SMMUv3
//	0a00_0000  virtio-mmio slots
//	4000_0000  RAM: kernel, initrd, device tree
package vmm
