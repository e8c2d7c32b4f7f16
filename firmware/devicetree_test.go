package firmware

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/internal/fdt"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// readBack passes a node through a flattened tree, as a guest gets it, and gives its properties by name.
func readBack(t *testing.T, n *dt.Node) map[string][]byte {
	t.Helper()
	blob, err := fdt.Blob(dt.NewNode("", dt.WithChildren(n)))
	require.NoError(t, err)
	got, err := dt.ReadFDT(bytes.NewReader(blob))
	require.NoError(t, err)
	require.Len(t, got.RootNode.Children, 1)
	assert.Equal(t, n.Name, got.RootNode.Children[0].Name)
	properties := map[string][]byte{}
	for _, p := range got.RootNode.Children[0].Properties {
		assert.NotContains(t, properties, p.Name)
		properties[p.Name] = p.Value
	}
	return properties
}

// The words are those that the binding arm,smmu-v3 asks for, written out.
func TestSMMUNode(t *testing.T) {
	n := SMMUNode(SMMU{Base: 0x1_0905_0000, PHandle: 7, EventQ: 0x4a, PRIQ: 0x4b, CmdSync: 0x4c, GError: 0x4d})
	assert.Equal(t, "iommu@109050000", n.Name)
	assert.Equal(t, map[string][]byte{
		"compatible": []byte("arm,smmu-v3\x00"),
		"reg":        {0, 0, 0, 1, 0x09, 0x05, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0},
		"interrupts": {
			0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4d, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4b, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4c, 0, 0, 0, 1,
		},
		"interrupt-names": []byte("eventq\x00gerror\x00priq\x00cmdq-sync\x00"),
		"dma-coherent":    {},
		"#iommu-cells":    {0, 0, 0, 1},
		"phandle":         {0, 0, 0, 7},
	}, readBack(t, n))
}

func TestSMMUNodeWithoutCmdSync(t *testing.T) {
	got := readBack(t, SMMUNode(SMMU{Base: 0x0905_0000, PHandle: 7, EventQ: 0x4a, PRIQ: 0x4b, GError: 0x4d, NoCmdSync: true}))
	assert.Equal(t, cells(0, 0x4a, 1, 0, 0x4d, 1, 0, 0x4b, 1), got["interrupts"])
	assert.Equal(t, []byte("eventq\x00gerror\x00priq\x00"), got["interrupt-names"])
}

func TestSMMUNodeWithAnITS(t *testing.T) {
	got := readBack(t, SMMUNode(SMMU{Base: 0x0905_0000, PHandle: 7, MSI: 4, DeviceID: 0x1000}))
	assert.Equal(t, cells(4, 0x1000), got["msi-parent"])
}

func TestMasterProperties(t *testing.T) {
	for _, tt := range []struct {
		name   string
		master Master
		want   map[string][]byte
	}{
		{
			"plain", Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{0x10}},
			map[string][]byte{"iommus": {0, 0, 0, 7, 0, 0, 0, 0x10}},
		},
		{
			"two streams, substreams, stalls",
			Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{0x10, 0xffff_ffff}, PASIDBits: 6, CanStall: true},
			map[string][]byte{
				"iommus":         {0, 0, 0, 7, 0, 0, 0, 0x10, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff},
				"pasid-num-bits": {0, 0, 0, 6},
				"dma-can-stall":  {},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := dt.NewNode("device", dt.WithProperty(MasterProperties(tt.master)...))
			assert.Equal(t, tt.want, readBack(t, n))
		})
	}
}
