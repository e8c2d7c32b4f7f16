package smmuv3

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
)

// StreamID identifies the device that a transaction comes from (§3.2). It indexes the Stream table
// and is up to 32 bits wide: see IDR1.SIDSIZE.
type StreamID uint32

// SubstreamID identifies one of a device's address spaces; it is the PASID of PCIe (§3.2). It
// indexes the Context Descriptor table and is up to 20 bits wide: see IDR1.SSIDSIZE.
type SubstreamID uint32

// ASID tags translations with their address space (§3.6). It has 16 bits with IDR0.ASID16,
// otherwise eight. The guest chooses it in a CD.
type ASID uint16

// VMID tags translations with their virtual machine (§3.6). It has 16 bits with IDR0.VMID16,
// otherwise eight.
type VMID uint16

// String returns the identifier in hexadecimal, as in "0x20".
func (s StreamID) String() string { return fmt.Sprintf("%#x", uint32(s)) }

// String returns the identifier in hexadecimal, as in "0x20".
func (s SubstreamID) String() string { return fmt.Sprintf("%#x", uint32(s)) }

// String returns the identifier in hexadecimal, as in "0x20".
func (a ASID) String() string { return fmt.Sprintf("%#x", uint16(a)) }

// String returns the identifier in hexadecimal, as in "0x20".
func (v VMID) String() string { return fmt.Sprintf("%#x", uint16(v)) }

// Format implements fmt.Formatter: %v and %s print the text of String, other verbs print the
// number.
func (s StreamID) Format(f fmt.State, verb rune) { verbs.ID(f, verb, uint64(s)) }

// Format implements fmt.Formatter: %v and %s print the text of String, other verbs print the
// number.
func (s SubstreamID) Format(f fmt.State, verb rune) { verbs.ID(f, verb, uint64(s)) }

// Format implements fmt.Formatter: %v and %s print the text of String, other verbs print the
// number.
func (a ASID) Format(f fmt.State, verb rune) { verbs.ID(f, verb, uint64(a)) }

// Format implements fmt.Formatter: %v and %s print the text of String, other verbs print the
// number.
func (v VMID) Format(f fmt.State, verb rune) { verbs.ID(f, verb, uint64(v)) }
