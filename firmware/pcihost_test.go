package firmware

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testPCIHost() PCIHost {
	return PCIHost{
		ECAM: 0x3f00_0000, Buses: 16,
		Windows: []PCIWindow{{Base: 0x1000_0000, Size: 0x2f00_0000}, {Base: 0x20_0000_0000, Size: 0x10_0000_0000, Is64: true}},
		GIC:     1, INTx: [4]uint32{12, 13, 14, 15},
	}
}

func pciHostNode(t *testing.T, h PCIHost) Node {
	t.Helper()
	n, err := PCIHostNode(h)
	require.NoError(t, err)
	return n
}

// The cells are those of the bindings host-generic-pci, pci-iommu and pci-msi.
func TestPCIHostNode(t *testing.T) {
	h := testPCIHost()
	h.MSI, h.SMMU = 4, 3
	n := pciHostNode(t, h)
	assert.Equal(t, "pcie@3f000000", n.Name)
	got := values(t, n.Props)

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
	got := values(t, pciHostNode(t, testPCIHost()).Props)
	assert.NotContains(t, got, "msi-map")
	assert.NotContains(t, got, "iommu-map")
}

// Linux finds a function's reserved memory by the node of the function, a child of its bridge's
// node.
func TestPCIDeviceNodes(t *testing.T) {
	h := testPCIHost()
	h.Devices = []PCIDevice{
		{Number: 1, PHandle: 17, Regions: []PHandle{5}},
		{Number: 2, Behind: []PCIDevice{{PHandle: 18, Regions: []PHandle{5, 6}}}},
	}
	n := pciHostNode(t, h)
	require.Len(t, n.Children, 2)
	assert.Equal(t, "device@1,0", n.Children[0].Name)
	assert.Equal(t, map[string][]byte{
		"reg": cells(0x0800, 0, 0, 0, 0), "phandle": cells(17), "memory-region": cells(5),
	}, values(t, n.Children[0].Props))

	port := n.Children[1]
	assert.Equal(t, "pcie@2,0", port.Name)
	require.Len(t, port.Children, 1)
	interrupts := values(t, port.Props)["interrupt-map"]
	require.Len(t, interrupts, 16*10*4)
	assert.Equal(t, cells(0, 0, 0, 1, 1, 0, 0, 0, 14, 4), interrupts[:40], "INTA# of the device behind it is INTA# of the bridge")
	assert.Equal(t, cells(0, 0, 0, 3, 1, 0, 0, 0, 12, 4), interrupts[80:120], "INTC#")
	endpoint := port.Children[0]
	assert.Equal(t, "device@0,0", endpoint.Name)
	assert.Equal(t, map[string][]byte{
		"reg": cells(0, 0, 0, 0, 0), "phandle": cells(18), "memory-region": cells(5, 6),
	}, values(t, endpoint.Props))
	assert.Equal(t, map[string][]byte{
		"reg": cells(0x1000, 0, 0, 0, 0), "device_type": []byte("pci\x00"),
		"#address-cells": cells(3), "#size-cells": cells(2), "ranges": {},
		"#interrupt-cells": cells(1), "interrupt-map-mask": cells(0x1800, 0, 0, 7), "interrupt-map": interrupts,
	}, values(t, port.Props))
}

// Linux reads dma-can-stall from the node of the function.
func TestPCIDeviceNodeOfAFunctionThatCanStall(t *testing.T) {
	h := testPCIHost()
	h.Devices = []PCIDevice{{Number: 4}, {Number: 4, Function: 3, CanStall: true}}
	n := pciHostNode(t, h)
	require.Len(t, n.Children, 2)
	assert.Equal(t, "device@4,3", n.Children[1].Name)
	assert.Equal(t, map[string][]byte{
		"reg": cells(0x2300, 0, 0, 0, 0), "dma-can-stall": {},
	}, values(t, n.Children[1].Props))
}

func TestPCIHostNodeFlags(t *testing.T) {
	for _, tt := range []struct {
		name            string
		host            PCIHost
		present, absent []string
	}{
		{"default", testPCIHost(), []string{"dma-coherent", "interrupt-map", "ranges"}, []string{"ats-supported"}},
		{"ATS", PCIHost{Buses: 1, ATS: true}, []string{"dma-coherent", "ats-supported"}, nil},
		{"NonCoherent", PCIHost{Buses: 1, NonCoherent: true}, nil, []string{"dma-coherent"}},
		{"no GIC", PCIHost{Buses: 1}, nil, []string{"interrupt-map", "interrupt-map-mask", "#interrupt-cells"}},
		{"no windows", PCIHost{Buses: 1}, nil, []string{"ranges"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := values(t, pciHostNode(t, tt.host).Props)
			for _, name := range tt.present {
				assert.Contains(t, got, name)
			}
			for _, name := range tt.absent {
				assert.NotContains(t, got, name)
			}
			assert.Empty(t, got["ats-supported"], "a flag has no value")
			assert.Empty(t, got["dma-coherent"], "a flag has no value")
		})
	}
}

func TestPCIHostNodeRejects(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*PCIHost)
		says string
	}{
		{"no bus", func(h *PCIHost) { h.Buses = 0 }, "Buses 0"},
		{"too many buses", func(h *PCIHost) { h.Buses = 257 }, "Buses 257"},
		{"ECAM between buses", func(h *PCIHost) { h.ECAM += 4096 }, "ECAM 0x3f001000"},
		{"ECAM at the end of memory", func(h *PCIHost) { h.ECAM = 1<<64 - 1<<20 }, "ECAM 0xfffffffffff00000"},
		{"empty window", func(h *PCIHost) { h.Windows[0].Size = 0 }, "Windows[0]"},
		{"window that wraps", func(h *PCIHost) { h.Windows[1].Size = 1<<64 - 1 }, "Windows[1]"},
		{"32-bit window above 4 GiB", func(h *PCIHost) { h.Windows[1].Is64 = false }, "Windows[1]: ends at 0x3000000000, above 4 GiB"},
		{"INTx that is no SPI", func(h *PCIHost) { h.INTx[2] = 988 }, "INTx[2] 988"},
		{"device number 32", func(h *PCIHost) { h.Devices = []PCIDevice{{Number: 32}} }, "Devices[0].Number 32"},
		{"two devices of one number", func(h *PCIHost) { h.Devices = []PCIDevice{{Number: 1}, {Number: 1}} }, "Devices[1].Number 1"},
		{"device number 32 behind a bridge", func(h *PCIHost) {
			h.Devices = []PCIDevice{{Number: 1, Behind: []PCIDevice{{}, {Number: 32}}}}
		}, "Devices[0].Behind[1].Number 32"},
		{"region 0", func(h *PCIHost) { h.Devices = []PCIDevice{{Regions: []PHandle{5, 0}}} }, "Devices[0].Regions[1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := testPCIHost()
			tt.edit(&h)
			_, err := PCIHostNode(h)
			assert.ErrorContains(t, err, "firmware: PCIHostNode: "+tt.says)
		})
	}
}

// The cells of iommu-addresses are those of the device's bus: three for an address on PCI, and two
// for a size.
func TestReservedMemoryNode(t *testing.T) {
	n, err := ReservedMemoryNode(Identity{Base: 0x0800_0000, Size: 0x0010_0000, PHandle: 5, Devices: []PHandle{17, 18}})
	require.NoError(t, err)
	assert.Equal(t, map[string][]byte{"#address-cells": cells(2), "#size-cells": cells(2), "ranges": {}}, values(t, n.Props))
	require.Len(t, n.Children, 1)
	assert.Equal(t, "identity@8000000", n.Children[0].Name)
	assert.Equal(t, map[string][]byte{
		"reg":    cells(0, 0x0800_0000, 0, 0x0010_0000),
		"no-map": {},
		"iommu-addresses": cells(
			17, 0x0200_0000, 0, 0x0800_0000, 0, 0x0010_0000,
			18, 0x0200_0000, 0, 0x0800_0000, 0, 0x0010_0000),
		"phandle": cells(5),
	}, values(t, n.Children[0].Props))
}

func TestReservedMemoryNodeRejects(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Identity)
		says string
	}{
		{"empty", func(r *Identity) { r.Size = 0 }, "0x0 bytes"},
		{"wraps", func(r *Identity) { r.Base = 1<<64 - 4096 }, "0x100000 bytes at 0xfffffffffffff000"},
		{"between pages", func(r *Identity) { r.Base += 8 }, "not whole pages"},
		{"no phandle", func(r *Identity) { r.PHandle = 0 }, "PHandle 0"},
		{"no devices", func(r *Identity) { r.Devices = nil }, "Devices: none"},
		{"device 0", func(r *Identity) { r.Devices = []PHandle{17, 0} }, "Devices[1]: phandle 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Identity{Base: 0x0800_0000, Size: 0x0010_0000, PHandle: 5, Devices: []PHandle{17}}
			tt.edit(&r)
			_, err := ReservedMemoryNode(r)
			assert.ErrorContains(t, err, "firmware: ReservedMemoryNode: range 0: ")
			assert.ErrorContains(t, err, tt.says)
		})
	}
}
