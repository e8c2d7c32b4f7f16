package pci

// IDs of capabilities, from the PCI Code and ID Assignment Specification.
const (
	CapVendor  = 0x09
	CapExpress = 0x10
	CapMSIX    = 0x11
)

// ExtCapPASID is the ID of the extended capability for Process Address Space IDs (§7.8.8), and ExtCapabilities where the list of
// those begins.
const (
	ExtCapPASID     = 0x001b
	ExtCapabilities = 0x100
)

// Capability is an item of the list in the first 256 bytes of a configuration space.
type Capability struct {
	ID  uint8
	Off uint32
}

// Capabilities follows the list in the configuration space of a device, which is not trusted to have made it well: the list ends
// where it leaves the space, or comes back to where it has been.
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
