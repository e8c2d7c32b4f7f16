package firmware

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestPCIMasterProperties shows each property in the form of the bindings pci-iommu and pci-msi:
// requester, phandle, ID, number.
func TestPCIMasterProperties(t *testing.T) {
	props, err := PCIMasterProperties(PCIMaster{
		SMMU: 2, First: 0x0100, Requesters: 0x0200, StreamBase: 0x1_0000, MSI: 3, ATS: true,
	})
	require.NoError(t, err)
	assert.Equal(t, []Prop{
		{"iommu-map", []byte{0, 0, 1, 0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 2, 0}},
		{"msi-map", []byte{0, 0, 1, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 2, 0}},
		{"dma-coherent", []byte{}},
		{"ats-supported", []byte{}},
	}, props)
	props, err = PCIMasterProperties(PCIMaster{SMMU: 2, Requesters: 1 << 16, StreamBase: 0xffff_0000, NonCoherent: true})
	require.NoError(t, err)
	assert.Equal(t, []Prop{{"iommu-map", []byte{0, 0, 0, 0, 0, 0, 0, 2, 0xff, 0xff, 0, 0, 0, 1, 0, 0}}}, props)
}

// TestPCIMasterPropertiesMatchPCIHostNode shows that PCIMasterProperties makes the same map as
// PCIHostNode.
func TestPCIMasterPropertiesMatchPCIHostNode(t *testing.T) {
	n, err := PCIHostNode(PCIHost{ECAM: 0x3f00_0000, Buses: 16, SMMU: 2, MSI: 3, ATS: true})
	require.NoError(t, err)
	props, err := PCIMasterProperties(PCIMaster{SMMU: 2, MSI: 3, Requesters: 16 * 256, ATS: true})
	require.NoError(t, err)
	for _, p := range props {
		assert.Contains(t, n.Props, p)
	}
}

func TestPCIMasterPropertiesRefuse(t *testing.T) {
	for text, m := range map[string]PCIMaster{
		"SMMU 0: no phandle of an SMMU":                                               {Requesters: 1},
		"Requesters 0 from 0x0 on: requester IDs are 0 to 0xffff":                     {SMMU: 1},
		"Requesters 65536 from 0x1 on: requester IDs are 0 to 0xffff":                 {SMMU: 1, First: 1, Requesters: 1 << 16},
		"StreamBase 0xffff0001: the StreamIDs of 65536 requesters end beyond 32 bits": {SMMU: 1, Requesters: 1 << 16, StreamBase: 0xffff_0001},
	} {
		props, err := PCIMasterProperties(m)
		assert.Nil(t, props)
		assert.EqualError(t, err, "firmware: PCIMasterProperties: "+text)
	}
}
