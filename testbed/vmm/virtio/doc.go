// Package virtio is the device's side of virtio 1.2: the transports' registers, by MMIO and as a PCI function with MSI-X, a
// split virtqueue, and a block device. Every access to rings and data goes through the device's own DMA, as do messages, so
// that an IOMMU can stand in between, and nothing that the driver wrote is trusted.
package virtio

import "github.com/go-vsmmu/vsmmuv3/bridge/soft"

// DMA is how a device reaches memory: by the addresses that its driver gave it, which an SMMU may translate. Each call moves
// all of p or fails. Accesses of 2 bytes at a multiple of 2 must be single-copy atomic: the ring indices depend on it.
type DMA interface {
	ReadAt(p []byte, iova uint64) error
	WriteAt(p []byte, iova uint64) error
}

// Mapper is a DMA that can also hand out memory where it lies, as *soft.Endpoint does: data then moves between it and a
// model's storage without a copy in between. Where it fails with anything but soft.ErrFault, the DMA is made by ReadAt or
// WriteAt.
type Mapper interface {
	DMA
	Map(iova uint64, n int, write bool, buf [][]byte) (soft.Mapping, error)
}

// Model is what a device does, behind the transport.
type Model interface {
	DeviceID() uint32 // virtio 1.2 §5
	Features() uint64 // the device type's own, without the transport's
	Config() []byte   // the configuration space, constant
	// Serve carries out one request and says how much of its writable part it has written from the start. An error means
	// that the device cannot go on; what can be told to the driver in the request itself is no error.
	Serve(Request) (written uint32, err error)
}
