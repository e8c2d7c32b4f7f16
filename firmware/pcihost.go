package firmware

import "fmt"

// PCIHost describes a PCI Express host bridge with an ECAM, and the devices behind it.
type PCIHost struct {
	// ECAM is the guest-physical address of the configuration space, a multiple of 1 MiB.
	ECAM    uint64
	Buses   uint32 // from bus 0 on, 1 MiB of ECAM each; 1 to 256
	Windows []PCIWindow

	// GIC receives INTx. Its node has 2 #address-cells and 3 #interrupt-cells, like the node of a
	// GIC with an ITS. 0 omits INTx.
	GIC PHandle
	// INTx are the SPIs, counted from 0, of INTA# of devices 0 to 3. The other lines rotate by one.
	INTx [4]uint32

	// MSI is the ITS, which identifies functions by their requester IDs. 0 means none.
	MSI PHandle
	// SMMU translates the DMA of all functions, with their requester IDs as StreamIDs. 0 means
	// none.
	SMMU PHandle
	// ATS lets functions use ATS. Linux 6.11 and later enable ATS only if it is set; earlier
	// versions never enable it with a device tree.
	ATS bool
	// NonCoherent omits dma-coherent: DMA does not snoop the CPUs' caches. The DMA of emulated
	// functions, and of functions that iommufd passes through, always does.
	NonCoherent bool

	Devices []PCIDevice
}

// PCIWindow is memory for base address registers. It has the same addresses on the bus and on the
// CPUs' side.
type PCIWindow struct {
	Base, Size uint64
	// Is64 marks a prefetchable window of 64-bit addresses. Any other window lies below 4 GiB.
	Is64 bool
}

// PCIDevice describes a function that needs its own node. A guest discovers all others itself.
type PCIDevice struct {
	Number   uint8   // the device number on its bus, 0 to 31
	Function uint8   // the function number, 0 to 7
	PHandle  PHandle // of this node; 0 for none
	// CanStall declares that the function's DMA can wait for the guest. Functions on a PCI fabric
	// must not stall (IHI 0070 §3.12.1). Only devices that have nothing but the programming
	// interface of a PCI function may.
	CanStall bool
	// Regions are the phandles of reserved memory (see Identity).
	Regions []PHandle
	// Behind are the devices on the bus behind this function, if the function is a bridge.
	Behind []PCIDevice
}

// The first cell of a PCI address, phys.hi (IEEE Std 1275 PCI bus binding, §2.2.1.1).
const (
	pciMem32       = 0x0200_0000
	pciMem64       = 0x0300_0000
	pciPrefetch    = 0x4000_0000
	pciDeviceShift = 11
	pciFuncShift   = 8
)

const (
	ecamBus    = 1 << 20 // of each bus in the ECAM
	maxBuses   = 256
	pciDevices = 32 // of a bus
	pciFuncs   = 8  // of a device
)

func (h *PCIHost) check() error {
	switch {
	case h.Buses == 0 || h.Buses > maxBuses:
		return invalid("Buses %d: a host bridge has 1 to %d", h.Buses, maxBuses)
	case h.ECAM%ecamBus != 0:
		return invalid("ECAM %#x: not a multiple of 1 MiB", h.ECAM)
	case h.ECAM+uint64(h.Buses)*ecamBus < h.ECAM:
		return invalid("ECAM %#x: ends beyond 64 bits", h.ECAM)
	}
	for i, w := range h.Windows {
		end := w.Base + w.Size
		switch {
		case w.Size == 0 || end < w.Base:
			return invalid("Windows[%d]: %#x bytes at %#x: empty, or beyond 64 bits", i, w.Size, w.Base)
		case !w.Is64 && end > 1<<32:
			return invalid("Windows[%d]: ends at %#x, above 4 GiB (set Is64)", i, end)
		}
	}
	for pin, spi := range h.INTx {
		if h.GIC != 0 && spi > maxSPI {
			return invalid("INTx[%d] %d: SPIs are 0 to %d", pin, spi, maxSPI)
		}
	}
	return checkDevices(h.Devices, "Devices")
}

func checkDevices(devices []PCIDevice, path string) error {
	seen := map[[2]uint8]bool{}
	for i, d := range devices {
		at := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case d.Number >= pciDevices:
			return invalid("%s.Number %d: device numbers are 0 to %d", at, d.Number, pciDevices-1)
		case d.Function >= pciFuncs:
			return invalid("%s.Function %d: function numbers are 0 to %d", at, d.Function, pciFuncs-1)
		case seen[[2]uint8{d.Number, d.Function}]:
			return invalid("%s.Number %d: twice on one bus", at, d.Number)
		}
		seen[[2]uint8{d.Number, d.Function}] = true
		for k, r := range d.Regions {
			if r == 0 {
				return invalid("%s.Regions[%d]: phandle 0", at, k)
			}
		}
		if err := checkDevices(d.Behind, at+".Behind"); err != nil {
			return err
		}
	}
	return nil
}

// PCIHostNode returns the node of a host bridge, for a parent with 2 #address-cells and 2
// #size-cells.
func PCIHostNode(h PCIHost) (Node, error) {
	if err := h.check(); err != nil {
		return Node{}, fmt.Errorf("firmware: PCIHostNode: %w", err)
	}
	n := Node{Name: fmt.Sprintf("pcie@%x", h.ECAM), Props: []Prop{
		Strings("compatible", "pci-host-ecam-generic"),
		Strings("device_type", "pci"),
		Reg(h.ECAM, uint64(h.Buses)*ecamBus),
		Cells("bus-range", 0, h.Buses-1),
		Cells("#address-cells", 3),
		Cells("#size-cells", 2),
	}}
	if len(h.Windows) > 0 { // an empty property would mean that all addresses are the same
		n.Props = append(n.Props, Cells("ranges", pciRanges(h.Windows)...))
	}
	if !h.NonCoherent {
		n.Props = append(n.Props, Flag("dma-coherent"))
	}
	requesters := h.Buses << 8
	if h.MSI != 0 {
		n.Props = append(n.Props, requesterMap("msi-map", 0, h.MSI, 0, requesters))
	}
	if h.SMMU != 0 {
		n.Props = append(n.Props, requesterMap("iommu-map", 0, h.SMMU, 0, requesters))
	}
	if h.ATS {
		n.Props = append(n.Props, Flag("ats-supported"))
	}
	n.Props = append(n.Props, interruptMap(h.GIC, h.INTx)...)
	n.Children = pciDeviceNodes(h.Devices, h.GIC, h.INTx)
	return n, nil
}

func pciRanges(windows []PCIWindow) (cells []uint32) {
	for _, w := range windows {
		space := uint32(pciMem32)
		if w.Is64 {
			space = pciMem64 | pciPrefetch
		}
		cells = append(cells, space)
		cells = append(cells, cells64(w.Base)...)
		cells = append(cells, cells64(w.Base)...)
		cells = append(cells, cells64(w.Size)...)
	}
	return cells
}

// interruptMap routes the lines of a bus's devices to the GIC. Four rows are enough: the mask makes
// device 4 share the row of device 0, and so on.
func interruptMap(gic PHandle, intx [4]uint32) []Prop {
	if gic == 0 {
		return nil
	}
	var cells []uint32
	for device := range uint32(4) {
		for pin := range uint32(4) {
			cells = append(cells,
				device<<pciDeviceShift, 0, 0, pin+1,
				uint32(gic), 0, 0, gicSPI, intx[(device+pin)%4], levelHigh)
		}
	}
	return []Prop{
		Cells("#interrupt-cells", 1),
		Cells("interrupt-map-mask", 3<<pciDeviceShift, 0, 0, 7),
		Cells("interrupt-map", cells...),
	}
}

// behind returns the lines of the bus behind a bridge: the lines of the bridge's own bus, rotated
// by its device number (PCI-to-PCI Bridge Architecture Specification 1.2, §9.1).
func behind(bridge uint8, intx [4]uint32) (lines [4]uint32) {
	for i := range lines {
		lines[i] = intx[(i+int(bridge))%4]
	}
	return lines
}

func pciDeviceNodes(devices []PCIDevice, gic PHandle, intx [4]uint32) (nodes []Node) {
	for _, d := range devices {
		name := "device"
		if len(d.Behind) > 0 {
			name = "pcie"
		}
		n := Node{Name: fmt.Sprintf("%s@%x,%x", name, d.Number, d.Function), Props: []Prop{
			// The guest assigns the bus number, and ignores the one here.
			Cells("reg", uint32(d.Number)<<pciDeviceShift|uint32(d.Function)<<pciFuncShift, 0, 0, 0, 0),
		}}
		if d.PHandle != 0 {
			n.Props = append(n.Props, phandle(d.PHandle))
		}
		if d.CanStall {
			n.Props = append(n.Props, Flag("dma-can-stall"))
		}
		if len(d.Regions) > 0 {
			regions := make([]uint32, len(d.Regions))
			for i, r := range d.Regions {
				regions[i] = uint32(r)
			}
			n.Props = append(n.Props, Cells("memory-region", regions...))
		}
		if len(d.Behind) > 0 {
			n.Props = append(n.Props,
				Strings("device_type", "pci"),
				Cells("#address-cells", 3),
				Cells("#size-cells", 2),
				Flag("ranges"))
			// Older kernels look for the interrupt map only in the first bridge that has a node.
			lines := behind(d.Number, intx)
			n.Props = append(n.Props, interruptMap(gic, lines)...)
			n.Children = pciDeviceNodes(d.Behind, gic, lines)
		}
		nodes = append(nodes, n)
	}
	return nodes
}
