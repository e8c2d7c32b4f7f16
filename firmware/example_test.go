package firmware_test

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A VMM describes an SMMU, and a disk behind this SMMU with StreamID 0x10.
func Example() {
	const gic, smmu firmware.PHandle = 1, 2
	iommu, err := firmware.SMMUNode(firmware.SMMU{
		Base: 0x0905_0000, PHandle: smmu, InterruptParent: gic,
	}.WithSPIs(74)) // the SPIs of vsmmu.SPIs(74, ...)
	if err != nil {
		panic(err)
	}
	master, err := firmware.MasterProperties(firmware.Master{SMMU: smmu, StreamIDs: []smmuv3.StreamID{0x10}})
	if err != nil {
		panic(err)
	}
	disk := firmware.Node{
		Name:  "virtio_mmio@a000000",
		Props: append([]firmware.Prop{firmware.Strings("compatible", "virtio,mmio"), firmware.Reg(0x0a00_0000, 0x200)}, master...),
	}
	for _, n := range []firmware.Node{iommu, disk} {
		fmt.Println(n.Name)
		for _, p := range n.Props {
			fmt.Printf("  %s\n", p.Name)
		}
	}
	// Output:
	// iommu@9050000
	//   compatible
	//   reg
	//   interrupt-parent
	//   interrupts
	//   interrupt-names
	//   dma-coherent
	//   #iommu-cells
	//   phandle
	// virtio_mmio@a000000
	//   compatible
	//   reg
	//   iommus
	//   dma-coherent
}

// A PCI host bridge whose functions are behind an SMMU, with ATS.
func ExamplePCIHostNode() {
	n, err := firmware.PCIHostNode(firmware.PCIHost{
		ECAM: 0x3f00_0000, Buses: 16,
		Windows: []firmware.PCIWindow{{Base: 0x1000_0000, Size: 0x2f00_0000}},
		GIC:     1, INTx: [4]uint32{12, 13, 14, 15},
		SMMU: 2, MSI: 3, ATS: true,
	})
	if err != nil {
		panic(err)
	}
	for _, p := range n.Props {
		switch p.Name {
		case "iommu-map", "msi-map", "ats-supported", "dma-coherent":
			fmt.Printf("%s: %d bytes\n", p.Name, len(p.Value))
		}
	}
	// Output:
	// dma-coherent: 0 bytes
	// msi-map: 16 bytes
	// iommu-map: 16 bytes
	// ats-supported: 0 bytes
}

// A VMM with its own PCI host bridge adds the properties that put the bridge's functions behind the
// SMMU. Here buses 0 to 15 have the StreamIDs from 0x1000 on.
func ExamplePCIMasterProperties() {
	props, err := firmware.PCIMasterProperties(firmware.PCIMaster{
		SMMU: 2, MSI: 3, Requesters: 16 * 256, StreamBase: 0x1000,
	})
	if err != nil {
		panic(err)
	}
	for _, p := range props {
		fmt.Printf("%s %x\n", p.Name, p.Value)
	}
	// Output:
	// iommu-map 00000000000000020000100000001000
	// msi-map 00000000000000030000100000001000
	// dma-coherent
}

// entry is the node type of a VMM's own writer of flattened device trees.
type entry struct {
	name     string
	values   map[string][]byte
	children []entry
}

// copyNode copies a node to the type of that writer.
func copyNode(n firmware.Node) entry {
	e := entry{name: n.Name, values: map[string][]byte{}}
	for _, p := range n.Props {
		e.values[p.Name] = p.Value
	}
	for _, c := range n.Children {
		e.children = append(e.children, copyNode(c))
	}
	return e
}

// Nodes are plain data, which a VMM copies to the types of its own FDT writer.
func ExampleNode() {
	n, err := firmware.SMMUNode(firmware.SMMU{Base: 0x0905_0000, PHandle: 2, InterruptParent: 1}.WithSPIs(74))
	if err != nil {
		panic(err)
	}
	e := copyNode(n)
	fmt.Printf("%s: #iommu-cells %x\n", e.name, e.values["#iommu-cells"])
	// Output:
	// iommu@9050000: #iommu-cells 00000001
}

// The table of an SMMU and the PCI root complex behind it. StreamIDs are the requester IDs.
func ExampleIORT() {
	iort := firmware.IORT{
		OEMID: "ACME", OEMTableID: "VMM",
		ITS:   []uint32{0},
		SMMUs: []firmware.SMMU{firmware.SMMU{Base: 0x0905_0000}.WithSPIs(74)},
		Roots: []firmware.PCIRoot{{Requesters: 65536, SMMU: 0, AddressBits: 48, ATS: true}},
	}
	table, err := iort.Table()
	fmt.Println(string(table[:4]), len(table), "bytes", err)
	iort.Roots[0].SMMU = 1
	_, err = iort.Table()
	fmt.Println(err)
	// Output:
	// IORT 216 bytes <nil>
	// firmware: IORT: Roots[0]: SMMU 1: the table has 1
}
