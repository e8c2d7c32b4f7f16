// Package vfio is the part of Linux's VFIO interface by which a VMM operates a PCI device: its regions, its interrupts, its
// reset. What its DMA reaches is the affair of bridge/iommufd, which opens and binds the device.
//
// It mirrors include/uapi/linux/vfio.h.
package vfio
