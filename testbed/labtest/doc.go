// Package iommulab runs a test program on a real arm64 Linux kernel with a nested SMMUv3, on any machine that has QEMU 9.1 or
// later: the machine that QEMU emulates has edu devices, whose DMA engines do as they are told, and the program is its whole
// user space.
//
// The kernel lets devices be nested only where nothing that a guest writes gets past the caches. QEMU's machine is like that
// and does not say so: the runner boots once to read the table that should (the ACPI IORT), sets the bit in it (PatchIORT), and
// gives it to the kernel in place of the firmware's the second time.
//
// Package machine is the other side, that of the program; package edu is the device.
package labtest
