package acpi

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// checkHeader checks the header of a table, except the checksum.
func checkHeader(t *testing.T, table []byte, signature string, size int, revision byte) {
	t.Helper()
	assert.Equal(t, signature, string(table[:4]))
	require.Len(t, table, size)
	assert.EqualValues(t, size, binary.LittleEndian.Uint32(table[4:]))
	assert.Equal(t, revision, table[8])
	assert.Equal(t, "VSMMU\x00TESTVMM\x00", string(table[10:24]))
	assert.Zero(t, total(table), "checksum")
}

func total(b []byte) (sum byte) {
	for _, v := range b {
		sum += v
	}
	return sum
}

func TestFADTIsThatOfAHardwareReducedMachineWithPSCI(t *testing.T) {
	fadt := FADT()
	checkHeader(t, fadt, "FACP", 276, 6)
	assert.EqualValues(t, 1<<20, binary.LittleEndian.Uint32(fadt[112:]), "HW_REDUCED_ACPI")
	assert.EqualValues(t, 3, binary.LittleEndian.Uint16(fadt[129:]), "PSCI by HVC")
}

func TestMADTHasTheGICAndItsITS(t *testing.T) {
	gic := GIC{CPUs: 2, Dist: 0x0800_0000, Redist: 0x080a_0000, RedistSize: 0x4_0000, ITS: []uint64{0x0808_0000}}
	madt := MADT(gic)
	checkHeader(t, madt, "APIC", 44+24+2*80+16+20, 4)
	want := bytesOf(t, `00000000 00000000
		0c 18 0000 00000000 0000000800000000 00000000 03 000000
		0b 50 0000 00000000 00000000 01000000 00000000 00000000 0000000000000000
		0000000000000000 0000000000000000 0000000000000000 00000000 0000000000000000 0000000000000000 00000000
		0b 50 0000 01000000 01000000 01000000 00000000 00000000 0000000000000000
		0000000000000000 0000000000000000 0000000000000000 00000000 0000000000000000 0100000000000000 00000000
		0e 10 0000 00000a0800000000 00000400
		0f 14 0000 00000000 0000080800000000 00000000`)
	assert.Equal(t, want, []byte(madt[36:]))

	gic.ITS = nil
	assert.Len(t, MADT(gic), len(madt)-20)
}

func TestGTDTHasLevelTriggeredTimersThatAreAlwaysOn(t *testing.T) {
	gtdt := GTDT(Timers{Secure: 29, NonSecure: 30, Virtual: 27, Hypervisor: 26})
	checkHeader(t, gtdt, "GTDT", 96, 2)
	assert.Equal(t, bytesOf(t, `ffffffffffffffff 00000000
		1d000000 04000000 1e000000 04000000 1b000000 04000000 1a000000 04000000
		ffffffffffffffff 00000000 00000000`), []byte(gtdt[36:]))
}

func TestSPCRNamesThePL011(t *testing.T) {
	spcr := SPCR(0x0900_0000, 33)
	checkHeader(t, spcr, "SPCR", 80, 2)
	assert.Equal(t, bytesOf(t, `03 000000 00 20 00 03 0000000900000000 08 00 21000000
		00 00 01 00 03 00 ffff ffff 00 00 00 00000000 00 00000000`), []byte(spcr[36:]))
}

func TestMCFGNamesTheECAM(t *testing.T) {
	mcfg := MCFG(0x3f00_0000, 16)
	checkHeader(t, mcfg, "MCFG", 60, 1)
	assert.Equal(t, bytesOf(t, "0000000000000000 0000003f00000000 0000 00 0f 00000000"), []byte(mcfg[36:]))
}

func TestPlaceLinksTheTables(t *testing.T) {
	const at = 0x4230_1000
	dsdt := DSDT(Scope("_SB_"))
	set, err := Place(at, FADT(), dsdt, MCFG(0, 1))
	require.NoError(t, err)
	// table returns the table at an address.
	table := func(address uint64) []byte {
		b := set.Data[address-at:]
		b = b[:binary.LittleEndian.Uint32(b[4:])]
		assert.Zero(t, address%16, "alignment")
		assert.Zero(t, total(b), "checksum of %s", b[:4])
		return b
	}
	assert.EqualValues(t, at, set.RSDP)
	rsdp := set.Data[:36]
	assert.Equal(t, "RSD PTR ", string(rsdp[:8]))
	assert.EqualValues(t, 2, rsdp[15], "revision")
	assert.Zero(t, binary.LittleEndian.Uint32(rsdp[16:]), "no RSDT")
	assert.EqualValues(t, 36, binary.LittleEndian.Uint32(rsdp[20:]))
	assert.Zero(t, total(rsdp[:20]), "checksum of revision 0")
	assert.Zero(t, total(rsdp), "checksum")

	xsdt := table(binary.LittleEndian.Uint64(rsdp[24:]))
	require.Len(t, xsdt, 36+2*8, "the DSDT is not in the list")
	fadt := table(binary.LittleEndian.Uint64(xsdt[36:]))
	assert.Equal(t, "FACP", string(fadt[:4]))
	assert.Equal(t, "MCFG", string(table(binary.LittleEndian.Uint64(xsdt[44:]))[:4]))
	assert.Equal(t, []byte(dsdt), table(binary.LittleEndian.Uint64(fadt[140:])))
	assert.Zero(t, binary.LittleEndian.Uint32(fadt[40:]), "no 32-bit address of the DSDT")
}

func TestPlaceNeedsFADTAndDSDT(t *testing.T) {
	for _, tables := range [][]Table{nil, {FADT()}, {DSDT()}} {
		_, err := Place(0, tables...)
		assert.ErrorContains(t, err, "acpi: place tables: no FADT or no DSDT")
	}
}

// iasl, the ACPI disassembler, has no remark on the tables.
func TestTablesDisassemble(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("NOT RUN: there is no iasl: install acpica-tools")
		}
		t.Skip("NOT RUN: there is no iasl: install acpica-tools")
	}
	for _, table := range []Table{
		FADT(), MADT(GIC{CPUs: 2, ITS: []uint64{0x0808_0000}}), GTDT(Timers{29, 30, 27, 26}), SPCR(0x0900_0000, 33), MCFG(0x3f00_0000, 16),
	} {
		t.Run(table.Signature(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "table.aml")
			require.NoError(t, os.WriteFile(file, table, 0o600))
			out, err := exec.CommandContext(t.Context(), iasl, "-d", file).CombinedOutput()
			require.NoError(t, err, "%s", out)
			source, err := os.ReadFile(filepath.Join(filepath.Dir(file), "table.dsl"))
			require.NoError(t, err)
			for _, remark := range []string{"Warning", "Error", "Invalid", "Unknown", "ncorrect"} {
				assert.NotContains(t, string(out)+string(source), remark)
			}
		})
	}
}
