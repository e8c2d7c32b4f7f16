package vmm

import (
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Wiring says how interrupts and DMA of a machine are connected. The zero value is a machine with an
// ITS, where CMD_SYNC alone has no wired interrupt, and requester IDs are StreamIDs.
type Wiring struct {
	CmdSync bool // CMD_SYNC has a wired interrupt
	NoWired bool // SMMUs have no wired interrupts, and only send messages
	NoITS   bool // nothing sends messages

	// The following fields are for machines that ACPI describes.

	// StreamBase is the StreamID of requester 0. DeviceBase plus a function's StreamID is its
	// DeviceID.
	StreamBase smmuv3.StreamID
	DeviceBase uint32
	CanWBS     bool // see firmware.PCIRoot
	// RMR makes the guest identity-map ReservedRange for all functions. The guest keeps the bus
	// numbers then.
	RMR bool
}

// ReservedRange is the range of Wiring.RMR. The machine has no device and no memory there.
var ReservedRange = firmware.Identity{Base: 0x0b00_0000, Size: 128 << 10}

// maxSMMUs is the number of SMMUs that the memory map has room for.
const maxSMMUs = 4

// smmuAddress returns the base address of an SMMU, from 0 on.
func smmuAddress(n int) uint64 { return smmuBase + smmuSize*uint64(n) }

// smmuSPI returns the first of an SMMU's SPIs, one for each vsmmu.Line.
func smmuSPI(n int) uint32 {
	if n == 0 {
		return smmuSPIs
	}
	return moreSMMUSPIs + uint32(vsmmu.NumLines*(n-1))
}

// unwired returns the lines of the SMMUs that are not connected. CMD_SYNC usually has no wire, since
// its completion is an MSI: a wire costs two KVM requests for every SYNC.
func (w Wiring) unwired() []vsmmu.Line {
	switch {
	case w.NoWired:
		return []vsmmu.Line{vsmmu.LineEventQ, vsmmu.LinePRIQ, vsmmu.LineCmdSync, vsmmu.LineGError}
	case !w.CmdSync:
		return []vsmmu.Line{vsmmu.LineCmdSync}
	}
	return nil
}

// SMMUINTIDs returns the INTIDs of an SMMU's wired interrupts, as the guest reads them.
func (w Wiring) SMMUINTIDs(n int, ids smmuv3.IDRegs) map[vsmmu.Line]uint32 {
	intids := map[vsmmu.Line]uint32{}
	for line := range vsmmu.Line(vsmmu.NumLines) {
		if !slices.Contains(w.unwired(), line) && (line != vsmmu.LinePRIQ || ids.Has(smmuv3.PRI)) {
			intids[line] = firstSPI + smmuSPI(n) + uint32(line)
		}
	}
	return intids
}

// DiskINTID returns the INTID of the nth disk on the MMIO transport, from 0 on.
func DiskINTID(n int) uint32 { return firstSPI + virtioSPI + uint32(n) }

// smmuDeviceID returns the DeviceID of an SMMU's own messages.
func smmuDeviceID(n int) uint32 { return smmuDeviceIDs + uint32(n) }

// describe returns the firmware's description of an SMMU.
func (w Wiring) describe(n int, ids smmuv3.IDRegs) firmware.SMMU {
	s := firmware.SMMU{
		Base: smmuAddress(n), IDs: ids, PHandle: phandleSMMU(n), InterruptParent: phandleGIC,
		NoCmdSync: !w.CmdSync, NoWired: w.NoWired,
		DeviceID: smmuDeviceID(n), DeviceBase: w.DeviceBase,
	}.WithSPIs(smmuSPI(n))
	if !w.NoITS && ids.Has(smmuv3.MSI) {
		s.MSI = phandleITS
	}
	return s
}

// doorbells is the range of message addresses that a device which is passed through uses. The host
// maps its messages. The guest's tables map those of an emulated device.
var doorbells = firmware.Identity{Base: iommufd.MSIBase, Size: iommufd.MSISize}
