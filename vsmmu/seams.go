package vsmmu

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
)

// Line is one of the SMMU's wired interrupts (IHI 0070 §3.18).
type Line uint8

const (
	// LineEventQ reports records in the event queue.
	LineEventQ Line = iota
	// LinePRIQ reports page requests in the PRI queue.
	LinePRIQ
	// LineCmdSync reports the completion of a CMD_SYNC.
	LineCmdSync
	// LineGError reports an active error in GERROR.
	LineGError
)

// String returns the interrupt's name in the device-tree binding arm,smmu-v3.
func (l Line) String() string {
	if names := [...]string{"eventq", "priq", "cmdq-sync", "gerror"}; int(l) < len(names) {
		return names[l]
	}
	return fmt.Sprintf("Line(%d)", uint8(l))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (l Line) Format(f fmt.State, verb rune) { verbs.Code(f, verb, l.String(), uint8(l)) }

// Interrupts signals interrupts to the guest's interrupt controller. The device calls both methods
// from any goroutine, several at a time. They do not wait for the guest, and call no method of the
// device (see Duties of the embedder).
type Interrupts interface {
	// Pulse signals an edge. Every wired interrupt of the SMMU is edge-triggered: no line holds a
	// level, and nothing has to be cleared (§3.18).
	//
	// The device pulses LineCmdSync for every CMD_SYNC that requests an interrupt, with or without
	// an MSI (§4.7.3). Where IDR0.MSI is 1, a VMM need not wire that line
	// (firmware.SMMU.NoCmdSync). Pulse then returns nil for it at once.
	Pulse(line Line) error
	// SignalMSI performs the 32-bit write of an MSI of the SMMU itself (IDR0.MSI, see idr.Policy).
	// Memory is unmapped at the address, which is usually the doorbell of an interrupt controller.
	// An ITS identifies the SMMU by the DeviceID in the firmware's description. An error means that
	// the write aborts, which the device reports in GERROR.
	//
	// The device itself writes MSIs that go to guest memory, where drivers poll for them. MSIs of
	// endpoints go to their host: see soft.Config.MSI.
	SignalMSI(addr guestmem.GPA, data uint32) error
}
