package qemutest

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Program writes a file that has of a static linux/arm64 Go program what a runner checks before a boot: the ELF header
// and the build information. It returns the file's path.
func Program(t *testing.T, path string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "program")
	require.NoError(t, os.WriteFile(name, ELF(elf.EM_AARCH64, path), 0o700))
	return name
}

// ELF returns a minimal ELF executable for a machine. It contains the build information of a Go program if path is not
// empty.
func ELF(machine elf.Machine, path string) []byte {
	const headers = 64 + 56 // the file header and one program header
	const vaddr = 0x10000
	var data []byte
	if path != "" {
		data = buildInfo(path)
	}
	var b bytes.Buffer
	for _, part := range []any{
		elf.Header64{
			Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
			Type:  uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
			Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Shentsize: 64,
		},
		elf.Prog64{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Off: headers, Vaddr: vaddr,
			Filesz: uint64(len(data)), Memsz: uint64(len(data)),
		},
	} {
		_ = binary.Write(&b, binary.LittleEndian, part) // a Buffer's Write does not fail
	}
	return append(b.Bytes(), data...)
}

// buildInfo returns what the linker embeds, in the form that debug/buildinfo documents for Go 1.18 and later.
func buildInfo(path string) []byte {
	const inlineStrings = 1 << 1
	b := append([]byte("\xff Go buildinf:"), 8, inlineStrings)
	b = append(b, make([]byte, 32-len(b))...)
	mark := strings.Repeat("m", 16)
	for _, s := range []string{"go1.26", mark + "path\t" + path + "\nbuild\tGOOS=linux\n" + mark} {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	return append(b, make([]byte, 64)...)
}
