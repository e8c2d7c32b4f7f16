// Package vmm is a small virtual machine monitor for arm64 guests under KVM: what the test boot needs, and no more.
//
// A Machine has a GICv3 with an ITS, an architected timer, PSCI, two PL011 UARTs, virtio block devices, PCI devices of the
// host's that are passed through, and room for an SMMUv3 that these stand behind. Its devices and its device tree are plain
// Go; only Machine itself, and what it hands on to a device that is passed through, is bound to KVM.
//
//	   0800_0000  GICv3 distributor
//	   0808_0000  ITS
//	   080a_0000  redistributors
//	   0900_0000  UART 0, the console
//	   0901_0000  UART 1, the control channel to the guest's init
//	   0905_0000  SMMUv3
//	   0a00_0000  virtio-mmio slots
//	   1000_0000  PCI memory
//	   3f00_0000  PCI configuration space
//	   4000_0000  RAM: kernel, initrd, device tree
//	20_0000_0000  PCI memory for registers of 64 bits
package vmm
