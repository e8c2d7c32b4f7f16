package vsmmu

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// Line is one of the SMMU's wired interrupts (IHI 0070 §3.18).
type Line uint8

const (
	LineEventQ Line = iota
	LinePRIQ
	LineCmdSync
	LineGError
)

// String is the interrupt's name in the device-tree binding arm,smmu-v3.
func (l Line) String() string {
	if names := [...]string{"eventq", "priq", "cmdq-sync", "gerror"}; int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("Line(%d)", uint8(l))
}

// Interrupts is how the device reaches the guest's interrupt controller. Both
// methods are called from any goroutine, also at the same time, must not block on the
// guest, and must not call back into the device.
type Interrupts interface {
	// Pulse signals an edge: every source of the SMMU is one, so that nothing
	// ever holds a level and nothing has to be cleared (§3.18). LineCmdSync comes
	// with every CMD_SYNC that asks for an interrupt, whether it has an MSI or not
	// (§4.7.3): where IDR0.MSI is 1, a VMM need not wire it (firmware.SMMU.NoCmdSync),
	// and returns nil for it at once.
	Pulse(line Line) error
	// SignalMSI makes the 32-bit write by which the SMMU's own message signalled
	// interrupts are sent (idr.Policy's MSI), to where Memory is unmapped: an
	// interrupt controller's doorbell, if the guest means well. An ITS knows the
	// SMMU by the DeviceID that firmware told the guest. An error is what the
	// architecture calls an abort of the write. Messages to guest memory, which
	// drivers poll, the device writes there itself; those of endpoints are the
	// host's: see soft.Config.MSI.
	SignalMSI(addr guestmem.GPA, data uint32) error
}
