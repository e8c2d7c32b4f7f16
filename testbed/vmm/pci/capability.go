package pci

// IDs of capabilities (PCI Code and ID Assignment Specification).
const (
	CapVendor  = 0x09
	CapExpress = 0x10
	CapMSIX    = 0x11
)

// ExtCapPASID is the ID of the extended capability for Process Address Space IDs (§7.8.8).
// ExtCapabilities is the offset of the first extended capability.
const (
	ExtCapPASID     = 0x001b
	ExtCapabilities = 0x100
)

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
