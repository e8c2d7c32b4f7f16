// Package fwcfg emulates QEMU's firmware configuration device (docs/specs/fw_cfg), by which EDK2 gets
// the ACPI tables of a machine. It has items, files and DMA.
//
// Its DMA does not pass an SMMU.
package fwcfg

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"sync"
)

// Device is a register file. Load and Store may be called from any goroutine.
type Device struct {
	memory func(addr uint64, n int) []byte

	mu    sync.Mutex
	items map[uint16][]byte
	key   uint16
	at    int    // the next byte of the item
	high  uint32 // the upper half of a DMA address
}

// Size is the size of the register file in bytes.
const Size = 24

// Keys of items.
const (
	KeyCPUs = 0x05 // number of CPUs, 16 bits

	keySignature = 0x00
	keyFeatures  = 0x01
	keyDirectory = 0x19
	keyFirstFile = 0x20
)

// featureDMA says that the device has the traditional interface and DMA.
const featureDMA = 1<<0 | 1<<1

// New returns a device with items by key and files by name. memory returns guest-physical memory,
// or nil if part of the range has no memory. The device does not change data.
func New(memory func(addr uint64, n int) []byte, items map[uint16][]byte, files map[string][]byte) *Device {
	d := &Device{memory: memory, items: maps.Clone(items)}
	if d.items == nil {
		d.items = map[uint16][]byte{}
	}
	d.items[keySignature] = []byte("QEMU")
	d.items[keyFeatures] = binary.LittleEndian.AppendUint32(nil, featureDMA)
	directory := binary.BigEndian.AppendUint32(nil, uint32(len(files)))
	for i, name := range slices.Sorted(maps.Keys(files)) {
		key := keyFirstFile + uint16(i)
		d.items[key] = files[name]
		directory = binary.BigEndian.AppendUint32(directory, uint32(len(files[name])))
		directory = binary.BigEndian.AppendUint16(directory, key)
		directory = append(directory, 0, 0)
		directory = append(directory, fileName(name)...)
	}
	d.items[keyDirectory] = directory
	return d
}

// fileName returns a name in its field, which ends with a zero.
func fileName(name string) []byte {
	const size = 56
	field := make([]byte, size)
	copy(field[:size-1], name)
	return field
}

// Register offsets of the memory-mapped device.
const (
	regData     = 0
	regSelector = 8
	regDMA      = 16
	regDMALow   = 20
)

// dmaSignature is the value of the DMA address register.
const dmaSignature = "QEMU CFG"

// Load reads the item's next bytes, or the signature of the DMA interface.
func (d *Device) Load(off uint64, size int) (v uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case off < regSelector:
		for i := range size {
			v |= uint64(d.next()) << (8 * i)
		}
	case off >= regDMA && off+uint64(size) <= Size:
		for i := range size {
			v |= uint64(dmaSignature[int(off)-regDMA+i]) << (8 * i)
		}
	}
	return v
}

// next returns the item's next byte, and zero after its end.
func (d *Device) next() (b byte) {
	if data := d.items[d.key]; d.at < len(data) {
		b = data[d.at]
		d.at++
	}
	return b
}

// Store selects an item, or makes a DMA. The registers are big-endian.
func (d *Device) Store(off uint64, size int, value uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case off == regSelector && size == 2:
		d.key, d.at = bits.ReverseBytes16(uint16(value)), 0
	case off == regDMA && size == 8:
		d.dma(bits.ReverseBytes64(value))
	case off == regDMA && size == 4:
		d.high = bits.ReverseBytes32(uint32(value))
	case off == regDMALow && size == 4:
		d.dma(uint64(d.high)<<32 | uint64(bits.ReverseBytes32(uint32(value))))
	}
}

// Bits of the control word of a DMA.
const (
	dmaError  = 1 << 0
	dmaRead   = 1 << 1
	dmaSkip   = 1 << 2
	dmaSelect = 1 << 3
	dmaWrite  = 1 << 4
)

// dma executes the access that the 16 bytes at addr describe: control, length, address. Nothing can
// be written to an item.
func (d *Device) dma(addr uint64) {
	access := d.memory(addr, 16)
	if access == nil {
		return
	}
	control, length := binary.BigEndian.Uint32(access), int(binary.BigEndian.Uint32(access[4:]))
	to := binary.BigEndian.Uint64(access[8:])
	if control&dmaSelect != 0 {
		d.key, d.at = uint16(control>>16), 0
	}
	result := uint32(0)
	data := d.items[d.key][min(d.at, len(d.items[d.key])):]
	switch {
	case control&dmaRead != 0:
		p := d.memory(to, length)
		if p == nil {
			result = dmaError
			break
		}
		clear(p[copy(p, data):])
		d.at += min(length, len(data))
	case control&dmaSkip != 0:
		d.at += min(length, len(data))
	case control&dmaWrite != 0:
		result = dmaError
	}
	binary.BigEndian.PutUint32(access, result)
}
