package vmm

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tree holds the properties of a device tree by path.
type tree map[string]map[string][]byte

func parse(t *testing.T, hw hardware) tree {
	t.Helper()
	blob, err := deviceTree(&hw)
	require.NoError(t, err)
	assert.Less(t, len(blob), maxTree)
	fdt, err := dt.ReadFDT(bytes.NewReader(blob))
	require.NoError(t, err)
	got := tree{}
	got.add(t, "", fdt.RootNode)
	return got
}

func (tr tree) add(t *testing.T, parent string, n *dt.Node) {
	path := strings.TrimSuffix(parent, "/") + "/" + n.Name
	require.NotContains(t, tr, path)
	tr[path] = map[string][]byte{}
	for _, p := range n.Properties {
		require.NotContains(t, tr[path], p.Name, path)
		tr[path][p.Name] = p.Value
	}
	for _, child := range n.Children {
		tr.add(t, path, child)
	}
}

func cells(values ...uint32) []byte { return dt.PropertyU32Array("", values).Value }

func TestDeviceTreeDescribesTheMachine(t *testing.T) {
	seed := bytes.Repeat([]byte{0x5a}, 40)
	got := parse(t, hardware{
		mem: 512 << 20, cpus: 2, cmdline: "console=ttyAMA0", smmus: shown(), seed: seed,
		initrd: span{0x4300_0000, 0x1234},
		disks:  []Master{{StreamID: 0x10}, {StreamID: 0x21, PASIDBits: 6, CanStall: true}},
	})
	for _, tt := range []struct {
		path, property string
		want           []byte
	}{
		{"/", "#address-cells", cells(2)},
		{"/", "#size-cells", cells(2)},
		{"/serial@9000000", "interrupt-parent", cells(1)},
		{"/serial@9010000", "interrupt-parent", cells(1)},
		{"/timer", "interrupt-parent", cells(1)},
		{"/iommu@9050000", "interrupt-parent", cells(1)},
		{"/virtio_mmio@a000000", "interrupt-parent", cells(1)},
		{"/interrupt-controller@8000000", "phandle", cells(1)},
		{"/iommu@9050000", "dma-coherent", []byte{}},
		{"/virtio_mmio@a000200", "dma-coherent", []byte{}},
		{"/chosen", "bootargs", []byte("console=ttyAMA0\x00")},
		{"/chosen", "stdout-path", []byte("serial0\x00")},
		{"/chosen", "linux,initrd-start", cells(0, 0x4300_0000)},
		{"/chosen", "linux,initrd-end", cells(0, 0x4300_1234)},
		{"/chosen", "kaslr-seed", seed[:8]},
		{"/chosen", "rng-seed", seed[8:]},
		{"/aliases", "serial0", []byte("/serial@9000000\x00")},
		{"/aliases", "serial1", []byte("/serial@9010000\x00")},
		{"/memory@40000000", "device_type", []byte("memory\x00")},
		{"/memory@40000000", "reg", cells(0, 0x4000_0000, 0, 0x2000_0000)},
		{"/cpus/cpu@0", "reg", cells(0)},
		{"/cpus/cpu@1", "reg", cells(1)},
		{"/cpus/cpu@1", "enable-method", []byte("psci\x00")},
		{"/psci", "method", []byte("hvc\x00")},
		{"/timer", "interrupts", cells(1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4)},
		{"/interrupt-controller@8000000", "reg", cells(0, 0x0800_0000, 0, 0x1_0000, 0, 0x080a_0000, 0, 0x4_0000)},
		{"/interrupt-controller@8000000", "#interrupt-cells", cells(3)},
		{"/serial@9000000", "compatible", []byte("arm,pl011\x00arm,primecell\x00")},
		{"/serial@9000000", "interrupts", cells(0, 1, 4)},
		{"/serial@9010000", "interrupts", cells(0, 2, 4)},
		{"/serial@9010000", "clock-names", []byte("uartclk\x00apb_pclk\x00")},
		{"/iommu@9050000", "compatible", []byte("arm,smmu-v3\x00")},
		{"/iommu@9050000", "interrupts", cells(0, 8, 1, 0, 11, 1, 0, 9, 1)},
		{"/virtio_mmio@a000000", "reg", cells(0, 0x0a00_0000, 0, 0x200)},
		{"/virtio_mmio@a000000", "interrupts", cells(0, 16, 4)},
		{"/virtio_mmio@a000000", "dma-coherent", []byte{}},
		{"/virtio_mmio@a000000", "iommus", cells(64, 0x10)},
		{"/virtio_mmio@a000200", "reg", cells(0, 0x0a00_0200, 0, 0x200)},
		{"/virtio_mmio@a000200", "interrupts", cells(0, 17, 4)},
		{"/virtio_mmio@a000200", "iommus", cells(64, 0x21)},
		{"/virtio_mmio@a000200", "pasid-num-bits", cells(6)},
		{"/virtio_mmio@a000200", "dma-can-stall", []byte{}},
	} {
		require.Contains(t, got, tt.path)
		require.Contains(t, got[tt.path], tt.property, tt.path)
		assert.Equal(t, tt.want, got[tt.path][tt.property], "%s of %s", tt.property, tt.path)
	}
	assert.Equal(t, got["/iommu@9050000"]["phandle"], got["/virtio_mmio@a000000"]["iommus"][:4])
	assert.NotContains(t, got["/virtio_mmio@a000000"], "pasid-num-bits")

	phandles := map[string]string{}
	for path, properties := range got {
		if p, ok := properties["phandle"]; ok {
			assert.NotContains(t, phandles, string(p))
			phandles[string(p)] = path
		}
	}
}

// shown returns ID registers in which the given fields are 1, besides COHACC, MSI and PRI.
func shown(fields ...smmuv3.IDField) []smmuv3.IDRegs {
	var ids smmuv3.IDRegs
	for _, f := range append(fields, smmuv3.COHACC, smmuv3.MSI, smmuv3.PRI) {
		ids.Set(f, 1)
	}
	return []smmuv3.IDRegs{ids}
}

// The root has no interrupt-parent that other nodes could inherit.
func TestEachNodeWithInterruptsNamesTheGIC(t *testing.T) {
	got := parse(t, hardware{
		mem: 512 << 20, cpus: 1, smmus: shown(), disks: make([]Master, 2), pci: []pciSlot{{device: 1, behindPort: true, passed: true}},
	})
	assert.NotContains(t, got["/"], "interrupt-parent")
	named := 0
	for path, properties := range got {
		if _, ok := properties["interrupts"]; ok {
			assert.Equal(t, cells(1), properties["interrupt-parent"], path)
			named++
		}
	}
	assert.Equal(t, 6, named, "timer, 2 UARTs, SMMU, 2 disks")
}

func TestHostBridgeHasATSSupportedIfTheSMMUShowsATS(t *testing.T) {
	slots := []pciSlot{{device: 1, passed: true}, {device: 2}}
	for _, tt := range []struct {
		name  string
		smmus []smmuv3.IDRegs
		want  bool
	}{
		{"IDR0.ATS is 1", shown(smmuv3.ATS), true},
		{"IDR0.ATS is 0", shown(), false},
		{"no SMMU", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			host := parse(t, hardware{mem: 512 << 20, cpus: 1, smmus: tt.smmus, pci: slots})["/pcie@3f000000"]
			_, got := host["ats-supported"]
			assert.Equal(t, tt.want, got)
			assert.Contains(t, host, "dma-coherent", "with and without an SMMU")
		})
	}
}

func TestSMMUNodeAgreesWithTheIDRegisters(t *testing.T) {
	var ids smmuv3.IDRegs
	ids.Set(smmuv3.S1P, 1)
	smmu := parse(t, hardware{mem: 512 << 20, cpus: 1, smmus: []smmuv3.IDRegs{ids}})["/iommu@9050000"]
	assert.NotContains(t, smmu, "dma-coherent", "IDR0.COHACC is 0")
	assert.Equal(t, []byte("eventq\x00gerror\x00"), smmu["interrupt-names"], "IDR0.PRI is 0")

	smmu = parse(t, hardware{mem: 512 << 20, cpus: 1, smmus: shown()})["/iommu@9050000"]
	assert.Contains(t, smmu, "dma-coherent")
	assert.Equal(t, []byte("eventq\x00gerror\x00priq\x00"), smmu["interrupt-names"])
}

func TestDeviceTreeOmitsMissingHardware(t *testing.T) {
	got := parse(t, hardware{mem: 512 << 20, cpus: 1, disks: []Master{{StreamID: 0x10, PASIDBits: 6}}})
	assert.NotContains(t, got, "/iommu@9050000")
	assert.NotContains(t, got["/virtio_mmio@a000000"], "iommus")
	assert.NotContains(t, got["/virtio_mmio@a000000"], "pasid-num-bits")
	assert.NotContains(t, got["/chosen"], "linux,initrd-start")
	assert.NotContains(t, got["/chosen"], "rng-seed")
	assert.NotContains(t, got, "/cpus/cpu@1")
}

// The tests of package firmware cover the cells. This one covers the phandles between nodes.
func TestPCINodesReferToTheSMMUAndTheITS(t *testing.T) {
	hw := hardware{mem: 512 << 20, cpus: 1, smmus: shown(), pci: []pciSlot{
		{device: 1, passed: true}, {device: 2, behindPort: true, passed: true}, {device: 3},
	}}
	got := parse(t, hw)
	host := got["/pcie@3f000000"]
	require.NotNil(t, host)
	its := got["/interrupt-controller@8000000/msi-controller@8080000"]
	assert.Equal(t, its["phandle"], host["msi-map"][4:8])
	assert.Equal(t, got["/iommu@9050000"]["phandle"], host["iommu-map"][4:8])
	assert.Equal(t, got["/interrupt-controller@8000000"]["phandle"], host["interrupt-map"][16:20])
	doorbell := got["/reserved-memory/identity@8000000"]
	for at, path := range []string{"/pcie@3f000000/device@1,0", "/pcie@3f000000/pcie@2,0/device@0,0"} {
		assert.Equal(t, doorbell["phandle"], got[path]["memory-region"], path)
		const entry = 4 * (1 + 3 + 2)
		assert.Equal(t, got[path]["phandle"], doorbell["iommu-addresses"][at*entry:][:4], path)
	}
	assert.Equal(t, append(its["phandle"], cells(0x1000)...), got["/iommu@9050000"]["msi-parent"])
	assert.NotContains(t, got, "/pcie@3f000000/device@3,0", "an emulated device needs no reserved memory")

	hw.pci = []pciSlot{{device: 1}}
	got = parse(t, hw)
	assert.Contains(t, got["/pcie@3f000000"], "iommu-map")
	assert.NotContains(t, got, "/reserved-memory")

	hw.smmus = nil
	got = parse(t, hw)
	assert.NotContains(t, got["/pcie@3f000000"], "iommu-map")
	assert.NotContains(t, got, "/reserved-memory")
	hw.pci = nil
	assert.NotContains(t, parse(t, hw), "/pcie@3f000000")
}

// Bits 15 to 8 of a requester ID are the bus, 7 to 3 the device, 2 to 0 the function.
func TestPCIStreamID(t *testing.T) {
	assert.EqualValues(t, 0x08, PCIStreamID(0), "00:01.0, behind the host bridge")
	assert.EqualValues(t, 0x18, PCIStreamID(2), "00:03.0")
}

func TestDeviceTreeOfTheLargestMachineFits(t *testing.T) {
	got := parse(t, hardware{mem: maxMem, cpus: maxCPUs, smmus: shown(), disks: make([]Master, maxDisks)})
	assert.Equal(t, cells(0, 0x4000_0000, 0x10, 0), got["/memory@40000000"]["reg"])
	assert.Contains(t, got, "/cpus/cpu@7")
	assert.Contains(t, got, "/virtio_mmio@a003e00")
}
