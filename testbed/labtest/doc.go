// Package labtest runs the lab: it tests bridge/iommufd on a real arm64 Linux kernel with a nested
// SMMUv3, on any machine that has QEMU 9.1 or later.
//
// QEMU emulates several machines, one after the other. Each has one static Go program as its whole
// user space: the test binary of package kerneltest or of the VMM, or cmd/testbed as a VMM. The
// program's init is package machine, which sends messages over a virtio-serial port. labtest
// collects them in a Report and judges it.
//
// The machines for kerneltest have edu devices, whose DMA engine a test can program (package edu).
// Linux nests SMMUv3 stages only if the SMMU has FWB or the firmware's IORT declares the root
// complex CANWBS. Neither is true of QEMU. The lab therefore first boots a machine to read its
// IORT. It passes a patched IORT to the kernels of the other machines (PatchIORT).
package labtest
