// Package virtio implements the device side of virtio 1.2: the MMIO transport, the PCI transport
// with MSI-X, a split virtqueue, and a block device.
//
// The devices are a model for those that an embedder puts behind an SMMU:
//
//   - A device accesses rings and data by its own DMA only, with the addresses that its driver
//     supplies. MSI-X messages are writes of the same DMA. An SMMU can translate all of it.
//   - A device maps its data in place (Mapper), for the duration of one access to its storage. The
//     guest's CMD_SYNC waits for the mapping, and so may a vCPU.
//   - A device whose DMA may stall makes no DMA on a vCPU's goroutine, since the guest may have to
//     run before the DMA can end.
//   - A device reads each descriptor once, and checks what it read. A driver that breaks the rules
//     gets a device that needs a reset (DEVICE_NEEDS_RESET), and nothing else.
//   - A reset returns when the device no longer accesses memory.
package virtio

import "github.com/go-vsmmu/vsmmuv3/bridge/soft"

// DMA is a device's access to memory, by the addresses that its driver supplies. An SMMU may
// translate them. Each call moves all of p or fails. Accesses of 2 bytes at a multiple of 2 are
// single-copy atomic, as ring indices require.
type DMA interface {
	ReadAt(p []byte, iova uint64) error
	WriteAt(p []byte, iova uint64) error
}

// Mapper is a DMA that can also map memory, as *soft.Endpoint does. Data then moves between memory
// and a model's storage without a copy. If Map fails with an error other than soft.ErrFault, the
// device uses ReadAt or WriteAt.
type Mapper interface {
	DMA
	Map(iova uint64, n int, write bool, buf [][]byte) (soft.Mapping, error)
}

// Model is a type of device, without its transport.
type Model interface {
	DeviceID() uint32 // virtio 1.2 §5
	Features() uint64 // of the device type, without those of the transport
	Config() []byte   // the configuration space, constant
	// Serve executes one request. written is the number of bytes that it wrote from the start of
	// the writable part without a gap. An error stops the device until it is reset. Errors that the
	// request itself reports to the driver are not errors of Serve.
	Serve(Request) (written uint32, err error)
}
