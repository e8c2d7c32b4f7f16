package firmware

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// PCIMaster describes how the functions of a PCI host bridge are placed behind an SMMU. It is for a
// VMM that writes the bridge's node itself. PCIHostNode makes a whole node.
type PCIMaster struct {
	SMMU PHandle
	// First is the first requester ID behind the SMMU: bus, device and function, as in the
	// configuration space. Requesters is the number of requester IDs from First on, 1 to 65536: 256
	// for each bus.
	First      uint16
	Requesters uint32
	// StreamBase is the StreamID of requester First. The other StreamIDs follow in order.
	StreamBase smmuv3.StreamID
	// MSI is the ITS. The DeviceIDs of messages are then the StreamIDs that soft.Config.MSI and
	// vsmmuv3.Config.MSI get. 0 omits msi-map, for a node that already has one, or if there is no
	// ITS.
	MSI PHandle
	// ATS lets functions use ATS: see PCIHost.
	ATS bool
	// NonCoherent omits dma-coherent: see PCIHost. Omit it too if the node has the property.
	NonCoherent bool
}

// maxRequesters is the number of requester IDs of a PCI segment.
const maxRequesters = 1 << 16

func (m *PCIMaster) check() error {
	switch {
	case m.SMMU == 0:
		return invalid("SMMU 0: no phandle of an SMMU")
	case m.Requesters == 0 || m.Requesters > maxRequesters-uint32(m.First):
		return invalid("Requesters %d from %#x on: requester IDs are 0 to %#x", m.Requesters, m.First, maxRequesters-1)
	case uint64(m.StreamBase)+uint64(m.Requesters) > 1<<32:
		return invalid("StreamBase %v: the StreamIDs of %d requesters end beyond 32 bits", m.StreamBase, m.Requesters)
	}
	return nil
}

// PCIMasterProperties returns the properties that the node of a PCI host bridge needs for the SMMU
// in front of its functions: iommu-map, and one for each of the other fields.
func PCIMasterProperties(m PCIMaster) ([]Prop, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("firmware: PCIMasterProperties: %w", err)
	}
	props := []Prop{requesterMap("iommu-map", m.First, m.SMMU, m.StreamBase, m.Requesters)}
	if m.MSI != 0 {
		props = append(props, requesterMap("msi-map", m.First, m.MSI, m.StreamBase, m.Requesters))
	}
	if !m.NonCoherent {
		props = append(props, Flag("dma-coherent"))
	}
	if m.ATS {
		props = append(props, Flag("ats-supported"))
	}
	return props, nil
}

// requesterMap returns a property that maps n requester IDs to as many IDs at another node.
func requesterMap(name string, first uint16, at PHandle, base smmuv3.StreamID, n uint32) Prop {
	return Cells(name, uint32(first), uint32(at), uint32(base), n)
}
