package pci

// IDs of capabilities (PCI Code and ID Assignment Specification).
const (
	CapMSI     = 0x05
	CapVendor  = 0x09
	CapExpress = 0x10
	CapMSIX    = 0x11
)

// IDs of extended capabilities.
const (
	ExtCapACS   = 0x000d // Access Control Services (§7.7.11)
	ExtCapATS   = 0x000f // Address Translation Services (§10.5.1)
	ExtCapPRI   = 0x0013 // Page Request Interface (§10.5.2)
	ExtCapPASID = 0x001b // Process Address Space IDs (§7.8.8)
)

// ExtCapabilities is the offset of the first extended capability.
const ExtCapabilities = 0x100

// Capability is an element of the list in the first 256 bytes of a configuration space.
type Capability struct {
	ID  uint8
	Off uint32
}

// Capabilities returns the capability list of a configuration space, which may be malformed. A link
// into the header, or to an earlier capability, ends the list.
func Capabilities(config *[256]byte) []Capability {
	if config[RegStatus]&statusCapabilities == 0 {
		return nil
	}
	var list []Capability
	var seen [256]bool
	for at := config[RegCapPtr] &^ 3; at >= headerSize && !seen[at]; at = config[at+1] &^ 3 {
		seen[at] = true
		list = append(list, Capability{config[at], uint32(at)})
	}
	return list
}
