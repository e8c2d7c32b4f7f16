package bundle

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// object returns an ELF file with nothing but a dynamic section.
func object(machine uint16, needs ...string) []byte {
	const header, sectionHeader, dynNeeded = 64, 64, 1
	le := binary.LittleEndian
	b := make([]byte, header)
	strings, dynamic := []byte{0}, []byte(nil)
	for _, name := range needs {
		dynamic = le.AppendUint64(le.AppendUint64(dynamic, dynNeeded), uint64(len(strings)))
		strings = append(append(strings, name...), 0)
	}
	dynamic = append(dynamic, make([]byte, 16)...) // DT_NULL
	b = append(append(b, strings...), dynamic...)
	sections := len(b)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 3) // ET_DYN
	le.PutUint16(b[18:], machine)
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[40:], uint64(sections))
	le.PutUint16(b[52:], header)
	le.PutUint16(b[58:], sectionHeader)
	le.PutUint16(b[60:], 3)
	le.PutUint16(b[62:], 1) // section names: any strings will do
	section := func(kind, link uint32, offset, size int) {
		s := make([]byte, sectionHeader)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[24:], uint64(offset))
		le.PutUint64(s[32:], uint64(size))
		le.PutUint32(s[40:], link)
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(3, 0, header, len(strings))              // SHT_STRTAB
	section(6, 1, header+len(strings), len(dynamic)) // SHT_DYNAMIC
	return b
}

const aarch64, x86 = 183, 62

func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	root := t.TempDir()
	for name, data := range files {
		path := filepath.Join(root, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, data, 0o644))
	}
	return root
}

func TestGatherReturnsTheNeededFilesAndNoOthers(t *testing.T) {
	root := tree(t, map[string][]byte{
		"usr/bin/program":                        object(aarch64, "libb.so.1", "libc.so.6"),
		"usr/bin/other":                          object(aarch64),
		"usr/lib/aarch64-linux-gnu/libb.so.1.2":  object(aarch64, "liba.so.1", "libc.so.6"),
		"usr/lib/aarch64-linux-gnu/liba.so.1":    object(aarch64, "libb.so.1"), // a cycle
		"usr/lib/aarch64-linux-gnu/libother.so":  object(aarch64),
		"lib/aarch64-linux-gnu/libc.so.6":        object(aarch64, linker),
		"lib/aarch64-linux-gnu/ld-linux-real.so": object(aarch64),
	})
	require.NoError(t, os.Symlink("libb.so.1.2", filepath.Join(root, "usr/lib/aarch64-linux-gnu/libb.so.1")))
	require.NoError(t, os.Symlink("aarch64-linux-gnu/ld-linux-real.so", filepath.Join(root, "lib", linker)))
	files, err := Gather(root, "usr/bin/program")
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
		assert.Equal(t, uint64(0o755), f.Mode)
		assert.NotEmpty(t, f.Data)
	}
	assert.Equal(t, []string{
		"usr/bin/program", "usr/lib/aarch64-linux-gnu/libb.so.1", "lib/aarch64-linux-gnu/libc.so.6",
		"lib/ld-linux-aarch64.so.1", "usr/lib/aarch64-linux-gnu/liba.so.1",
	}, names)
	command := Command(root, "usr/bin/program")
	assert.Equal(t, filepath.Join(root, "lib", linker), command[0])
	assert.Contains(t, command[2], filepath.Join(root, "usr/lib/aarch64-linux-gnu"))
	assert.Equal(t, filepath.Join(root, "usr/bin/program"), command[3])
}

func TestCommandFindsTheLinkerInUsrLib(t *testing.T) {
	root := tree(t, map[string][]byte{"usr/lib/" + linker: object(aarch64)})
	assert.Equal(t, filepath.Join(root, "usr/lib", linker), Command(root, "program")[0])
}

func TestGatherNamesTheMissingOrForeignFile(t *testing.T) {
	root := tree(t, map[string][]byte{
		"needy":           object(aarch64, "libz.so.1"),
		"foreign":         object(x86),
		"text":            []byte("#!/bin/sh"),
		"usr/lib/ld.so":   object(aarch64),
		"lib/" + linker:   object(aarch64),
		"usr/lib/liba.so": object(x86),
		"mixed":           object(aarch64, "liba.so"),
	})
	require.NoError(t, os.Symlink("/etc/hostname", filepath.Join(root, "astray")))
	for name, want := range map[string]string{
		"needy":   "has no library libz.so.1",
		"foreign": "for EM_X86_64, not for arm64",
		"mixed":   "usr/lib/liba.so is for EM_X86_64",
		"text":    "text: ",
		"absent":  "absent",
		"astray":  "astray",
	} {
		_, err := Gather(root, name)
		assert.ErrorContains(t, err, want, name)
	}
	_, err := Gather(filepath.Join(root, "nonexistent"), "x")
	assert.Error(t, err)
}
