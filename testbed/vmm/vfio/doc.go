// Package vfio operates a PCI device by Linux's VFIO interface (include/uapi/linux/vfio.h): its
// regions, interrupts and reset. Package bridge/iommufd opens the device, binds it to an IOMMU, and
// decides what its DMA can access.
package vfio
