package guest

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRowsOfInterruptsAreThoseOfSMMUsAndDisks(t *testing.T) {
	rows := parseInterrupts(`           CPU0       CPU1       
 11:       1029        998     GICv3  27 Level     arch_timer
 13:         20          1     GICv3  33 Level     uart-pl011
 15:          1          0     GICv3  40 Edge      arm-smmu-v3-evtq
 16:          0          0   ITS-MSI 16384 Edge      virtio0-config
 17:         35          2  ITS-PCI-MSIX-0000:00:02.0   1 Edge      virtio1-req.0
IPI0:       100        200       Rescheduling interrupts
Err:          0
`)
	assert.Equal(t, []Interrupt{
		{Handler: "arm-smmu-v3-evtq", Chip: "GICv3", Number: 40, Count: 1},
		{Handler: "virtio0-config", Chip: "ITS-MSI", Number: 16384},
		{Handler: "virtio1-req.0", Chip: "ITS-PCI-MSIX-0000:00:02.0", Number: 1, Count: 37},
	}, rows)
	assert.True(t, rows[0].Wired())
	assert.False(t, rows[0].Message())
	assert.True(t, rows[2].Message())
	assert.Empty(t, parseInterrupts(""))
	assert.Empty(t, parseInterrupts("CPU0\n 1: Edge x\n 2: 0 GICv3 Edge\n"), "rows that are cut off")
}

func TestKernelBlamesTheFirmware(t *testing.T) {
	for line, want := range map[string]bool{
		"ACPI: IORT: [Firmware Bug]: [node (____ptrval____) type 4] ID mapping index overflows valid mappings": true,
		"ACPI BIOS Error (bug): Could not resolve symbol [\\_SB.PCI0], AE_NOT_FOUND":                           true,
		"arm-smmu-v3 arm-smmu-v3.0.auto: IDR0.COHACC overridden by FW configuration (true)":                    true,
		"arm-smmu-v3 arm-smmu-v3.0.auto: option mask 0x0":                                                      false,
		"ACPI: 1 ACPI AML tables successfully acquired and loaded":                                             false,
	} {
		assert.Equal(t, want, blamesFirmware(line), line)
	}
}

func TestTreeHasNodesWithInterruptsAndMasters(t *testing.T) {
	root := t.TempDir()
	for _, property := range []string{
		"compatible", "cpus/cpu@0/reg", "timer/interrupts", "timer/interrupt-parent",
		"soc/interrupt-parent", "soc/disk@a000000/interrupts", "soc/disk@a000000/iommus", "soc/disk@a000000/dma-coherent",
		"pcie@3f000000/bus-range", "pcie@3f000000/iommu-map", "pcie@3f000000/ats-supported",
	} {
		file := filepath.Join(root, property)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, nil, 0o600))
	}
	nodes, err := readTree(root)
	require.NoError(t, err)
	assert.Equal(t, []Node{
		{Path: "/pcie@3f000000", Master: true, Bridge: true, ATS: true},
		{Path: "/soc/disk@a000000", Interrupts: true, Parent: true, Master: true, Coherent: true},
		{Path: "/timer", Interrupts: true, Parent: true},
	}, nodes)
	_, err = readTree(filepath.Join(root, "none"))
	assert.Error(t, err)
}
