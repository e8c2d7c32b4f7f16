package firmware_test

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A VMM's device tree gets an SMMU, and a disk behind it whose StreamID is 0x10.
func Example() {
	const gic, smmu dt.PHandle = 1, 2
	disk := dt.NewNode("virtio_mmio@a000000", dt.WithProperty(
		dt.PropertyString("compatible", "virtio,mmio"),
		dt.PropertyRegion("reg", 0x0a00_0000, 0x200),
	))
	disk.Properties = append(disk.Properties, firmware.MasterProperties(firmware.Master{
		SMMU: smmu, StreamIDs: []smmuv3.StreamID{0x10},
	})...)
	root := dt.NewNode("",
		dt.WithProperty(
			dt.PropertyU32("#address-cells", 2),
			dt.PropertyU32("#size-cells", 2),
			dt.PropertyU32("interrupt-parent", uint32(gic)), // its node has 3 interrupt cells
		),
		dt.WithChildren(disk, firmware.SMMUNode(firmware.SMMU{
			Base: 0x0905_0000, PHandle: smmu,
			EventQ: 74, PRIQ: 75, CmdSync: 76, GError: 77, // where vsmmu.Interrupts.Pulse leads
		})),
	)
	for _, n := range root.Children {
		fmt.Println(n.Name)
		for _, p := range n.Properties {
			fmt.Printf("  %s\n", p.Name)
		}
	}
	// Output:
	// virtio_mmio@a000000
	//   compatible
	//   reg
	//   iommus
	// iommu@9050000
	//   compatible
	//   reg
	//   interrupts
	//   interrupt-names
	//   dma-coherent
	//   #iommu-cells
	//   phandle
}

// The same for a guest that boots by ACPI: the IORT of an SMMU and the PCI root complex
// behind it. StreamIDs are the requester IDs.
func ExampleIORT() {
	iort := firmware.IORT{
		OEMID: "ACME", OEMTableID: "VMM",
		SMMUs: []firmware.SMMU{{Base: 0x0905_0000, EventQ: 74, PRIQ: 75, CmdSync: 76, GError: 77}},
		Roots: []firmware.PCIRoot{{Requesters: 65536, SMMU: 0, AddressBits: 48}},
	}
	table, err := iort.Table()
	fmt.Println(string(table[:4]), len(table), "bytes", err)
	iort.Roots[0].SMMU = 1
	_, err = iort.Table()
	fmt.Println(err)
	// Output:
	// IORT 172 bytes <nil>
	// firmware: IORT: segment 0 is behind SMMUs[1], and there are 1
}
