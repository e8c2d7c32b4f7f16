package smmuv3

import "fmt"

// StreamID names the device that a transaction comes from (§3.2). It is an
// index into the Stream table, 0 to 32 bits wide: see IDR1.SIDSIZE.
type StreamID uint32

func (s StreamID) String() string { return fmt.Sprintf("%#x", uint32(s)) }

// SubstreamID names one of a device's address spaces, the PASID of PCIe
// (§3.2). It is an index into the Context Descriptor table, 0 to 20 bits wide:
// see IDR1.SSIDSIZE.
type SubstreamID uint32

// ASID tags translations with the address space they belong to (§3.6). Eight
// bits, or sixteen with IDR0.ASID16. It belongs to the guest's CD, and so
// never travels with a guest stage.
type ASID uint16

// VMID tags translations with the virtual machine they belong to (§3.6).
type VMID uint16
