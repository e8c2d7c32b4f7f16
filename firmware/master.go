package firmware

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Master describes how a platform device is placed behind an SMMU.
type Master struct {
	SMMU      PHandle
	StreamIDs []smmuv3.StreamID
	PASIDBits uint32 // width of the SubstreamIDs that the device can use, up to 20; 0 for none
	CanStall  bool   // the device can wait while the guest resolves a fault
	// NonCoherent omits dma-coherent: the device's DMA does not snoop the CPUs' caches. The DMA of
	// an emulated device always does.
	NonCoherent bool
}

func (m *Master) check() error {
	switch {
	case m.SMMU == 0:
		return invalid("SMMU 0: the phandle of the SMMU's node is missing")
	case len(m.StreamIDs) == 0:
		return invalid("StreamIDs: none")
	case m.PASIDBits > maxPASIDBits:
		return invalid("PASIDBits %d: SubstreamIDs have up to %d", m.PASIDBits, maxPASIDBits)
	}
	seen := map[smmuv3.StreamID]bool{}
	for _, sid := range m.StreamIDs {
		if seen[sid] {
			return invalid("StreamIDs: %v twice", sid)
		}
		seen[sid] = true
	}
	return nil
}

// MasterProperties returns the properties that a device's node needs for the SMMU in front of it.
func MasterProperties(m Master) ([]Prop, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("firmware: MasterProperties: %w", err)
	}
	var iommus []uint32
	for _, sid := range m.StreamIDs {
		iommus = append(iommus, uint32(m.SMMU), uint32(sid))
	}
	props := []Prop{Cells("iommus", iommus...)}
	if !m.NonCoherent {
		props = append(props, Flag("dma-coherent"))
	}
	if m.PASIDBits > 0 {
		props = append(props, Cells("pasid-num-bits", m.PASIDBits))
	}
	if m.CanStall {
		props = append(props, Flag("dma-can-stall"))
	}
	return props, nil
}

// maxPASIDBits is the width of a SubstreamID (IHI 0070 §3.2).
const maxPASIDBits = 20
