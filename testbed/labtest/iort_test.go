package labtest

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table is from QEMU 10.0's virt machine. It has an ITS group, an SMMUv3, and a root complex at
// 0xa0.
func TestPatchIORTChangesFlagRevisionAndChecksum(t *testing.T) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(t, err)
	for _, tt := range []struct {
		name   string
		change IORTChange
		want   map[int][2]byte
	}{
		{"CANWBS", CanWBS, map[int][2]byte{
			0xb7: {0x03, 0x07}, // memory access flags: CPM, DACS, and now CANWBS
			0x18: {0x01, 0x02}, // OEM revision
			0x09: {0x57, 0x52}, // checksum
		}},
		{"incoherent", Incoherent, map[int][2]byte{
			0x60: {0x01, 0x00}, // flags of the SMMUv3
			0x18: {0x01, 0x02}, // OEM revision; the checksum stays
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			patched, err := PatchIORT(table, tt.change)
			require.NoError(t, err)
			require.Len(t, patched, len(table))
			changed := map[int][2]byte{}
			sum := byte(0)
			for i := range table {
				if table[i] != patched[i] {
					changed[i] = [2]byte{table[i], patched[i]}
				}
				sum += patched[i]
			}
			assert.Equal(t, tt.want, changed)
			assert.Zero(t, sum)
		})
	}
}

func TestPatchIORTRejectsMalformedTables(t *testing.T) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(t, err)
	change := func(at int, b byte) []byte {
		p := append([]byte(nil), table...)
		p[at] = b
		return p
	}
	for name, p := range map[string][]byte{
		"empty":                 nil,
		"another table":         change(0, 'X'),
		"truncated":             table[:200],
		"a node without length": change(0x31, 0),
		"no root complex":       change(0xa0, 1),
		"nodes beyond the end":  change(0x29, 1),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := PatchIORT(p, CanWBS)
			assert.Error(t, err)
		})
	}
}

func TestIORTArchivePrecedesAnotherArchive(t *testing.T) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(t, err)
	archive, err := iortArchive(table, CanWBS)
	require.NoError(t, err)
	assert.Equal(t, "070701", string(archive[:6]), "newc, not compressed")
	assert.Contains(t, string(archive), "kernel/firmware/acpi/iort.aml\x00")
	assert.Zero(t, len(archive)%4)
}

func FuzzPatchIORT(f *testing.F) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(f, err)
	f.Add(table)
	f.Fuzz(func(t *testing.T, p []byte) {
		if patched, err := PatchIORT(p, CanWBS); err == nil {
			assert.Len(t, patched, len(p))
		}
	})
}
