package virtio

import (
	"encoding/binary"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// Regions of BAR 0, a page each.
const (
	regionSize = 0x1000

	commonRegion  = 0 * regionSize
	isrRegion     = 1 * regionSize
	configRegion  = 2 * regionSize
	notifyRegion  = 3 * regionSize
	tableRegion   = 4 * regionSize
	pendingRegion = 5 * regionSize

	barSize = 8 * regionSize
)

// IDs (§4.1.2).
const (
	pciVendor    = 0x1af4
	pciDevice    = 0x1040 // plus the device type
	pciRevision  = 1
	pciSubsystem = 0x40
	classOther   = 0xff
)

// Offsets of the capabilities in the configuration space.
const (
	msixAt   = 0x40
	commonAt = 0x50
	notifyAt = 0x60
	isrAt    = 0x74
	deviceAt = 0x84
	windowAt = 0x94
	pcieAt   = 0xa8

	msixControl = msixAt + pci.MSIXControl
	windowBAR   = windowAt + 0x04
	windowOff   = windowAt + 0x08
	windowLen   = windowAt + 0x0c
	windowData  = windowAt + 0x10
)

// Types of structures (§4.1.4).
const (
	capCommon = 1
	capNotify = 2
	capISR    = 3
	capDevice = 4
	capWindow = 5
)

// configSpace returns the configuration space at reset. If pasidBits is not 0, it has a PASID
// capability of so many bits.
func configSpace(model Model, pasidBits uint8) pci.Space {
	var s pci.Space
	s.Put(pci.RegVendorID, 4, (pciDevice+model.DeviceID())<<16|pciVendor)
	s.Put(pci.RegRevision, 4, classOther<<24|pciRevision)
	s.Put(pci.RegSubsystem, 4, pciSubsystem<<16|pciVendor)
	s.Allow(pci.RegCommand, 2, pci.CommandMemory|pci.CommandMaster|pci.CommandINTxDisable)
	s.Allow(pci.RegCacheLine, 1, 0xff)
	s.Allow(pci.RegIntLine, 1, 0xff)

	s.AddMSIX(msixAt, vectors, 0, tableRegion, pendingRegion)

	addStructure(&s, commonAt, capCommon, commonRegion, commonSize, 0)
	addStructure(&s, notifyAt, capNotify, notifyRegion, 2, 4) // notify_off_multiplier is 0
	addStructure(&s, isrAt, capISR, isrRegion, 1, 0)
	addStructure(&s, deviceAt, capDevice, configRegion, uint32(len(model.Config())), 0)
	addStructure(&s, windowAt, capWindow, 0, 0, 4) // with pci_cfg_data
	s.Allow(windowBAR, 1, 0xff)
	s.Allow(windowOff, 4, 0xffff_ffff)
	s.Allow(windowLen, 4, 0xffff_ffff)
	s.Allow(windowData, 4, 0xffff_ffff)

	s.AddExpress(pcieAt, pci.Express{})
	if pasidBits > 0 {
		s.AddPASID(pci.ExtCapabilities, pci.PASID{Bits: pasidBits})
	}
	return s
}

// addStructure adds a struct virtio_pci_cap (§4.1.4) for length bytes of BAR 0 from off on. The
// capability ends with more bytes of zero.
func addStructure(s *pci.Space, at uint32, kind byte, off, length uint32, more int) {
	const size = 16
	body := make([]byte, size-2+more)
	body[0] = byte(size + more) // cap_len
	body[1] = kind
	binary.LittleEndian.PutUint32(body[6:], off)
	binary.LittleEndian.PutUint32(body[10:], length)
	s.AddCapability(pci.CapVendor, at, body)
}
