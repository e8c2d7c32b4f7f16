package virtio

import (
	"errors"
	"fmt"
)

// MMIO is a virtio device with one virtqueue on the MMIO transport, version 2 (virtio 1.2 §4.2).
// Load and Store may be called from any vCPU's goroutine.
type MMIO struct {
	device
	irq        func(level bool)
	interrupts uint32 // guarded by mu, as is level
	level      bool   // the last argument of irq
}

// Offsets of registers that only this transport has (§4.2.2).
const (
	regMagic           = 0x000
	regVersion         = 0x004
	regDeviceID        = 0x008
	regVendorID        = 0x00c
	regInterruptStatus = 0x060
	regInterruptACK    = 0x064
	regSHMLenLow       = 0x0b0
	regSHMBaseHigh     = 0x0bc
	regConfig          = 0x100
)

const (
	magic    = 0x74726976 // "virt"
	version  = 2
	vendorID = 0x554d5356 // "VSMU"
)

// mmioRegisters are the other registers, by offset (§4.2.2).
var mmioRegisters = struct{ read, write map[uint64]register }{
	read: map[uint64]register{
		0x010: deviceFeatures,
		0x034: queueNumMax,
		0x044: queueReady,
		0x070: deviceStatus,
	},
	write: map[uint64]register{
		0x014: deviceFeaturesSel,
		0x020: driverFeatures,
		0x024: driverFeaturesSel,
		0x030: queueSel,
		0x038: queueNum,
		0x044: queueReady,
		0x050: queueNotify,
		0x070: deviceStatus,
		0x080: queueDescLow,
		0x084: queueDescHigh,
		0x090: queueDriverLow,
		0x094: queueDriverHigh,
		0x0a0: queueDeviceLow,
		0x0a4: queueDeviceHigh,
	},
}

// NewMMIO returns a device of the given model. Its worker runs until Close. waits says that DMA may
// wait for the guest, as stalled transactions do. The device then makes no DMA on a vCPU's
// goroutine. irq sets the level of the interrupt. A nil model, dma or irq is an error.
func NewMMIO(model Model, dma DMA, waits bool, irq func(level bool)) (*MMIO, error) {
	if irq == nil {
		return nil, errors.New("virtio: new MMIO device: no function to set the interrupt")
	}
	m := &MMIO{irq: irq}
	if err := m.start(model, dma, waits, m); err != nil {
		return nil, fmt.Errorf("virtio: new MMIO device: %w", err)
	}
	return m, nil
}

// Load reads a register, which has 32 bits, or part of the configuration space.
func (m *MMIO) Load(off uint64, size int) uint64 {
	if off >= regConfig {
		return loadConfig(m.model.Config(), off-regConfig, size)
	}
	if size != 4 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case off == regMagic:
		return magic
	case off == regVersion:
		return version
	case off == regDeviceID:
		return uint64(m.model.DeviceID())
	case off == regVendorID:
		return vendorID
	case off == regInterruptStatus:
		return uint64(m.interrupts)
	case regSHMLenLow <= off && off <= regSHMBaseHigh:
		return 0xffff_ffff // there are no shared memory regions
	}
	return uint64(m.load(mmioRegisters.read[off]))
}

// Store writes a register. The configuration space is read-only.
func (m *MMIO) Store(off uint64, size int, value uint64) {
	if size != 4 {
		return
	}
	if off == regInterruptACK {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.interrupts &^= uint32(value)
		m.updateIRQ()
		return
	}
	m.store(mmioRegisters.write[off], uint32(value))
}

func (m *MMIO) enabled() bool { return true }

func (m *MMIO) raise(cause uint32) {
	m.interrupts |= cause
	m.updateIRQ()
}

func (m *MMIO) deliver() {}

func (m *MMIO) clear() {
	m.interrupts = 0
	m.updateIRQ()
}

// updateIRQ sets the level of the interrupt. The caller holds mu.
func (m *MMIO) updateIRQ() {
	if level := m.interrupts != 0; level != m.level {
		m.level = level
		m.irq(level)
	}
}
