//go:build linux && (amd64 || arm64)

package passthrough

import (
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

// space holds the owner of each byte of the configuration space, and the bytes that the VMM owns.
//
// The guest sees only the registers that build lists. Other capabilities are hidden, although VFIO
// would forward some: a power state could invalidate the guest's mappings of the device's memory,
// and ATS needs more than a register. Extended capabilities are hidden, too.
type space struct {
	owner   [pci.ConfigSize]owner
	own     [pci.ConfigSize]byte
	command uint16
	express uint32 // offset of the capability; 0 if there is none
	msix    uint32 // likewise
}

type owner uint8

const (
	ownConstant owner = iota // the VMM's, read-only
	ownScratch               // the VMM's, writable
	deviceRead               // the device's, read-only
	deviceWrite              // the device's, writable
)

// The sizes of a PCI Express capability of version 2 (§7.5.3) and of version 1, and its device
// control register.
const (
	expressSize   = 0x3c
	expressSize1  = 0x14
	deviceControl = 0x08
	startFLR      = 1 << 15
	msixControl   = 0x02
)

func (s *space) build(config *[256]byte) {
	set := func(from, size uint32, to owner) {
		for i := from; i < from+size && i < 256; i++ {
			s.owner[i] = to
			if to == ownConstant {
				s.own[i] = 0
			}
		}
	}
	set(pci.RegVendorID, pci.RegBAR0, deviceRead)
	set(pci.RegCommand, 4, deviceWrite)
	set(pci.RegCacheLine, 2, deviceWrite)
	s.owner[pci.RegHeaderType] = ownConstant // the guest sees a single function
	set(pci.RegSubsystem, 4, deviceRead)
	set(pci.RegIntLine, 1, ownScratch)
	set(pci.RegIntPin+1, 2, deviceRead)

	link := uint32(pci.RegCapPtr)
	list := pci.Capabilities(config)
	for _, c := range list {
		switch c.ID {
		case pci.CapExpress:
			s.express = c.Off
			size := uint32(expressSize)
			if config[c.Off+expressFlags]&0xf < 2 {
				size = expressSize1
			}
			set(c.Off, within(list, c.Off, size), deviceWrite)
		case pci.CapMSIX:
			s.msix = c.Off
			set(c.Off, msixSize, deviceRead)
			set(c.Off+msixControl, 2, ownConstant) // pci.MSIX implements it
		case pci.CapVendor:
			set(c.Off, within(list, c.Off, uint32(config[c.Off+2])), deviceRead)
		default:
			continue
		}
		s.own[link] = byte(c.Off)
		link = c.Off + 1
		set(link, 1, ownConstant)
	}
}

// within returns size, limited by the next capability after off. The PCI Express capability of an
// integrated endpoint may be short, and a vendor capability has any length that the device states.
func within(list []pci.Capability, off, size uint32) uint32 {
	for _, c := range list {
		if c.Off > off {
			size = min(size, c.Off-off)
		}
	}
	return size
}

// Registers of the PCI Express capability (§7.5.3.2, §7.5.3.6, §7.5.3.8).
const (
	expressFlags = 0x02
	linkCaps     = 0x0c
	linkStatus   = 0x12

	typeShift      = 4
	typeMask       = 0xf << typeShift
	typeIntegrated = 9 << typeShift
)

// putBehindPort turns a Root Complex Integrated Endpoint, which only a root bus can have, into an
// endpoint with a link, x1 at 2.5 GT/s.
func (s *space) putBehindPort(config *[256]byte) {
	if s.express == 0 || config[s.express+expressFlags]&typeMask != typeIntegrated {
		return
	}
	for _, r := range []struct {
		reg   uint32
		size  uint32
		value byte
	}{
		{expressFlags, 1, config[s.express+expressFlags] &^ typeMask},
		{linkCaps, 4, 1<<4 | 1},
		{linkStatus, 2, 1<<4 | 1},
	} {
		for i := range r.size {
			s.owner[s.express+r.reg+i], s.own[s.express+r.reg+i] = ownConstant, 0
		}
		s.own[s.express+r.reg] = r.value
	}
}

// reset puts the VMM's registers into their reset state.
func (s *space) reset() {
	s.own[pci.RegIntLine] = 0
	s.command = 0
}

// LoadConfig implements pci.Function.
func (d *Device) LoadConfig(off uint32, size int) (value uint32) {
	var device [4]byte
	for i := range uint32(size) {
		if d.space.owner[off+i] >= deviceRead {
			if err := d.phys.ReadRegion(vfio.ConfigSpace, device[:size], uint64(off)); err != nil {
				device = [4]byte{0xff, 0xff, 0xff, 0xff} // as a device that does not answer
			}
			break
		}
	}
	for i := range uint32(size) {
		b := device[i]
		switch at := off + i; {
		case pci.RegBAR0 <= at && at < pci.RegBAR0+4*pci.NumBARs:
			b = byte(d.bars.Load(int(at-pci.RegBAR0)/4) >> (8 * (at % 4)))
		case d.space.msix != 0 && at&^1 == d.space.msix+msixControl:
			b = byte(d.intr.msix.table.Control() >> (8 * (at % 2)))
		case d.space.owner[at] < deviceRead:
			b = d.space.own[at]
		}
		value |= uint32(b) << (8 * i)
	}
	return value
}

// StoreConfig implements pci.Function.
func (d *Device) StoreConfig(off uint32, size int, value uint32) func() {
	if d.space.express != 0 {
		control, ok := pci.Merge(0, d.space.express+deviceControl, 2, off, size, value)
		if ok && control&startFLR != 0 {
			d.Reset()
			d.updateInterrupts()
			return nil
		}
	}
	if command, ok := pci.Merge(uint32(d.space.command), pci.RegCommand, 2, off, size, value); ok {
		d.space.command = uint16(command)
		if command&pci.CommandMemory == 0 {
			// Unmap first: an access to a device that does not answer would end the machine.
			d.withdraw()
		}
	}
	d.forward(off, size, value)

	for i := range pci.NumBARs {
		reg := uint32(pci.RegBAR0 + 4*i)
		if v, ok := pci.Merge(d.bars.Load(i), reg, 4, off, size, value); ok {
			d.bars.Store(i, v)
		}
	}
	if d.space.msix != 0 {
		m := d.intr.msix.table
		if v, ok := pci.Merge(uint32(m.Control()), d.space.msix+msixControl, 2, off, size, value); ok {
			m.SetControl(uint16(v))
		}
	}
	d.Decode()
	d.updateInterrupts()
	return nil
}

// forward writes bytes that the device owns to the device, and scratch bytes to the space.
func (d *Device) forward(off uint32, size int, value uint32) {
	var data [4]byte
	mine := 0
	for i := range uint32(size) {
		data[i] = byte(value >> (8 * i))
		switch d.space.owner[off+i] {
		case deviceWrite:
			mine++
		case ownScratch:
			d.space.own[off+i] = data[i]
		}
	}
	write := func(off uint32, p []byte) {
		if err := d.phys.WriteRegion(vfio.ConfigSpace, p, uint64(off)); err != nil {
			d.complain("store to configuration space", err)
		}
	}
	if mine == size {
		write(off, data[:size])
		return
	}
	for i := range uint32(size) {
		if d.space.owner[off+i] == deviceWrite {
			write(off+i, data[i:i+1])
		}
	}
}
