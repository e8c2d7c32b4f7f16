package firmware

import (
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func testIORT() *IORT {
	return &IORT{
		OEMID: "VSMMU", OEMTableID: "TEST", OEMRevision: 3,
		ITS:   []uint32{0},
		SMMUs: []SMMU{{Base: 0x0905_0000, EventQ: 8, PRIQ: 9, CmdSync: 10, GError: 11}},
		Roots: []PCIRoot{
			{Segment: 0, Requesters: 0x1000, SMMU: 0, ATS: true, AddressBits: 48, CanWBS: true},
			{Segment: 1, Requesters: 0x100, SMMU: NoSMMU, StreamBase: 0x8000, AddressBits: 40},
		},
		RMRs: []RMR{{SMMU: 0, First: 8, Streams: 8, Base: 0x0800_0000, Size: 0x0010_0000}},
	}
}

// The bytes are those that the tables of DEN 0049E.d say, written out.
func TestIORTBytes(t *testing.T) {
	want := `
		494f5254 54010000 05 xx 56534d4d5500 5445535400000000 03000000 56534d55 01000000
		05000000 30000000 00000000

		00 1800 01 00000000 00000000 00000000
		01000000 00000000

		04 5800 04 01000000 01000000 44000000
		0000050900000000 01000000 00000000 0000000000000000 00000000
		28000000 29000000 2b000000 2a000000 00000000 00000000
		00000000 ffffffff 00000000 30000000 00000000

		02 3800 03 02000000 01000000 24000000
		01000000 00 0000 07 01000000 00000000 30 00 0000
		00000000 ff0f0000 00000000 48000000 00000000

		02 3800 03 03000000 01000000 24000000
		01000000 00 0000 03 00000000 01000000 28 00 0000
		00000000 ff000000 00800000 30000000 00000000

		06 4400 03 04000000 01000000 30000000
		00000000 01000000 1c000000
		0000000800000000 0000100000000000 00000000
		00000000 07000000 08000000 48000000 00000000`

	got, err := testIORT().Table()
	require.NoError(t, err)
	bytes, err := hex.DecodeString(strings.ReplaceAll(strings.Join(strings.Fields(want), ""), "xx", hex.EncodeToString(got[9:10])))
	require.NoError(t, err)
	assert.Equal(t, bytes, got)

	sum := byte(0)
	for _, b := range got {
		sum += b
	}
	assert.Zero(t, sum, "the checksum makes the sum of all bytes 0")
}

// From issue E on each node has an identifier of its own, whatever kind it is of.
func TestIORTNodesHaveIdentifiersOfTheirOwn(t *testing.T) {
	table, err := testIORT().Table()
	require.NoError(t, err)
	var kinds []byte
	var identifiers []uint32
	for node := table[0x30:]; len(node) > 0; node = node[binary.LittleEndian.Uint16(node[1:]):] {
		kinds = append(kinds, node[0])
		identifiers = append(identifiers, binary.LittleEndian.Uint32(node[4:]))
	}
	assert.Equal(t, []byte{nodeITS, nodeSMMU, nodeRoot, nodeRoot, nodeRMR}, kinds)
	assert.Equal(t, []uint32{0, 1, 2, 3, 4}, identifiers)
}

func TestIORTWithoutITSMapsNothingToIt(t *testing.T) {
	table, err := (&IORT{SMMUs: []SMMU{{Base: 0x0905_0000}}}).Table()
	require.NoError(t, err)
	assert.EqualValues(t, 1, binary.LittleEndian.Uint32(table[36:]), "nodes")
	assert.Len(t, table, 0x30+0x44)
	assert.EqualValues(t, nodeSMMU, table[0x30])
	assert.Zero(t, binary.LittleEndian.Uint32(table[0x38:]), "mappings")
}

// An interrupt of 0 is one that there is not (DEN0049, SMMUv3 node).
func TestIORTWithoutCmdSync(t *testing.T) {
	for _, tt := range []struct {
		smmu SMMU
		want uint32
	}{{SMMU{CmdSync: 10}, 42}, {SMMU{NoCmdSync: true}, 0}} {
		table, err := (&IORT{SMMUs: []SMMU{tt.smmu}}).Table()
		require.NoError(t, err)
		assert.Equal(t, tt.want, binary.LittleEndian.Uint32(table[0x30+56:]))
	}
}

func TestIORTRejects(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*IORT)
		says string
	}{
		{"a long OEM ID", func(i *IORT) { i.OEMID = "SEVENTH" }, "longer"},
		{"a long table ID", func(i *IORT) { i.OEMTableID = "NINECHARS" }, "longer"},
		{"no requesters", func(i *IORT) { i.Roots[0].Requesters = 0 }, "segment 0 has 0 requesters"},
		{"too many requesters", func(i *IORT) { i.Roots[0].Requesters = 1<<16 + 1 }, "requesters"},
		{"an SMMU that is not there", func(i *IORT) { i.Roots[0].SMMU = 1 }, "SMMUs[1], and there are 1"},
		{"an SMMU between 64 KiB granules", func(i *IORT) { i.SMMUs[0].Base += 4096 }, "SMMUs[0]"},
		{"no addresses", func(i *IORT) { i.Roots[0].AddressBits = 0 }, "addresses of 0 bits"},
		{"addresses too wide", func(i *IORT) { i.Roots[0].AddressBits = 65 }, "addresses of 65 bits"},
		{"StreamIDs that wrap", func(i *IORT) { i.Roots[0].StreamBase = 0xffff_f001 }, "StreamIDs"},
		{"a range for no SMMU", func(i *IORT) { i.RMRs[0].SMMU = NoSMMU }, "SMMUs[-1], and there are 1"},
		{"an empty range", func(i *IORT) { i.RMRs[0].Size = 0 }, "64 KiB"},
		{"a range of 4 KiB", func(i *IORT) { i.RMRs[0].Size = 4096 }, "64 KiB"},
		{"a range that wraps", func(i *IORT) { i.RMRs[0].Base, i.RMRs[0].Size = 1<<64-1<<16, 2<<16 }, "64 KiB"},
		{"a range for no stream", func(i *IORT) { i.RMRs[0].Streams = 0 }, "0 streams"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testIORT()
			tt.edit(i)
			_, err := i.Table()
			assert.ErrorIs(t, err, ErrIORT)
			assert.ErrorContains(t, err, tt.says)
		})
	}
}

// What is just within the limits is taken.
func TestIORTTakesWhatFits(t *testing.T) {
	for name, edit := range map[string]func(*IORT){
		"the longest names":              func(i *IORT) { i.OEMID, i.OEMTableID = "SIXTHS", "EIGHTHSX" },
		"all requester IDs":              func(i *IORT) { i.Roots[0].Requesters = 1 << 16 },
		"addresses of 64 bits":           func(i *IORT) { i.Roots[0].AddressBits = 64 },
		"the last StreamIDs":             func(i *IORT) { i.Roots[0].StreamBase = 0xffff_f000 },
		"a range at the end of memory":   func(i *IORT) { i.RMRs[0].Base, i.RMRs[0].Size = 1<<64-1<<16, 1<<16 },
		"a range for the last StreamIDs": func(i *IORT) { i.RMRs[0].First = 0xffff_fff8 },
	} {
		i := testIORT()
		edit(i)
		_, err := i.Table()
		assert.NoError(t, err, name)
	}
}

// ACPI's own disassembler has to find in the table what was put into it.
func TestIORTDisassembles(t *testing.T) {
	iasl, err := exec.LookPath("iasl")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("NOT RUN: there is no iasl: install acpica-tools")
		}
		t.Skip("NOT RUN: there is no iasl: install acpica-tools")
	}
	for _, tt := range []struct {
		name string
		rmr  bool
		want []string
	}{
		{"without RMR", false, []string{
			"Node Count : 00000004",
			"Type : 00", "ItsCount : 00000001",
			"Type : 04", "Base Address : 0000000009050000", "COHACC Override : 1",
			"Event GSIV : 00000028", "PRI GSIV : 00000029", "GERR GSIV : 0000002B", "Sync GSIV : 0000002A",
			"Input base : 00000000", "ID Count : FFFFFFFF", "Output Base : 00000000", "Output Reference : 00000030",
			"Type : 02", "Cache Coherency : 00000001", "ATS Attribute : 00000001", "PCI Segment Number : 00000000",
			"Memory Size Limit : 30", "ID Count : 00000FFF", "Output Reference : 00000048",
			"PCI Segment Number : 00000001", "ID Count : 000000FF", "Output Base : 00008000", "Output Reference : 00000030",
		}},
		{"with RMR", true, []string{
			"Type : 06", "Base Address of RMR : 0000000008000000", "Length of RMR : 0000000000100000",
			"ID Count : 00000007", "Output Base : 00000008", "Output Reference : 00000048",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testIORT()
			if !tt.rmr {
				i.RMRs = nil
			}
			table, err := i.Table()
			require.NoError(t, err)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, "iort.aml"), table, 0o600))
			out, err := exec.CommandContext(t.Context(), iasl, "-p", filepath.Join(dir, "iort"), "-d", filepath.Join(dir, "iort.aml")).CombinedOutput()
			require.NoError(t, err, "%s", out)
			source, err := os.ReadFile(filepath.Join(dir, "iort.dsl"))
			require.NoError(t, err)
			if tt.rmr && strings.Contains(string(source), "Unknown") {
				t.Skipf("NOT RUN: this iasl does not know RMR nodes: version 20210604 or later does")
			}
			assert.NotContains(t, string(source)+string(out), "Invalid")
			assert.NotContains(t, string(source), "Unknown")
			assert.NotContains(t, string(out), "ncorrect checksum")
			// In the order of the table. What stands between may differ between versions.
			rest := normal(string(source))
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				require.True(t, ok, "%q in the rest of\n%s", want, source)
				rest = after
			}
		})
	}
}

// normal squeezes the spaces of a disassembly.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }
