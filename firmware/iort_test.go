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

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
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

// The bytes follow the tables of DEN 0049E.e.
func TestIORTBytes(t *testing.T) {
	want := `
		494f5254 54010000 06 xx 56534d4d5500 5445535400000000 03000000 56534d55 01000000
		05000000 30000000 00000000

		00 1800 01 00000000 00000000 00000000
		01000000 00000000

		04 5800 05 01000000 01000000 44000000
		0000050900000000 05000000 00000000 0000000000000000 00000000
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

// Each node of any kind has an identifier of its own, from issue E on.
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

func TestIORTNamesAreNeverEmpty(t *testing.T) {
	table, err := (&IORT{}).Table()
	require.NoError(t, err)
	assert.Equal(t, "VSMMU\x00VSMMUV3\x00", string(table[10:24]))
}

func TestIORTRejects(t *testing.T) {
	second := func(i *IORT, r PCIRoot) {
		r.AddressBits = 48
		i.Roots[1] = r
	}
	for _, tt := range []struct {
		name string
		edit func(*IORT)
		says string
	}{
		{"OEM ID of 7 bytes", func(i *IORT) { i.OEMID = "SEVENTH" }, "OEMID"},
		{"table ID of 9 bytes", func(i *IORT) { i.OEMTableID = "NINECHARS" }, "OEMTableID"},
		{"one ITS twice", func(i *IORT) { i.ITS = []uint32{1, 0, 1} }, "ITS[2] 1"},

		{"SMMU between 64 KiB granules", func(i *IORT) { i.SMMUs[0].Base += 4096 }, "SMMUs[0]: Base 0x9051000"},
		{"SMMU at the end of memory", func(i *IORT) { i.SMMUs[0].Base = 1<<64 - 1<<16 }, "SMMUs[0]: Base"},
		{"SMMUs that overlap", func(i *IORT) { i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0906_0000}) }, "SMMUs[1]: Base"},
		{"EventQ that is no SPI", func(i *IORT) { i.SMMUs[0].EventQ = 988 }, "SMMUs[0]: EventQ 988"},
		{"PRIQ that is no SPI", func(i *IORT) { i.SMMUs[0].PRIQ = 988 }, "SMMUs[0]: PRIQ 988"},
		{"CmdSync that is no SPI", func(i *IORT) { i.SMMUs[0].CmdSync = 988 }, "SMMUs[0]: CmdSync 988"},
		{"GError that is no SPI", func(i *IORT) { i.SMMUs[0].GError = 1<<32 - 32 }, "SMMUs[0]: GError"},
		{"messages from the DeviceID of a function", func(i *IORT) {
			i.SMMUs[0].IDs.Set(smmuv3.MSI, 1)
			i.SMMUs[0].DeviceID = 0xfff
		}, "SMMUs[0]: DeviceID 0xfff: Roots[0] has it"},
		{"messages from the DeviceID of a function without an SMMU", func(i *IORT) {
			i.SMMUs[0].IDs.Set(smmuv3.MSI, 1)
			i.SMMUs[0].DeviceID = 0x8000
		}, "SMMUs[0]: DeviceID 0x8000: Roots[1] has it"},
		{"messages from the DeviceID of another SMMU", func(i *IORT) {
			i.SMMUs[0].IDs.Set(smmuv3.MSI, 1)
			i.SMMUs[0].DeviceID = 0x1_0000
			i.SMMUs = append(i.SMMUs, i.SMMUs[0])
			i.SMMUs[1].Base = 0x0a00_0000
		}, "SMMUs[1]: DeviceID 0x10000"},

		{"no requesters", func(i *IORT) { i.Roots[0].Requesters = 0 }, "Roots[0]: Requesters 0"},
		{"too many requesters", func(i *IORT) { i.Roots[0].Requesters = 1<<16 + 1 }, "Roots[0]: Requesters 65537"},
		{"root behind an SMMU that is not there", func(i *IORT) { i.Roots[0].SMMU = 1 }, "Roots[0]: SMMU 1: the table has 1"},
		{"root behind SMMU -2", func(i *IORT) { i.Roots[0].SMMU = -2 }, "Roots[0]: SMMU -2"},
		{"addresses of no bits", func(i *IORT) { i.Roots[0].AddressBits = 0 }, "Roots[0]: AddressBits 0"},
		{"addresses of 65 bits", func(i *IORT) { i.Roots[0].AddressBits = 65 }, "Roots[0]: AddressBits 65"},
		{"StreamIDs beyond 32 bits", func(i *IORT) { i.Roots[0].StreamBase = 0xffff_f001 }, "Roots[0]: StreamBase"},
		{"DeviceIDs beyond 32 bits", func(i *IORT) { i.SMMUs[0].DeviceBase = 0xffff_f001 }, "Roots[0]: StreamBase"},
		{"DMA that is always and never cached", func(i *IORT) { i.Roots[0].NonCoherent = true }, "Roots[0]: CanWBS"},
		{"two roots of one segment", func(i *IORT) { i.Roots[1].Segment = 0 }, "Roots[1]: Segment 0"},
		{"StreamIDs of another root", func(i *IORT) {
			second(i, PCIRoot{Segment: 1, Requesters: 1, StreamBase: 0xfff})
		}, "Roots[1]: StreamBase"},
		{"StreamIDs around those of another root", func(i *IORT) {
			i.Roots[0].StreamBase = 0x100
			second(i, PCIRoot{Segment: 1, Requesters: 0x1_0000})
		}, "Roots[1]: StreamBase"},
		{"DeviceIDs of another root, both without an SMMU", func(i *IORT) {
			i.Roots[0].SMMU = NoSMMU
			second(i, PCIRoot{Segment: 1, Requesters: 1, SMMU: NoSMMU, StreamBase: 0xfff})
		}, "Roots[1]: StreamBase"},

		{"DeviceIDs of a root behind another SMMU", func(i *IORT) {
			i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0907_0000, DeviceBase: 0xffe})
			second(i, PCIRoot{Segment: 1, Requesters: 1, SMMU: 1, StreamBase: 1})
		}, "Roots[1]: StreamBase 0x1: DeviceIDs overlap those of Roots[0]"},
		{"DeviceIDs of a root without an SMMU", func(i *IORT) {
			second(i, PCIRoot{Segment: 1, Requesters: 0x1_0000, SMMU: NoSMMU})
		}, "Roots[1]: StreamBase 0x0: DeviceIDs overlap those of Roots[0]"},
		{"component with the DeviceID of a function behind another SMMU", func(i *IORT) {
			i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0907_0000})
			i.Components[0].SMMU, i.Components[0].StreamIDs[0] = 1, 0xfff
		}, "Components[0]: StreamIDs: Roots[0] has the DeviceID of 0xfff"},
		{"component with the DeviceID of another behind another SMMU", func(i *IORT) {
			i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0907_0000, DeviceBase: 0x4000})
			i.Components = append(i.Components,
				Component{Path: `\_SB_.VR01`, SMMU: 1, StreamIDs: []smmuv3.StreamID{0x1000}, AddressBits: 48})
		}, "Components[1]: StreamIDs: Components[0] has the DeviceID of 0x1000"},

		{"more ITSs than fit", func(i *IORT) {
			i.ITS = make([]uint32, 16379)
			for n := range i.ITS {
				i.ITS[n] = uint32(n)
			}
		}, "ITS: 16379 of them"},
		{"component with more streams than fit", func(i *IORT) {
			i.Roots, i.Components[0].StreamIDs = nil, make([]smmuv3.StreamID, 3275)
			for n := range i.Components[0].StreamIDs {
				i.Components[0].StreamIDs[n] = smmuv3.StreamID(n)
			}
		}, "Components[0]: StreamIDs: 3275 of them"},
		{"component without a path", func(i *IORT) { i.Components[0].Path = "" }, `Components[0]: Path ""`},
		{"component with a short name", func(i *IORT) { i.Components[0].Path = `\_SB.VR00` }, "Components[0]: Path"},
		{"component with a relative path", func(i *IORT) { i.Components[0].Path = `_SB_.VR00` }, "Components[0]: Path"},
		{"two components of one path", func(i *IORT) {
			i.Components = append(i.Components, i.Components[0])
			i.Components[1].StreamIDs = []smmuv3.StreamID{0x5001}
		}, "Components[1]: Path"},
		{"component behind no SMMU", func(i *IORT) { i.Components[0].SMMU = NoSMMU }, "Components[0]: SMMU -1"},
		{"component without a stream", func(i *IORT) { i.Components[0].StreamIDs = nil }, "Components[0]: StreamIDs: none"},
		{"component with a stream twice", func(i *IORT) {
			i.Components[0].StreamIDs = []smmuv3.StreamID{0x5000, 0x5000}
		}, "Components[0]: StreamIDs: 0x5000 twice"},
		{"component with the stream of a function", func(i *IORT) {
			i.Components[0].StreamIDs = []smmuv3.StreamID{0xfff}
		}, "Components[0]: StreamIDs: Roots[0] has 0xfff"},
		{"component with the stream of another", func(i *IORT) {
			i.Components = append(i.Components, i.Components[0])
			i.Components[1].Path = `\_SB_.VR01`
		}, "Components[1]: StreamIDs: Components[0] has 0x5000"},
		{"component with SubstreamIDs of 21 bits", func(i *IORT) { i.Components[0].PASIDBits = 21 }, "Components[0]: PASIDBits 21"},
		{"component with addresses of no bits", func(i *IORT) { i.Components[0].AddressBits = 0 }, "Components[0]: AddressBits 0"},
		{"component with a DeviceID beyond 32 bits", func(i *IORT) {
			i.Roots, i.SMMUs[0].DeviceBase = nil, 0xffff_b000
		}, "Components[0]: StreamIDs: with the SMMU's DeviceBase"},
		{"messages from the DeviceID of a component", func(i *IORT) {
			i.SMMUs[0].IDs.Set(smmuv3.MSI, 1)
			i.SMMUs[0].DeviceID = 0x5000
		}, "SMMUs[0]: DeviceID 0x5000: Components[0]"},

		{"RMR for no SMMU", func(i *IORT) { i.RMRs[0].SMMU = NoSMMU }, "RMRs[0]: SMMU -1: the table has 1"},
		{"empty RMR", func(i *IORT) { i.RMRs[0].Size = 0 }, "RMRs[0]: Size 0x0"},
		{"RMR of 4 KiB", func(i *IORT) { i.RMRs[0].Size = 4096 }, "RMRs[0]: Size 0x1000"},
		{"RMR between 64 KiB granules", func(i *IORT) { i.RMRs[0].Base = 4096 }, "RMRs[0]: Base 0x1000"},
		{"RMR that wraps", func(i *IORT) { i.RMRs[0].Base, i.RMRs[0].Size = 1<<64-1<<16, 2<<16 }, "RMRs[0]: Size"},
		{"RMR for no stream", func(i *IORT) { i.RMRs[0].Streams = 0 }, "RMRs[0]: Streams 0"},
		{"RMR for streams beyond 32 bits", func(i *IORT) { i.RMRs[0].First = 0xffff_fff9 }, "RMRs[0]: Streams 8"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testIORT()
			i.Components = []Component{{Path: `\_SB_.VR00`, StreamIDs: []smmuv3.StreamID{0x5000}, AddressBits: 48}}
			tt.edit(i)
			_, err := i.Table()
			assert.ErrorIs(t, err, ErrIORT)
			assert.ErrorContains(t, err, tt.says)
		})
	}
}

func TestIORTAcceptsValuesAtTheirLimits(t *testing.T) {
	for name, edit := range map[string]func(*IORT){
		"longest names":                      func(i *IORT) { i.OEMID, i.OEMTableID = "SIXTHS", "EIGHTHSX" },
		"last SPI":                           func(i *IORT) { i.SMMUs[0].EventQ = 987 },
		"number of a wire that is not there": func(i *IORT) { i.SMMUs[0].NoCmdSync, i.SMMUs[0].CmdSync = true, 1<<32-1 },
		"SMMUs side by side":                 func(i *IORT) { i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0907_0000}) },
		"all requester IDs":                  func(i *IORT) { i.Roots[0].Requesters, i.Roots[1].StreamBase = 1<<16, 1<<16 },
		"addresses of 64 bits":               func(i *IORT) { i.Roots[0].AddressBits = 64 },
		"last StreamIDs":                     func(i *IORT) { i.Roots[0].StreamBase = 0xffff_f000 },
		"last DeviceIDs":                     func(i *IORT) { i.SMMUs[0].DeviceBase = 0xffff_f000 },
		"StreamIDs side by side":             func(i *IORT) { i.Roots[1].SMMU, i.Roots[1].StreamBase = 0, 0x1000 },
		"RMR at the end of memory":           func(i *IORT) { i.RMRs[0].Base, i.RMRs[0].Size = 1<<64-1<<16, 1<<16 },
		"RMR for the last StreamIDs":         func(i *IORT) { i.RMRs[0].First = 0xffff_fff8 },
		"the same StreamIDs behind two SMMUs, without an ITS": func(i *IORT) {
			i.SMMUs, i.ITS = append(i.SMMUs, SMMU{Base: 0x0907_0000}), nil
			i.Roots[1].SMMU, i.Roots[1].StreamBase = 1, 0
		},
		"the same StreamIDs behind two SMMUs": func(i *IORT) {
			i.SMMUs = append(i.SMMUs, SMMU{Base: 0x0907_0000, DeviceBase: 0x1_0000})
			i.Roots[1].SMMU, i.Roots[1].StreamBase = 1, 0
		},
	} {
		i := testIORT()
		edit(i)
		_, err := i.Table()
		assert.NoError(t, err, name)
	}
}

// iasl, the ACPI disassembler, finds in the table everything that the IORT describes.
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
			"Node Count : 00000005",
			"Type : 00", "ItsCount : 00000001",
			"Type : 04", "Base Address : 0000000009050000", "COHACC Override : 1",
			"Event GSIV : 00000028", "PRI GSIV : 00000029", "GERR GSIV : 0000002B", "Sync GSIV : 0000002A",
			"Input base : 00000000", "ID Count : FFFFFFFF", "Output Base : 00000000", "Output Reference : 00000030",
			"Type : 02", "Cache Coherency : 00000001", "ATS Attribute : 00000001", "PCI Segment Number : 00000000",
			"Memory Size Limit : 30", "ID Count : 00000FFF", "Output Reference : 00000048",
			"PCI Segment Number : 00000001", "ID Count : 000000FF", "Output Base : 00008000", "Output Reference : 00000030",
			"Type : 01", "Node Flags : 00000014", `Device Name : "\_SB_.VR00"`, "Output Base : 00005000", "Output Reference : 00000048",
			"Single Mapping : 1",
		}},
		{"with RMR", true, []string{
			"Type : 06", "Base Address of RMR : 0000000008000000", "Length of RMR : 0000000000100000",
			"ID Count : 00000007", "Output Base : 00000008", "Output Reference : 00000048",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i := testIORT()
			i.Components = []Component{{
				Path: `\_SB_.VR00`, StreamIDs: []smmuv3.StreamID{0x5000}, AddressBits: 48, PASIDBits: 10,
			}}
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
			// In the order of the table. Other lines differ between versions of iasl.
			rest := normal(string(source))
			for _, want := range tt.want {
				_, after, ok := strings.Cut(rest, want)
				require.True(t, ok, "%q in the rest of\n%s", want, source)
				rest = after
			}
		})
	}
}

// normal returns a disassembly with single spaces.
func normal(s string) string { return strings.Join(strings.Fields(s), " ") }
