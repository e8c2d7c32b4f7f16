package firmware

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/internal/fdt"
)

// PCIHost says where the VM has a PCI Express host bridge with an ECAM, and what is behind it.
//
// Its interrupt parent is a GIC whose node has 2 #address-cells and 3 #interrupt-cells, as one with an ITS in it has.
type PCIHost struct {
	ECAM    uint64 // guest-physical address of the configuration space
	Buses   uint32 // from bus 0 on, 1 MiB of ECAM each
	Windows []PCIWindow

	GIC  dt.PHandle
	INTx [4]uint32 // shared peripheral interrupts, from 0, of INTA# of devices 0 to 3; the other lines rotate by one

	// MSI is the ITS, which knows functions by their requester IDs; 0 for none.
	MSI dt.PHandle
	// SMMU translates the DMA of all functions, with their requester IDs as StreamIDs; 0 for none.
	SMMU dt.PHandle

	Devices []PCIDevice
}

// PCIWindow is memory that the guest may place base address registers in. It has the same addresses on the bus.
type PCIWindow struct {
	Base, Size uint64
	// Is64 is for a window above 4 GiB, which only registers of 64 bits reach; it may be prefetched from.
	Is64 bool
}

// PCIDevice is a device that there is something to tell of beside what a guest finds out by itself.
type PCIDevice struct {
	Number  uint8      // its device number on the bus
	PHandle dt.PHandle // unique in the tree
	// Regions are of reserved memory: see ReservedMemoryNode.
	Regions []dt.PHandle
	// Behind are the devices of the bus behind it, if it is a bridge.
	Behind []PCIDevice
}

// The first cell of a PCI address, phys.hi (IEEE Std 1275 PCI bus binding, §2.2.1.1).
const (
	pciMem32       = 0x0200_0000
	pciMem64       = 0x0300_0000
	pciPrefetch    = 0x4000_0000
	pciDeviceShift = 11
)

const levelHigh = 4

// ecamBus is what a bus has in the ECAM.
const ecamBus = 1 << 20

// PCIHostNode is the node of a host bridge, to stand where #address-cells and #size-cells are 2. Its DMA is coherent with the
// CPUs' caches.
func PCIHostNode(h PCIHost) *dt.Node {
	n := dt.NewNode(fmt.Sprintf("pcie@%x", h.ECAM), dt.WithProperty(
		dt.PropertyString("compatible", "pci-host-ecam-generic"),
		dt.PropertyString("device_type", "pci"),
		dt.PropertyRegion("reg", h.ECAM, uint64(h.Buses)*ecamBus),
		dt.PropertyU32Array("bus-range", []uint32{0, h.Buses - 1}),
		dt.PropertyU32("#address-cells", 3),
		dt.PropertyU32("#size-cells", 2),
		dt.PropertyU32Array("ranges", pciRanges(h.Windows)),
		fdt.Flag("dma-coherent"),
	))
	requesters := h.Buses << 8
	if h.MSI != 0 {
		n.Properties = append(n.Properties, dt.PropertyU32Array("msi-map", []uint32{0, uint32(h.MSI), 0, requesters}))
	}
	if h.SMMU != 0 {
		n.Properties = append(n.Properties, dt.PropertyU32Array("iommu-map", []uint32{0, uint32(h.SMMU), 0, requesters}))
	}
	n.Properties = append(n.Properties, interruptMap(h.GIC, h.INTx)...)
	n.Children = pciDeviceNodes(h.Devices, h.GIC, h.INTx)
	return n
}

func pciRanges(windows []PCIWindow) (cells []uint32) {
	for _, w := range windows {
		space := uint32(pciMem32)
		if w.Is64 {
			space = pciMem64 | pciPrefetch
		}
		base := []uint32{uint32(w.Base >> 32), uint32(w.Base)}
		cells = append(cells, space)
		cells = append(cells, base...)
		cells = append(cells, base...)
		cells = append(cells, uint32(w.Size>>32), uint32(w.Size))
	}
	return cells
}

// interruptMap says where the lines of a bus's devices lead. It has a row for each of four devices: those after them have the
// same again, by the mask.
func interruptMap(gic dt.PHandle, intx [4]uint32) []dt.Property {
	var cells []uint32
	for device := range uint32(4) {
		for pin := range uint32(4) {
			cells = append(cells,
				device<<pciDeviceShift, 0, 0, pin+1,
				uint32(gic), 0, 0, gicSPI, intx[(device+pin)%4], levelHigh)
		}
	}
	return []dt.Property{
		dt.PropertyU32("#interrupt-cells", 1),
		dt.PropertyU32Array("interrupt-map-mask", []uint32{3 << pciDeviceShift, 0, 0, 7}),
		dt.PropertyU32Array("interrupt-map", cells),
	}
}

// behind are the lines of the bus behind a bridge, whose device number they rotate by (PCI-to-PCI Bridge Architecture
// Specification, 1.2, §9.1).
func behind(bridge uint8, intx [4]uint32) (lines [4]uint32) {
	for i := range lines {
		lines[i] = intx[(i+int(bridge))%4]
	}
	return lines
}

func pciDeviceNodes(devices []PCIDevice, gic dt.PHandle, intx [4]uint32) (nodes []*dt.Node) {
	for _, d := range devices {
		name := "device"
		if len(d.Behind) > 0 {
			name = "pcie"
		}
		n := dt.NewNode(fmt.Sprintf("%s@%x,0", name, d.Number), dt.WithProperty(
			// The bus number is not looked at, as the guest gives it.
			dt.PropertyU32Array("reg", []uint32{uint32(d.Number) << pciDeviceShift, 0, 0, 0, 0}),
		))
		if d.PHandle != 0 {
			n.Properties = append(n.Properties, dt.PropertyU32("phandle", uint32(d.PHandle)))
		}
		if len(d.Regions) > 0 {
			regions := make([]uint32, len(d.Regions))
			for i, r := range d.Regions {
				regions[i] = uint32(r)
			}
			n.Properties = append(n.Properties, dt.PropertyU32Array("memory-region", regions))
		}
		if len(d.Behind) > 0 {
			n.Properties = append(n.Properties,
				dt.PropertyString("device_type", "pci"),
				dt.PropertyU32("#address-cells", 3),
				dt.PropertyU32("#size-cells", 2),
				fdt.Flag("ranges"))
			// A bridge with a node has to say so itself: older kernels look for the map there, and no further.
			lines := behind(d.Number, intx)
			n.Properties = append(n.Properties, interruptMap(gic, lines)...)
			n.Children = pciDeviceNodes(d.Behind, gic, lines)
		}
		nodes = append(nodes, n)
	}
	return nodes
}
