package vmm

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/firmware/urootdt"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fdt"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// hardware is the content of the device tree.
type hardware struct {
	mem     uint64
	cpus    int
	cmdline string
	initrd  span            // guest-physical; none if empty
	smmus   []smmuv3.IDRegs // the ID registers of each SMMU
	wiring  Wiring
	uefi    bool // firmware reads the tree
	disks   []Master
	pci     []pciSlot
	// seed is for the guest's random number generator and address space layout: at least 8 bytes,
	// or nil.
	seed []byte
}

// span is a range of guest-physical addresses.
type span struct{ start, size uint64 }

func (s span) end() uint64 { return s.start + s.size }

// Master describes how a disk is placed behind an SMMU. A machine without an SMMU ignores it.
type Master struct {
	SMMU      int // the SMMU's index, in the order of AddSMMU
	StreamID  smmuv3.StreamID
	PASIDBits uint32 // see firmware.Master
	CanStall  bool
}

// pciSlot is a place on the root bus of the PCI host bridge that is in use.
type pciSlot struct {
	device     int
	function   int
	behindPort bool // the device is device 0 of the bus behind a root port
	passed     bool // the device is passed through
	canStall   bool
}

// firstPCIDevice is the first device number that Machine assigns. AddRootPort uses the number
// before it.
const firstPCIDevice = 1

// PCIStreamID returns the StreamID of a device on the root bus: the nth that was added to a
// Machine, from 0 on, by AddPCIDisk or AddPCIDevice. Call AddEdu after these.
func PCIStreamID(n int) smmuv3.StreamID {
	return smmuv3.StreamID(pci.RootRequester(firstPCIDevice + n))
}

const (
	phandleGIC      firmware.PHandle = 1
	phandleClock    firmware.PHandle = 2
	phandleITS      firmware.PHandle = 4
	phandleDoorbell firmware.PHandle = 5
	phandlePCI      firmware.PHandle = 16 // of device 0; those of the other devices follow
	phandleSMMUs    firmware.PHandle = 64 // of SMMU 0; those of the others follow
)

func phandleSMMU(n int) firmware.PHandle { return phandleSMMUs + firmware.PHandle(n) }

// From the GICv3 binding.
const (
	gicSPI    = 0
	gicPPI    = 1
	levelHigh = 4
)

// uartClock is the rate that drivers divide to get a baud rate. The model has no baud rate.
const uartClock = 24_000_000

// deviceTree returns the flattened tree of the machine. The root has no interrupt-parent: each node
// with interrupts names the GIC itself.
func deviceTree(hw *hardware) ([]byte, error) {
	root := dt.NewNode("", dt.WithProperty(
		dt.PropertyString("compatible", "linux,dummy-virt"),
		dt.PropertyString("model", "vsmmuv3 test machine"),
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
	), dt.WithChildren(
		chosenNode(hw),
		dt.NewNode("aliases", dt.WithProperty(
			dt.PropertyString("serial0", "/"+uartName(consoleBase)),
			dt.PropertyString("serial1", "/"+uartName(controlBase)),
		)),
		dt.NewNode(fmt.Sprintf("memory@%x", uint64(RAMBase)), dt.WithProperty(
			dt.PropertyString("device_type", "memory"),
			dt.PropertyRegion("reg", RAMBase, hw.mem),
		)),
		cpusNode(hw.cpus),
		dt.NewNode("psci", dt.WithProperty(
			fdt.StringList("compatible", "arm,psci-1.0", "arm,psci-0.2"),
			dt.PropertyString("method", "hvc"),
		)),
		timerNode(),
		gicNode(hw.cpus, !hw.wiring.NoITS),
		dt.NewNode("apb-pclk", dt.WithProperty(
			dt.PropertyString("compatible", "fixed-clock"),
			dt.PropertyU32("#clock-cells", 0),
			dt.PropertyU32("clock-frequency", uartClock),
			dt.PropertyU32("phandle", uint32(phandleClock)),
		)),
		uartNode(consoleBase, consoleSPI),
		uartNode(controlBase, controlSPI),
	))
	for i, ids := range hw.smmus {
		n, err := firmware.SMMUNode(hw.wiring.describe(i, ids))
		if err != nil {
			return nil, err
		}
		root.Children = append(root.Children, urootdt.Node(n))
	}
	for slot, disk := range hw.disks {
		n, err := virtioNode(slot, len(hw.smmus) > 0, disk)
		if err != nil {
			return nil, err
		}
		root.Children = append(root.Children, n)
	}
	if len(hw.pci) > 0 {
		nodes, err := pciNodes(hw)
		if err != nil {
			return nil, err
		}
		root.Children = append(root.Children, urootdt.Nodes(nodes)...)
	}
	if hw.uefi {
		forEDK2(root)
	}
	return fdt.Blob(root)
}

func chosenNode(hw *hardware) *dt.Node {
	n := dt.NewNode("chosen", dt.WithProperty(
		dt.PropertyString("stdout-path", "serial0"),
		dt.PropertyString("bootargs", hw.cmdline),
	))
	if hw.initrd.size > 0 {
		n.Properties = append(n.Properties,
			dt.PropertyU64("linux,initrd-start", hw.initrd.start),
			dt.PropertyU64("linux,initrd-end", hw.initrd.end()))
	}
	if hw.seed != nil {
		const kaslrSize = 8
		n.Properties = append(n.Properties,
			dt.Property{Name: "kaslr-seed", Value: hw.seed[:kaslrSize]},
			dt.Property{Name: "rng-seed", Value: hw.seed[kaslrSize:]})
	}
	return n
}

func cpusNode(count int) *dt.Node {
	cpus := dt.NewNode("cpus", dt.WithProperty(dt.PropertyU32("#address-cells", 1), dt.PropertyU32("#size-cells", 0)))
	for i := range count {
		cpus.Children = append(cpus.Children, dt.NewNode(fmt.Sprintf("cpu@%x", i), dt.WithProperty(
			dt.PropertyString("device_type", "cpu"),
			dt.PropertyString("compatible", "arm,armv8"),
			dt.PropertyString("enable-method", "psci"),
			dt.PropertyU32("reg", uint32(i)),
		)))
	}
	return cpus
}

// interrupts returns the properties of a node with interrupts of the GIC, 3 cells each.
func interrupts(cells ...uint32) []dt.Property {
	return []dt.Property{
		dt.PropertyU32("interrupt-parent", uint32(phandleGIC)),
		dt.PropertyU32Array("interrupts", cells),
	}
}

// PPIs that KVM assigns the timers.
const (
	ppiHypervisor = 10
	ppiVirtual    = 11
	ppiSecure     = 13
	ppiNonSecure  = 14
)

// timerNode returns the node of the timers.
func timerNode() *dt.Node {
	var cells []uint32
	for _, ppi := range []uint32{ppiSecure, ppiNonSecure, ppiVirtual, ppiHypervisor} {
		cells = append(cells, gicPPI, ppi, levelHigh)
	}
	return dt.NewNode("timer", dt.WithProperty(
		dt.PropertyString("compatible", "arm,armv8-timer"),
		fdt.Flag("always-on"),
	), dt.WithProperty(interrupts(cells...)...))
}

func gicNode(cpus int, its bool) *dt.Node {
	reg := append(
		dt.PropertyRegion("", gicDistBase, gicDistSize).Value,
		dt.PropertyRegion("", gicRedistBase, gicRedistSize*uint64(cpus)).Value...)
	n := dt.NewNode(fmt.Sprintf("interrupt-controller@%x", gicDistBase), dt.WithProperty(
		dt.PropertyString("compatible", "arm,gic-v3"),
		dt.Property{Name: "reg", Value: reg},
		fdt.Flag("interrupt-controller"),
		dt.PropertyU32("#interrupt-cells", 3),
		dt.PropertyU32("phandle", uint32(phandleGIC)),
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
		fdt.Flag("ranges"),
	))
	if its {
		n.Children = append(n.Children, dt.NewNode(fmt.Sprintf("msi-controller@%x", itsBase), dt.WithProperty(
			dt.PropertyString("compatible", "arm,gic-v3-its"),
			dt.PropertyRegion("reg", itsBase, itsSize),
			fdt.Flag("msi-controller"),
			dt.PropertyU32("#msi-cells", 1),
			dt.PropertyU32("phandle", uint32(phandleITS)),
		)))
	}
	return n
}

// pciNodes returns the node of the host bridge and, with an SMMU, the reserved memory that devices
// need.
func pciNodes(hw *hardware) ([]firmware.Node, error) {
	host := firmware.PCIHost{
		ECAM: pciECAMBase, Buses: pciBuses,
		Windows: []firmware.PCIWindow{
			{Base: pciMemBase, Size: pciMemSize},
			{Base: pciMem64Base, Size: pciMem64Size, Is64: true},
		},
		GIC: phandleGIC, INTx: [pciLines]uint32{pciSPI, pciSPI + 1, pciSPI + 2, pciSPI + 3},
	}
	if !hw.wiring.NoITS {
		host.MSI = phandleITS
	}
	if len(hw.smmus) == 0 {
		n, err := firmware.PCIHostNode(host)
		return []firmware.Node{n}, err
	}
	host.SMMU, host.ATS = phandleSMMU(0), hw.smmus[0].Has(smmuv3.ATS)
	doorbells := doorbells
	doorbells.PHandle = phandleDoorbell
	for _, s := range hw.pci {
		if s.canStall {
			host.Devices = append(host.Devices, firmware.PCIDevice{
				Number: uint8(s.device), Function: uint8(s.function), CanStall: true,
			})
		}
		if !s.passed {
			continue
		}
		endpoint := firmware.PCIDevice{
			PHandle: phandlePCI + firmware.PHandle(s.device),
			Regions: []firmware.PHandle{phandleDoorbell},
		}
		doorbells.Devices = append(doorbells.Devices, endpoint.PHandle)
		if s.behindPort {
			endpoint = firmware.PCIDevice{Behind: []firmware.PCIDevice{endpoint}}
		}
		endpoint.Number = uint8(s.device)
		host.Devices = append(host.Devices, endpoint)
	}
	bridge, err := firmware.PCIHostNode(host)
	if err != nil || len(doorbells.Devices) == 0 {
		return []firmware.Node{bridge}, err
	}
	reserved, err := firmware.ReservedMemoryNode(doorbells)
	return []firmware.Node{reserved, bridge}, err
}

func uartName(base uint64) string { return fmt.Sprintf("serial@%x", base) }

func uartNode(base uint64, spi uint32) *dt.Node {
	return dt.NewNode(uartName(base), dt.WithProperty(
		fdt.StringList("compatible", "arm,pl011", "arm,primecell"),
		dt.PropertyRegion("reg", base, uartSize),
		dt.PropertyU32Array("clocks", []uint32{uint32(phandleClock), uint32(phandleClock)}),
		fdt.StringList("clock-names", "uartclk", "apb_pclk"),
	), dt.WithProperty(interrupts(gicSPI, spi, levelHigh)...))
}

func virtioNode(slot int, smmu bool, disk Master) (*dt.Node, error) {
	base := virtioSlot(slot)
	n := dt.NewNode(fmt.Sprintf("virtio_mmio@%x", base), dt.WithProperty(
		dt.PropertyString("compatible", "virtio,mmio"),
		dt.PropertyRegion("reg", base, virtioSize),
	), dt.WithProperty(interrupts(gicSPI, virtioSPI+uint32(slot), levelHigh)...))
	if !smmu {
		n.Properties = append(n.Properties, fdt.Flag("dma-coherent"))
		return n, nil
	}
	props, err := firmware.MasterProperties(firmware.Master{
		SMMU:      phandleSMMU(disk.SMMU),
		StreamIDs: []smmuv3.StreamID{disk.StreamID},
		PASIDBits: disk.PASIDBits,
		CanStall:  disk.CanStall,
	})
	n.Properties = append(n.Properties, urootdt.Properties(props)...)
	return n, err
}

func virtioSlot(slot int) uint64 { return virtioBase + virtioSize*uint64(slot) }
