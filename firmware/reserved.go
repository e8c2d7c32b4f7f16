package firmware

import (
	"fmt"
)

// Identity is a range of DMA addresses that the guest's stage 1 identity-maps to guest-physical
// addresses. An example is the doorbell to which a passthrough device writes its messages
// (iommufd.MSIBase).
type Identity struct {
	Base, Size uint64
	PHandle    PHandle   // of this node, for PCIDevice.Regions
	Devices    []PHandle // the PCI functions that use the range
}

// ReservedMemoryNode returns the node of identity-mapped ranges, a child of the root, which has 2
// #address-cells and 2 #size-cells. Linux 6.3 and later map the ranges, by the property
// iommu-addresses.
func ReservedMemoryNode(ranges ...Identity) (Node, error) {
	n := Node{Name: "reserved-memory", Props: []Prop{
		Cells("#address-cells", 2),
		Cells("#size-cells", 2),
		Flag("ranges"),
	}}
	for i, r := range ranges {
		if err := r.check(); err != nil {
			return Node{}, fmt.Errorf("firmware: ReservedMemoryNode: range %d: %w", i, err)
		}
		var addresses []uint32
		for _, d := range r.Devices {
			// The cells are those of the device's bus: PCI has one more for an address.
			addresses = append(addresses, uint32(d), pciMem32)
			addresses = append(addresses, cells64(r.Base)...)
			addresses = append(addresses, cells64(r.Size)...)
		}
		n.Children = append(n.Children, Node{Name: fmt.Sprintf("identity@%x", r.Base), Props: []Prop{
			Reg(r.Base, r.Size),
			Flag("no-map"),
			Cells("iommu-addresses", addresses...),
			phandle(r.PHandle),
		}})
	}
	return n, nil
}

func (r *Identity) check() error {
	const page = 4096
	switch {
	case r.Size == 0 || r.Base+r.Size-1 < r.Base:
		return invalid("%#x bytes at %#x: empty, or beyond 64 bits", r.Size, r.Base)
	case r.Base%page != 0 || r.Size%page != 0:
		return invalid("%#x bytes at %#x: not whole pages", r.Size, r.Base)
	case r.PHandle == 0:
		return invalid("PHandle 0: the node needs a phandle, since its functions refer to it")
	case len(r.Devices) == 0:
		return invalid("Devices: none")
	}
	for k, d := range r.Devices {
		if d == 0 {
			return invalid("Devices[%d]: phandle 0", k)
		}
	}
	return nil
}
