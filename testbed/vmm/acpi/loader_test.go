package acpi

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// load does what firmware does with the files: it places them, and executes the commands.
func load(t *testing.T, files map[string][]byte, at map[string]uint64) {
	t.Helper()
	name := func(b []byte) string { text, _, _ := strings.Cut(string(b[:56]), "\x00"); return text }
	u32 := binary.LittleEndian.Uint32
	allocated := map[string]bool{}
	for c := files["etc/table-loader"]; len(c) > 0; c = c[128:] {
		file := name(c[4:])
		switch u32(c) {
		case 1:
			assert.Zero(t, at[file]%uint64(u32(c[60:])), "alignment")
			allocated[file] = true
		case 2:
			source := name(c[60:])
			require.True(t, allocated[file] && allocated[source])
			require.EqualValues(t, 8, c[120])
			p := files[file][u32(c[116:]):]
			binary.LittleEndian.PutUint64(p, binary.LittleEndian.Uint64(p)+at[source])
		case 3:
			sum := byte(0)
			for _, b := range files[file][u32(c[64:]):][:u32(c[68:])] {
				sum += b
			}
			files[file][u32(c[60:])] = -sum
		default:
			t.Fatalf("command %d", u32(c))
		}
	}
}

func TestLoaderMakesTheTablesOfPlace(t *testing.T) {
	tables := []Table{FADT(), DSDT(Scope("_SB_")), MCFG(0x3f00_0000, 16)}
	files, err := Loader(tables...)
	require.NoError(t, err)
	const rsdp, rest = 0x5000_0000, 0x6000_0000
	load(t, files, map[string]uint64{"etc/acpi/rsdp": rsdp, "etc/acpi/tables": rest})

	u64 := binary.LittleEndian.Uint64
	root := files["etc/acpi/rsdp"]
	assert.Zero(t, total(root))
	assert.Zero(t, total(root[:20]))
	table := func(address uint64) []byte {
		b := files["etc/acpi/tables"][address-rest:]
		b = b[:binary.LittleEndian.Uint32(b[4:])]
		assert.Zero(t, total(b), "checksum of %s", b[:4])
		return b
	}
	xsdt := table(u64(root[24:]))
	require.Len(t, xsdt, 36+2*8)
	fadt := table(u64(xsdt[36:]))
	assert.Equal(t, "FACP", string(fadt[:4]))
	assert.Equal(t, []byte(tables[1]), table(u64(fadt[140:])))
	assert.Equal(t, []byte(tables[2]), table(u64(xsdt[44:])))

	_, err = Loader(FADT())
	assert.ErrorContains(t, err, "no FADT or no DSDT")
}
