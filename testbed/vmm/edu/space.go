package edu

import "github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"

// IDs of QEMU's edu, so that its drivers find the function.
const (
	vendorDevice  = 0x11e8_1234
	classRevision = 0x00ff_0010
	subsystem     = 0x1100_1af4
)

// Base address registers: the registers, and the MSI-X table.
const (
	registersBAR  = 0
	registersSize = 1 << 20

	messagesBAR   = 1
	messagesSize  = 2 * pendingRegion
	tableRegion   = 0
	pendingRegion = 4 << 10
)

// Offsets of the capabilities in the first 256 bytes.
const (
	msiAt     = 0x40
	expressAt = 0x50
	msixAt    = 0x90
)

// space is the configuration space. Offsets of extended capabilities are 0 if there is none.
type space struct {
	pci.Space
	pasidAt, atsAt, priAt uint32
}

// newSpace returns the configuration space at reset.
func newSpace(f Features, intx bool) *space {
	s := new(space)
	s.Put(pci.RegVendorID, 4, vendorDevice)
	s.Put(pci.RegRevision, 4, classRevision)
	s.Put(pci.RegSubsystem, 4, subsystem)
	s.Allow(pci.RegCommand, 2, pci.CommandMemory|pci.CommandMaster|pci.CommandINTxDisable)
	s.Allow(pci.RegCacheLine, 1, 0xff)
	s.Allow(pci.RegIntLine, 1, 0xff)
	if intx {
		s.Put(pci.RegIntPin, 1, 1) // INTA#
	}
	s.AddMSI(msiAt)
	if f.express() {
		s.AddExpress(expressAt, pci.Express{FLR: f.FLR})
	}
	if f.MSIX {
		s.AddMSIX(msixAt, vectors, messagesBAR, tableRegion, pendingRegion)
	}
	const extendedSize = 0x10
	next := uint32(pci.ExtCapabilities)
	place := func(has bool) (off uint32) {
		if has {
			off, next = next, next+extendedSize
		}
		return off
	}
	if s.pasidAt = place(f.PASIDBits > 0); s.pasidAt != 0 {
		s.AddPASID(s.pasidAt, pci.PASID{Bits: f.PASIDBits, Execute: true, Privileged: true})
	}
	if s.atsAt = place(f.ATS); s.atsAt != 0 {
		s.AddATS(s.atsAt)
	}
	if s.priAt = place(f.PRI); s.priAt != 0 {
		s.AddPRI(s.priAt, maxGroups, f.PASIDBits > 0)
	}
	if at := place(f.ACS); at != 0 {
		s.AddACS(at)
	}
	return s
}

func (s *space) command() uint32 { return s.Load(pci.RegCommand, 2) }

func (s *space) master() bool { return s.command()&pci.CommandMaster != 0 }

// enables reports whether software has set all of these bits in a control register of an extended
// capability, which the function may not have.
func (s *space) enables(capability, control, bits uint32) bool {
	return capability != 0 && s.Load(capability+control, 2)&bits == bits
}

// pasid reports whether PASIDs are enabled, with these other enables.
func (s *space) pasid(bits uint32) bool {
	return s.enables(s.pasidAt, pci.PASIDControl, pci.PASIDEnable|bits)
}

func (s *space) ats() bool { return s.enables(s.atsAt, pci.ATSControl, pci.ATSEnable) }

func (s *space) pri() bool { return s.enables(s.priAt, pci.PRIControl, pci.PRIEnable) }

func (s *space) msi() bool { return s.Load(msiAt+pci.MSIControl, 2)&pci.MSIEnable != 0 }
