package firmware

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"
)

// cells are the bytes of 32-bit cells.
func cells(values ...uint32) []byte { return dt.PropertyU32Array("", values).Value }

func testPCIHost() PCIHost {
	return PCIHost{
		ECAM: 0x3f00_0000, Buses: 16,
		Windows: []PCIWindow{{Base: 0x1000_0000, Size: 0x2f00_0000}, {Base: 0x20_0000_0000, Size: 0x10_0000_0000, Is64: true}},
		GIC:     1, INTx: [4]uint32{12, 13, 14, 15},
	}
}

// The cells are those of the bindings host-generic-pci, pci-iommu and pci-msi, written out.
func TestPCIHostNode(t *testing.T) {
	h := testPCIHost()
	h.MSI, h.SMMU = 4, 3
	n := PCIHostNode(h)
	assert.Equal(t, "pcie@3f000000", n.Name)
	got := readBack(t, n)

	interrupts := got["interrupt-map"]
	delete(got, "interrupt-map")
	assert.Equal(t, map[string][]byte{
		"compatible":         []byte("pci-host-ecam-generic\x00"),
		"device_type":        []byte("pci\x00"),
		"reg":                cells(0, 0x3f00_0000, 0, 0x0100_0000),
		"bus-range":          cells(0, 15),
		"#address-cells":     cells(3),
		"#size-cells":        cells(2),
		"#interrupt-cells":   cells(1),
		"interrupt-map-mask": cells(0x1800, 0, 0, 7),
		"ranges": cells(
			0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2f00_0000,
			0x4300_0000, 0x20, 0, 0x20, 0, 0x10, 0),
		"dma-coherent": {},
		"msi-map":      cells(0, 4, 0, 0x1000),
		"iommu-map":    cells(0, 3, 0, 0x1000),
	}, got)

	// Child address, pin; the GIC, its unit address, SPI, number, level high.
	require.Len(t, interrupts, 16*10*4)
	row := func(i int) []byte { return interrupts[i*40 : (i+1)*40] }
	assert.Equal(t, cells(0x0000, 0, 0, 1, 1, 0, 0, 0, 12, 4), row(0), "INTA# of device 0")
	assert.Equal(t, cells(0x0000, 0, 0, 4, 1, 0, 0, 0, 15, 4), row(3), "INTD# of device 0")
	assert.Equal(t, cells(0x0800, 0, 0, 1, 1, 0, 0, 0, 13, 4), row(4), "INTA# of device 1")
	assert.Equal(t, cells(0x1800, 0, 0, 2, 1, 0, 0, 0, 12, 4), row(13), "INTB# of device 3")
}

func TestPCIHostNodeWithoutMSIAndSMMU(t *testing.T) {
	got := readBack(t, PCIHostNode(testPCIHost()))
	assert.NotContains(t, got, "msi-map")
	assert.NotContains(t, got, "iommu-map")
}

// Linux finds a device's reserved memory by the node of the device, below that of the bridge it is behind.
func TestPCIDeviceNodes(t *testing.T) {
	h := testPCIHost()
	h.Devices = []PCIDevice{
		{Number: 1, PHandle: 17, Regions: []dt.PHandle{5}},
		{Number: 2, Behind: []PCIDevice{{PHandle: 18, Regions: []dt.PHandle{5, 6}}}},
	}
	n := PCIHostNode(h)
	require.Len(t, n.Children, 2)
	assert.Equal(t, "device@1,0", n.Children[0].Name)
	assert.Equal(t, map[string][]byte{
		"reg": cells(0x0800, 0, 0, 0, 0), "phandle": cells(17), "memory-region": cells(5),
	}, readBack(t, n.Children[0]))

	port := n.Children[1]
	assert.Equal(t, "pcie@2,0", port.Name)
	require.Len(t, port.Children, 1)
	interrupts := readBack(t, port)["interrupt-map"]
	require.Len(t, interrupts, 16*10*4)
	assert.Equal(t, cells(0, 0, 0, 1, 1, 0, 0, 0, 14, 4), interrupts[:40], "INTA# of the device behind it is its own INTA#")
	assert.Equal(t, cells(0, 0, 0, 3, 1, 0, 0, 0, 12, 4), interrupts[80:120], "INTC#")
	endpoint := port.Children[0]
	assert.Equal(t, "device@0,0", endpoint.Name)
	assert.Equal(t, map[string][]byte{
		"reg": cells(0, 0, 0, 0, 0), "phandle": cells(18), "memory-region": cells(5, 6),
	}, readBack(t, endpoint))
	assert.Equal(t, map[string][]byte{
		"reg": cells(0x1000, 0, 0, 0, 0), "device_type": []byte("pci\x00"),
		"#address-cells": cells(3), "#size-cells": cells(2), "ranges": {},
		"#interrupt-cells": cells(1), "interrupt-map-mask": cells(0x1800, 0, 0, 7), "interrupt-map": interrupts,
	}, readBack(t, port))
}

// What is in iommu-addresses has the cells of the device's own bus: three for an address on PCI, and two for a size.
func TestReservedMemoryNode(t *testing.T) {
	n := ReservedMemoryNode(Identity{Base: 0x0800_0000, Size: 0x0010_0000, PHandle: 5, Devices: []dt.PHandle{17, 18}})
	assert.Equal(t, map[string][]byte{"#address-cells": cells(2), "#size-cells": cells(2), "ranges": {}}, readBack(t, n))
	require.Len(t, n.Children, 1)
	assert.Equal(t, "identity@8000000", n.Children[0].Name)
	assert.Equal(t, map[string][]byte{
		"reg":    cells(0, 0x0800_0000, 0, 0x0010_0000),
		"no-map": {},
		"iommu-addresses": cells(
			17, 0x0200_0000, 0, 0x0800_0000, 0, 0x0010_0000,
			18, 0x0200_0000, 0, 0x0800_0000, 0, 0x0010_0000),
		"phandle": cells(5),
	}, readBack(t, n.Children[0]))
}
