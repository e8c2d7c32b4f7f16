package firmware

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/internal/fdt"
)

// Identity is a range of DMA addresses that the guest is to map, in stage 1, to the same guest-physical addresses: that of the
// doorbells to which devices that are passed through write their messages, for example (iommufd.MSIBase).
type Identity struct {
	Base, Size uint64
	PHandle    dt.PHandle   // unique in the tree; also for PCIDevice.Regions
	Devices    []dt.PHandle // the PCI devices whose DMA it is for
}

// ReservedMemoryNode is the node that holds identity mapped ranges, to stand in the root, where #address-cells and #size-cells
// are 2. Linux maps them from 6.3 on, as the binding reserved-memory says of iommu-addresses.
func ReservedMemoryNode(ranges ...Identity) *dt.Node {
	n := dt.NewNode("reserved-memory", dt.WithProperty(
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
		fdt.Flag("ranges"),
	))
	for _, r := range ranges {
		base := []uint32{uint32(r.Base >> 32), uint32(r.Base)}
		size := []uint32{uint32(r.Size >> 32), uint32(r.Size)}
		var addresses []uint32
		for _, d := range r.Devices {
			// In the cells of the device's bus, which for PCI has one more.
			addresses = append(addresses, uint32(d), pciMem32)
			addresses = append(addresses, base...)
			addresses = append(addresses, size...)
		}
		n.Children = append(n.Children, dt.NewNode(fmt.Sprintf("identity@%x", r.Base), dt.WithProperty(
			dt.PropertyRegion("reg", r.Base, r.Size),
			fdt.Flag("no-map"),
			dt.PropertyU32Array("iommu-addresses", addresses),
			dt.PropertyU32("phandle", uint32(r.PHandle)),
		)))
	}
	return n
}
