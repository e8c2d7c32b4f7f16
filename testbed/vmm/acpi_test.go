package vmm

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/dt"

	"github.com/go-vsmmu/vsmmuv3/firmware"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/acpi"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// full returns a machine with everything that the tables can describe.
func full() *hardware {
	return &hardware{
		mem: 512 << 20, cpus: 2, cmdline: "console=ttyAMA0", initrd: span{0x4440_0000, 0x1234}, seed: make([]byte, 64),
		smmus: append(shown(smmuv3.ATS), shown()...), wiring: Wiring{StreamBase: 0x2000, DeviceBase: 0x4000, CanWBS: true, RMR: true},
		disks: []Master{{StreamID: 0x10}, {SMMU: 1, StreamID: 0x21, PASIDBits: 6, CanStall: true}},
		pci:   []pciSlot{{device: 1}, {device: 2, passed: true}},
	}
}

func TestACPIMachineLeadsFromTheTreeToTheTables(t *testing.T) {
	at := span{0x4220_0000, maxTree}
	data, err := describeByACPI(full(), at, span{RAMBase, 512 << 20})
	require.NoError(t, err)
	require.Len(t, data, maxTree)
	fdt, err := dt.ReadFDT(bytes.NewReader(data))
	require.NoError(t, err)
	require.Len(t, fdt.RootNode.Children, 1, "Linux reads ACPI if there is nothing but /chosen")
	got := tree{}
	got.add(t, "", fdt.RootNode)
	chosen := got["/chosen"]
	assert.Equal(t, "efi=noruntime console=ttyAMA0\x00", string(chosen["bootargs"]))
	assert.NotContains(t, chosen, "stdout-path")
	assert.Equal(t, cells(0, 0x4440_0000), chosen["linux,initrd-start"])
	u64 := func(at uint64) uint64 { return binary.LittleEndian.Uint64(data[at-0x4220_0000:]) }
	systemTable := binary.BigEndian.Uint64(chosen["linux,uefi-system-table"])
	assert.EqualValues(t, 0x4230_0000, systemTable)
	rsdp := u64(u64(systemTable+112) + 16)
	xsdt := u64(rsdp + 24)
	var signatures []string
	for i := range (u64(xsdt+4)&0xffff_ffff - 36) / 8 {
		signatures = append(signatures, string(data[u64(xsdt+36+8*i)-at.start:][:4]))
	}
	assert.Equal(t, []string{"FACP", "APIC", "GTDT", "SPCR", "MCFG", "IORT"}, signatures)
}

func TestIORTDescribesTheMachine(t *testing.T) {
	hw := full()
	i := hw.iort()
	assert.Equal(t, []uint32{0}, i.ITS)
	require.Len(t, i.SMMUs, 2)
	assert.EqualValues(t, 0x0905_0000, i.SMMUs[0].Base)
	assert.EqualValues(t, 0x0907_0000, i.SMMUs[1].Base)
	assert.Equal(t, [5]uint32{8, 9, 11, 10, 0x1000}, interruptsOf(i.SMMUs[0]))
	assert.Equal(t, [5]uint32{48, 49, 51, 50, 0x1001}, interruptsOf(i.SMMUs[1]))
	assert.Equal(t, []firmware.PCIRoot{{
		Requesters: 0x1000, StreamBase: 0x2000, ATS: true, AddressBits: 48, CanWBS: true,
	}}, i.Roots)
	assert.Equal(t, []firmware.Component{
		{Path: `\_SB_.VR00`, StreamIDs: []smmuv3.StreamID{0x10}, AddressBits: 48},
		{Path: `\_SB_.VR01`, SMMU: 1, StreamIDs: []smmuv3.StreamID{0x21}, PASIDBits: 6, CanStall: true, AddressBits: 48},
	}, i.Components)
	assert.Equal(t, []firmware.RMR{
		{First: 0x2000, Streams: 0x1000, Base: 0x0b00_0000, Size: 0x2_0000},
		{First: 0x2000, Streams: 0x1000, Base: 0x0800_0000, Size: 0x10_0000},
	}, i.RMRs, "the reserved range, and the doorbells of the device that is passed through")

	hw.smmus = nil
	i = hw.iort()
	assert.Empty(t, i.Components)
	assert.Empty(t, i.RMRs)
	assert.Equal(t, firmware.NoSMMU, i.Roots[0].SMMU, "its messages go straight to the ITS")
}

func interruptsOf(s firmware.SMMU) [5]uint32 {
	return [5]uint32{s.EventQ, s.PRIQ, s.GError, s.CmdSync, s.DeviceID}
}

// No two devices share an interrupt or an address.
func TestSMMUsHaveTheirOwnInterrupts(t *testing.T) {
	used := map[uint32]bool{consoleSPI: true, controlSPI: true}
	for i := range uint32(pciLines) {
		used[pciSPI+i] = true
	}
	for i := range uint32(maxDisks) {
		used[virtioSPI+i] = true
	}
	for n := range maxSMMUs {
		for line := range vsmmu.Line(vsmmu.NumLines) {
			spi := smmuSPI(n) + uint32(line)
			assert.Less(t, spi, uint32(spis))
			assert.False(t, used[spi], "SMMU %d, %v: SPI %d", n, line, spi)
			used[spi] = true
		}
	}
	assert.LessOrEqual(t, smmuAddress(maxSMMUs), uint64(virtioBase))
}

// iasl, the ACPI compiler, disassembles the DSDT and compiles the result without a remark.
func TestMachinesTablesDisassemble(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(acpi.SkipNoIASL)
		}
		t.Skip(acpi.SkipNoIASL)
	}
	hw := full()
	hw.wiring.RMR, hw.pci = false, hw.pci[:1] // iasl before version 20210604 knows no RMR nodes
	tables, err := acpiTables(hw)
	require.NoError(t, err)
	run := func(args ...string) string {
		out, err := exec.CommandContext(t.Context(), iasl, args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	for _, table := range tables {
		t.Run(table.Signature(), func(t *testing.T) {
			prefix := filepath.Join(t.TempDir(), "table")
			require.NoError(t, os.WriteFile(prefix+".aml", table, 0o600))
			out := run("-d", prefix+".aml")
			source, err := os.ReadFile(prefix + ".dsl")
			require.NoError(t, err)
			for _, remark := range []string{"Warning", "Error", "Invalid", "Unknown", "ncorrect"} {
				assert.NotContains(t, out+string(source), remark)
			}
			if table.Signature() == "DSDT" {
				assert.Contains(t, run(prefix+".dsl"), "0 Errors, 0 Warnings, 0 Remarks")
				for _, device := range []string{"VR00", "VR01", "PCI0", "COM0", "COM1", "C001"} {
					assert.Equal(t, 1, strings.Count(string(source), "Device ("+device+")"), device)
				}
			}
		})
	}
}
