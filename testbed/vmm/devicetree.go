package vmm

import (
	"fmt"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/firmware/urootdt"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fdt"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// hardware is what the device tree tells the guest.
type hardware struct {
	mem     uint64
	cpus    int
	cmdline string
	initrd  span // guest-physical; none if empty
	smmu    bool
	disks   []Master
	pci     []pciSlot
	seed    []byte // for the guest's random number generator and address space layout, at least 8 bytes; may be nil
}

// span is a range of guest-physical addresses.
type span struct{ start, size uint64 }

func (s span) end() uint64 { return s.start + s.size }

// Master says how a disk stands behind the SMMU; it has no meaning in a machine without one.
type Master struct {
	StreamID  smmuv3.StreamID
	PASIDBits uint32 // see firmware.Master
	CanStall  bool
}

// pciSlot is a place on the root bus of the PCI host bridge that has a device in it.
type pciSlot struct {
	device     int
	behindPort bool // as device 0 of the bus behind the root port that is there
	passed     bool // it is the host's
}

// firstPCIDevice leaves a place before those of all devices.
const firstPCIDevice = 1

// PCIStreamID is the StreamID of a device of the root bus: of the nth, from 0 on, that a Machine was given.
func PCIStreamID(n int) smmuv3.StreamID {
	return smmuv3.StreamID(pci.RootRequester(firstPCIDevice + n))
}

const (
	phandleGIC      firmware.PHandle = 1
	phandleClock    firmware.PHandle = 2
	phandleSMMU     firmware.PHandle = 3
	phandleITS      firmware.PHandle = 4
	phandleDoorbell firmware.PHandle = 5
	phandlePCI      firmware.PHandle = 16 // of device 0, the others behind it
)

// From the GICv3 binding.
const (
	gicSPI    = 0
	gicPPI    = 1
	levelHigh = 4
)

// uartClock is the rate that drivers divide down to a baud rate, which nothing here depends on.
const uartClock = 24_000_000

// deviceTree is the flattened tree of the machine.
func deviceTree(hw hardware) ([]byte, error) {
	root := dt.NewNode("", dt.WithProperty(
		dt.PropertyString("compatible", "linux,dummy-virt"),
		dt.PropertyString("model", "vsmmuv3 test machine"),
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
		dt.PropertyU32("interrupt-parent", uint32(phandleGIC)),
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
		gicNode(hw.cpus),
		dt.NewNode("apb-pclk", dt.WithProperty(
			dt.PropertyString("compatible", "fixed-clock"),
			dt.PropertyU32("#clock-cells", 0),
			dt.PropertyU32("clock-frequency", uartClock),
			dt.PropertyU32("phandle", uint32(phandleClock)),
		)),
		uartNode(consoleBase, consoleSPI),
		uartNode(controlBase, controlSPI),
	))
	if hw.smmu {
		n, err := firmware.SMMUNode(firmware.SMMU{
			Base: smmuBase, PHandle: phandleSMMU,
			EventQ: smmuEventQSPI, PRIQ: smmuPRIQSPI, GError: smmuGErrorSPI, NoCmdSync: true,
			MSI: phandleITS, DeviceID: smmuDeviceID,
		})
		if err != nil {
			return nil, fmt.Errorf("vmm: device tree: %w", err)
		}
		root.Children = append(root.Children, urootdt.Node(n))
	}
	for slot, disk := range hw.disks {
		n, err := virtioNode(slot, hw.smmu, disk)
		if err != nil {
			return nil, fmt.Errorf("vmm: device tree: %w", err)
		}
		root.Children = append(root.Children, n)
	}
	if len(hw.pci) > 0 {
		nodes, err := pciNodes(hw.pci, hw.smmu)
		if err != nil {
			return nil, fmt.Errorf("vmm: device tree: %w", err)
		}
		root.Children = append(root.Children, urootdt.Nodes(nodes)...)
	}
	blob, err := fdt.Blob(root)
	if err != nil {
		return nil, fmt.Errorf("vmm: device tree: %w", err)
	}
	return blob, nil
}

func chosenNode(hw hardware) *dt.Node {
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

// timerNode has the private interrupts that KVM gives the timers: secure, non-secure, virtual, hypervisor.
func timerNode() *dt.Node {
	var interrupts []uint32
	for _, ppi := range []uint32{13, 14, 11, 10} {
		interrupts = append(interrupts, gicPPI, ppi, levelHigh)
	}
	return dt.NewNode("timer", dt.WithProperty(
		dt.PropertyString("compatible", "arm,armv8-timer"),
		dt.PropertyU32Array("interrupts", interrupts),
		fdt.Flag("always-on"),
	))
}

func gicNode(cpus int) *dt.Node {
	reg := append(
		dt.PropertyRegion("", gicDistBase, gicDistSize).Value,
		dt.PropertyRegion("", gicRedistBase, gicRedistSize*uint64(cpus)).Value...)
	return dt.NewNode(fmt.Sprintf("interrupt-controller@%x", gicDistBase), dt.WithProperty(
		dt.PropertyString("compatible", "arm,gic-v3"),
		dt.Property{Name: "reg", Value: reg},
		fdt.Flag("interrupt-controller"),
		dt.PropertyU32("#interrupt-cells", 3),
		dt.PropertyU32("phandle", uint32(phandleGIC)),
		dt.PropertyU32("#address-cells", 2),
		dt.PropertyU32("#size-cells", 2),
		fdt.Flag("ranges"),
	), dt.WithChildren(dt.NewNode(fmt.Sprintf("msi-controller@%x", itsBase), dt.WithProperty(
		dt.PropertyString("compatible", "arm,gic-v3-its"),
		dt.PropertyRegion("reg", itsBase, itsSize),
		fdt.Flag("msi-controller"),
		dt.PropertyU32("#msi-cells", 1),
		dt.PropertyU32("phandle", uint32(phandleITS)),
	))))
}

// pciNodes are the host bridge and, with an SMMU, what the devices' DMA needs of the guest.
func pciNodes(slots []pciSlot, smmu bool) ([]firmware.Node, error) {
	host := firmware.PCIHost{
		ECAM: pciECAMBase, Buses: pciBuses,
		Windows: []firmware.PCIWindow{
			{Base: pciMemBase, Size: pciMemSize},
			{Base: pciMem64Base, Size: pciMem64Size, Is64: true},
		},
		GIC: phandleGIC, INTx: [pciLines]uint32{pciSPI, pciSPI + 1, pciSPI + 2, pciSPI + 3},
		MSI: phandleITS,
	}
	if !smmu {
		n, err := firmware.PCIHostNode(host)
		return []firmware.Node{n}, err
	}
	host.SMMU = phandleSMMU
	// The messages of a device that is passed through do not go where the guest's tables say. Those of an emulated one do.
	doorbells := firmware.Identity{Base: iommufd.MSIBase, Size: iommufd.MSISize, PHandle: phandleDoorbell}
	for _, s := range slots {
		if !s.passed {
			continue
		}
		endpoint := firmware.PCIDevice{PHandle: phandlePCI + firmware.PHandle(s.device), Regions: []firmware.PHandle{phandleDoorbell}}
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
		dt.PropertyU32Array("interrupts", []uint32{gicSPI, spi, levelHigh}),
		dt.PropertyU32Array("clocks", []uint32{uint32(phandleClock), uint32(phandleClock)}),
		fdt.StringList("clock-names", "uartclk", "apb_pclk"),
	))
}

func virtioNode(slot int, smmu bool, disk Master) (*dt.Node, error) {
	base := virtioSlot(slot)
	n := dt.NewNode(fmt.Sprintf("virtio_mmio@%x", base), dt.WithProperty(
		dt.PropertyString("compatible", "virtio,mmio"),
		dt.PropertyRegion("reg", base, virtioSize),
		dt.PropertyU32Array("interrupts", []uint32{gicSPI, virtioSPI + uint32(slot), levelHigh}),
	))
	if !smmu {
		n.Properties = append(n.Properties, fdt.Flag("dma-coherent"))
		return n, nil
	}
	props, err := firmware.MasterProperties(firmware.Master{
		SMMU: phandleSMMU, StreamIDs: []smmuv3.StreamID{disk.StreamID}, PASIDBits: disk.PASIDBits, CanStall: disk.CanStall,
	})
	n.Properties = append(n.Properties, urootdt.Properties(props)...)
	return n, err
}

func virtioSlot(slot int) uint64 { return virtioBase + virtioSize*uint64(slot) }
