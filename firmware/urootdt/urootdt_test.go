package urootdt_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/firmware/urootdt"
)

// flatten returns the flattened tree of a root node.
func flatten(root *dt.Node) ([]byte, error) {
	tree := dt.FDT{Header: dt.Header{Magic: dt.Magic, Version: 17, LastCompVersion: 16}, RootNode: root}
	var b bytes.Buffer
	_, err := tree.Write(&b)
	return b.Bytes(), err
}

func TestNodeReachesAFlattenedTree(t *testing.T) {
	want := firmware.Node{Props: []firmware.Prop{firmware.Cells("#address-cells", 2)}, Children: []firmware.Node{
		{Name: "a@1", Props: []firmware.Prop{firmware.Flag("dma-coherent"), firmware.Strings("names", "x", "yz")}},
		{Name: "b@2", Props: []firmware.Prop{firmware.Reg(2, 3)}, Children: []firmware.Node{{Name: "c"}}},
	}}
	b, err := flatten(urootdt.Node(want))
	require.NoError(t, err)
	tree, err := dt.ReadFDT(bytes.NewReader(b))
	require.NoError(t, err)
	same(t, want, tree.RootNode)
}

func same(t *testing.T, want firmware.Node, got *dt.Node) {
	t.Helper()
	assert.Equal(t, want.Name, got.Name)
	require.Len(t, got.Properties, len(want.Props))
	for i, p := range want.Props {
		assert.Equal(t, p.Name, got.Properties[i].Name)
		assert.Equal(t, p.Value, got.Properties[i].Value)
	}
	require.Len(t, got.Children, len(want.Children))
	for i, c := range want.Children {
		same(t, c, got.Children[i])
	}
}

func Example() {
	root := urootdt.Node(firmware.Node{Props: []firmware.Prop{
		firmware.Cells("#address-cells", 2), firmware.Cells("#size-cells", 2),
	}})
	smmu, err := firmware.SMMUNode(firmware.SMMU{Base: 0x0905_0000, PHandle: 2, EventQ: 74, PRIQ: 75, CmdSync: 76, GError: 77})
	if err != nil {
		panic(err)
	}
	root.Children = append(root.Children, urootdt.Node(smmu))
	fmt.Println(root.Children[0].Name)
	// Output: iommu@9050000
}
