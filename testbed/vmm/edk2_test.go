package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestEDK2FindsItsDevicesInTheTree(t *testing.T) {
	hw := hardware{mem: 512 << 20, cpus: 1, smmus: shown(), uefi: true, pci: []pciSlot{{device: 1}}}
	got := parse(t, hw)
	assert.Equal(t, cells(0, 0, 0, 0x0400_0000, 0, 0x0400_0000, 0, 0x0400_0000), got["/flash@0"]["reg"])
	assert.Equal(t, cells(4), got["/flash@0"]["bank-width"])
	assert.Equal(t, cells(0, 0x0902_0000, 0, 24), got["/fw-cfg@9020000"]["reg"])
	assert.Equal(t, cells(0, 3, 4), got["/pl031@9030000"]["interrupts"])
	assert.Equal(t, "/serial@9000000\x00", string(got["/chosen"]["stdout-path"]))
	assert.Contains(t, got, "/serial@9000000")
	assert.NotContains(t, got, "/serial@9010000", "EDK2 takes the last UART for its console")
	assert.NotContains(t, got["/aliases"], "serial1")
	assert.Equal(t, cells(0x0100_0000, 0, 0, 0, 0x3eff_0000, 0, 0x1_0000), got["/pcie@3f000000"]["ranges"][:28], "a window for ports")

	hw.uefi = false
	got = parse(t, hw)
	assert.NotContains(t, got, "/flash@0")
	assert.Equal(t, cells(0x0200_0000), got["/pcie@3f000000"]["ranges"][:4])
}
