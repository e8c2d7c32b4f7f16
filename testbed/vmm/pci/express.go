package pci

import "encoding/binary"

// Express describes the PCI Express capability of an integrated endpoint (§7.5.3).
type Express struct {
	FLR bool // function-level reset
}

// DeviceControl is the offset of the device control register in a PCI Express capability.
// InitiateFLR is a bit of it that reads as 0.
const (
	DeviceControl = 0x08
	InitiateFLR   = 1 << 15
)

// AddExpress adds a PCI Express capability. Extended capabilities need it.
func (s *Space) AddExpress(off uint32, e Express) {
	body := make([]byte, 0x3a)
	capabilities := uint32(1 << 15) // role-based error reporting
	if e.FLR {
		capabilities |= 1 << 28
	}
	binary.LittleEndian.PutUint16(body[0x00:], 9<<4|2) // version 2, integrated endpoint
	binary.LittleEndian.PutUint32(body[0x02:], capabilities)
	binary.LittleEndian.PutUint32(body[0x22:], 1<<22|1<<21) // one End-End TLP prefix: a PASID
	s.AddCapability(CapExpress, off, body)
	s.Allow(off+DeviceControl, 2, 0x70ef) // error reporting and payload sizes
}

// MaxPASIDBits is the greatest width of a PASID (§7.8.8.2).
const MaxPASIDBits = 20

// PASID describes a PASID capability (§7.8.8).
type PASID struct {
	Bits       uint8 // 1 to MaxPASIDBits
	Execute    bool  // it may have PASIDs with execute permission
	Privileged bool  // it may have PASIDs with privileged mode
}

// PASIDControl is the offset of the control register in a PASID capability, with its bits.
const (
	PASIDControl    = 0x06
	PASIDEnable     = 1 << 0
	PASIDExecute    = 1 << 1
	PASIDPrivileged = 1 << 2
)

// AddPASID adds a PASID capability.
func (s *Space) AddPASID(off uint32, p PASID) {
	capability := uint32(p.Bits) << 8
	if p.Execute {
		capability |= PASIDExecute
	}
	if p.Privileged {
		capability |= PASIDPrivileged
	}
	s.AddExtended(ExtCapPASID, off, binary.LittleEndian.AppendUint32(nil, capability))
	s.Allow(off+PASIDControl, 2, capability&0xff|PASIDEnable)
}

// Registers of an ATS capability (§10.5.1).
const (
	ATSControl = 0x06
	ATSEnable  = 1 << 15
)

// AddATS adds an ATS capability: 32 invalidations may wait, and requests are aligned to pages.
func (s *Space) AddATS(off uint32) {
	s.AddExtended(ExtCapATS, off, []byte{1 << 5, 0, 0, 0})
	s.Allow(off+ATSControl, 2, ATSEnable|0x1f) // and the smallest translation unit
}

// Registers of a PRI capability (§10.5.2).
const (
	PRIControl    = 0x04
	PRIEnable     = 1 << 0
	PRIReset      = 1 << 1 // reads as 0
	PRIStatus     = 0x06
	PRIFailure    = 1 << 0 // a response was a failure; write 1 to clear
	PRIUnexpected = 1 << 1 // a response to no group; write 1 to clear
	PRIStopped    = 1 << 8
	PRIAllocation = 0x0c

	priWithPASID = 1 << 15 // responses have the PASIDs of their requests
)

// AddPRI adds a PRI capability for so many outstanding requests. The function itself keeps the
// status register.
func (s *Space) AddPRI(off uint32, capacity uint32, pasids bool) {
	body := make([]byte, 12)
	status := uint16(PRIStopped)
	if pasids {
		status |= priWithPASID
	}
	binary.LittleEndian.PutUint16(body[PRIStatus-4:], status)
	binary.LittleEndian.PutUint32(body[4:], capacity)
	s.AddExtended(ExtCapPRI, off, body)
	s.Allow(off+PRIControl, 2, PRIEnable)
	s.Allow(off+PRIAllocation, 4, 0xffff_ffff)
}

// AddACS adds an Access Control Services capability without a control: nothing forwards requests
// between the functions of the device (§7.7.11). An operating system then isolates them from each
// other.
func (s *Space) AddACS(off uint32) { s.AddExtended(ExtCapACS, off, make([]byte, 4)) }

// Registers of an MSI capability with 64-bit addresses (§7.7.1).
const (
	MSIControl = 0x02
	MSIEnable  = 1 << 0
	MSIAddr    = 0x04
	MSIData    = 0x0c
)

// AddMSI adds an MSI capability for one message, with a 64-bit address and without a mask.
func (s *Space) AddMSI(off uint32) {
	body := make([]byte, 12)
	binary.LittleEndian.PutUint16(body, 1<<7)
	s.AddCapability(CapMSI, off, body)
	s.Allow(off+MSIControl, 2, MSIEnable)
	s.Allow(off+MSIAddr, 4, 0xffff_fffc)
	s.Allow(off+MSIAddr+4, 4, 0xffff_ffff)
	s.Allow(off+MSIData, 2, 0xffff)
}

// AddMSIX adds an MSI-X capability for vectors messages, with the table and the pending bit array
// at offsets of a base address register (§7.7.2).
func (s *Space) AddMSIX(off uint32, vectors, bar int, table, pending uint32) {
	body := make([]byte, 10)
	binary.LittleEndian.PutUint16(body[0:], uint16(vectors-1))
	binary.LittleEndian.PutUint32(body[2:], table|uint32(bar))
	binary.LittleEndian.PutUint32(body[6:], pending|uint32(bar))
	s.AddCapability(CapMSIX, off, body)
}

// MSIXControl is the offset of the message control register in an MSI-X capability. An MSIX has its
// value.
const MSIXControl = 0x02
