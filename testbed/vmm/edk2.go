package vmm

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fdt"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fwcfg"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pl031"
)

// forEDK2 adds the devices that EDK2's ArmVirtQemu needs to a tree: its flash, the firmware
// configuration device, a clock, and a window for ports of the host bridge. It removes the second
// UART, since EDK2 uses the last UART for its console.
func forEDK2(root *dt.Node) {
	bank := func(base uint64) []byte { return dt.PropertyRegion("", base, flashSize).Value }
	root.Children = slices.DeleteFunc(root.Children, func(n *dt.Node) bool { return n.Name == uartName(controlBase) })
	for _, n := range root.Children {
		switch n.Name {
		case "chosen", "aliases":
			// EDK2 does not follow the alias serial0.
			for i, p := range n.Properties {
				if p.Name == "stdout-path" {
					n.Properties[i] = dt.PropertyString("stdout-path", "/"+uartName(consoleBase))
				}
			}
			n.Properties = slices.DeleteFunc(n.Properties, func(p dt.Property) bool { return p.Name == "serial1" })
		default:
			addPorts(n)
		}
	}
	root.Children = append(root.Children,
		dt.NewNode("flash@0", dt.WithProperty(
			dt.PropertyString("compatible", "cfi-flash"),
			dt.Property{Name: "reg", Value: append(bank(0), bank(flashSize)...)},
			dt.PropertyU32("bank-width", 4),
		)),
		dt.NewNode(fmt.Sprintf("fw-cfg@%x", uint64(fwcfgBase)), dt.WithProperty(
			dt.PropertyString("compatible", "qemu,fw-cfg-mmio"),
			dt.PropertyRegion("reg", fwcfgBase, fwcfg.Size),
			fdt.Flag("dma-coherent"),
		)),
		dt.NewNode(fmt.Sprintf("pl031@%x", uint64(rtcBase)), dt.WithProperty(
			fdt.StringList("compatible", "arm,pl031", "arm,primecell"),
			dt.PropertyRegion("reg", rtcBase, pl031.Size),
			dt.PropertyU32("clocks", uint32(phandleClock)),
			dt.PropertyString("clock-names", "apb_pclk"),
		), dt.WithProperty(interrupts(gicSPI, rtcSPI, levelHigh)...)),
	)
}

// addPorts adds a window for ports to the ranges of a host bridge.
func addPorts(n *dt.Node) {
	const ports = 0x0100_0000 // phys.hi (IEEE Std 1275 PCI bus binding, §2.2.1.1)
	for i, p := range n.Properties {
		if p.Name != "ranges" || len(p.Value) == 0 || !slices.ContainsFunc(n.Properties, isBusRange) {
			continue
		}
		var window []byte
		for _, cell := range []uint32{ports, 0, 0, 0, pciIOBase, 0, pciIOSize} {
			window = binary.BigEndian.AppendUint32(window, cell)
		}
		n.Properties[i].Value = append(window, p.Value...)
	}
}

func isBusRange(p dt.Property) bool { return p.Name == "bus-range" }
