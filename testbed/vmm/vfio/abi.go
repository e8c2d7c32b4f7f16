//go:build linux && (amd64 || arm64)

package vfio

import "structs"

// Requests, _IO(';', 100 + number). They encode neither size nor direction: each structure starts
// with its size.
const (
	getInfo       = 0x3b6b
	getRegionInfo = 0x3b6c
	getIRQInfo    = 0x3b6d
	setIRQs       = 0x3b6e
	reset         = 0x3b6f
)

// deviceInfo is struct vfio_device_info.
type deviceInfo struct {
	_          structs.HostLayout
	argsz      uint32
	flags      uint32
	numRegions uint32
	numIRQs    uint32
	capOffset  uint32
	_          uint32
}

const (
	deviceReset = 1 << 0
	devicePCI   = 1 << 1
)

// regionInfo is struct vfio_region_info.
type regionInfo struct {
	_         structs.HostLayout
	argsz     uint32
	flags     uint32
	index     uint32
	capOffset uint32
	size      uint64
	offset    uint64
}

const (
	regionRead  = 1 << 0
	regionWrite = 1 << 1
	regionMmap  = 1 << 2
)

// irqInfo is struct vfio_irq_info.
type irqInfo struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	index uint32
	count uint32
}

const irqEventfd = 1 << 0

// irqSet is struct vfio_irq_set without its data.
type irqSet struct {
	_     structs.HostLayout
	argsz uint32
	flags uint32
	index uint32
	start uint32
	count uint32
}

const (
	irqDataNone      = 1 << 0
	irqDataEventfd   = 1 << 2
	irqActionUnmask  = 1 << 4
	irqActionTrigger = 1 << 5
)
