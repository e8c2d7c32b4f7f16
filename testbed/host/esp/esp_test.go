package esp

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var le = binary.LittleEndian

// files returns the files of an image by path, as a reader of GPT and FAT16 finds them.
func files(t *testing.T, disk []byte) map[string][]byte {
	t.Helper()
	for _, at := range []int{1, len(disk)/512 - 1} {
		h := bytes.Clone(disk[at*512:][:92])
		require.Equal(t, "EFI PART", string(h[:8]))
		crc := le.Uint32(h[16:])
		le.PutUint32(h[16:], 0)
		assert.Equal(t, crc32.ChecksumIEEE(h), crc)
		assert.EqualValues(t, at, le.Uint64(h[24:]))
		table := disk[le.Uint64(h[72:])*512:][:128*128]
		assert.Equal(t, crc32.ChecksumIEEE(table), le.Uint32(h[88:]))
		assert.EqualValues(t, 2048, le.Uint64(table[32:]))
	}
	v := disk[2048*512:]
	require.Equal(t, []byte{0x55, 0xaa}, v[510:512])
	tableSize := int(le.Uint16(v[22:])) * 512
	table := v[int(le.Uint16(v[14:]))*512:]
	rootAt := int(le.Uint16(v[14:]))*512 + 2*tableSize
	data := v[rootAt+512*32:]
	assert.Equal(t, table[:tableSize], table[tableSize:2*tableSize], "both copies")
	read := func(at uint16) (all []byte) {
		for ; at >= 2 && at < 0xfff8; at = le.Uint16(table[2*int(at):]) {
			all = append(all, data[(int(at)-2)*4096:][:4096]...)
		}
		return all
	}
	found := map[string][]byte{}
	var walk func(dir []byte, path string)
	walk = func(dir []byte, path string) {
		var long []uint16
		for ; len(dir) > 0 && dir[0] != 0; dir = dir[32:] {
			if dir[11] == 0xf {
				var part []uint16
				for _, at := range []int{1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30} {
					part = append(part, le.Uint16(dir[at:]))
				}
				long = append(part, long...)
				continue
			}
			name := strings.TrimRight(string(dir[:8]), " ")
			if ext := strings.TrimRight(string(dir[8:11]), " "); ext != "" {
				name += "." + ext
			}
			if long != nil {
				name, _, _ = strings.Cut(string(utf16.Decode(long)), "\x00")
			}
			long = nil
			contents := read(le.Uint16(dir[26:]))
			switch {
			case name == "." || name == "..":
			case dir[11]&0x10 != 0:
				walk(contents, path+name+"/")
			default:
				found[path+name] = contents[:le.Uint32(dir[28:])]
			}
		}
	}
	walk(v[rootAt:][:512*32], "")
	return found
}

func example() map[string][]byte {
	return map[string][]byte{
		"EFI/BOOT/BOOTAA64.EFI":     bytes.Repeat([]byte("boot"), 5000),
		"loader/loader.conf":        []byte("timeout 0\n"),
		"loader/entries/linux.conf": []byte("title Linux\n"),
		"vmlinuz":                   bytes.Repeat([]byte{7}, 3<<20),
		"initrd":                    bytes.Repeat([]byte{8}, 4096),
		"empty":                     nil,
		"thirteen.char":             []byte("a name that fills its entry"),
	}
}

func image(t *testing.T) []byte {
	t.Helper()
	var list []File
	for path, data := range example() {
		list = append(list, File{path, data})
	}
	disk, err := Disk(list...)
	require.NoError(t, err)
	return disk
}

func TestDiskHasItsFiles(t *testing.T) {
	got := files(t, image(t))
	require.Len(t, got, len(example()))
	for path, want := range example() {
		assert.True(t, bytes.Equal(want, got[path]), path)
	}
}

// fsck.fat accepts the file system.
func TestFileSystemIsSound(t *testing.T) {
	fsck, err := exec.LookPath("fsck.fat")
	if err != nil {
		t.Skip("NOT RUN: there is no fsck.fat: install dosfstools")
	}
	disk := image(t)
	file := filepath.Join(t.TempDir(), "esp")
	volume := disk[2048*512 : len(disk)-33*512]
	require.NoError(t, os.WriteFile(file, volume, 0o600))
	out, err := exec.CommandContext(t.Context(), fsck, "-n", file).CombinedOutput()
	assert.NoError(t, err, "%s", out)
}

func TestDiskRejects(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []File
	}{
		{"a path without a name", []File{{"EFI//a", nil}}},
		{"a name twice, in other letters", []File{{"a", nil}, {"A", nil}}},
		{"a file in a file", []File{{"a", nil}, {"a/b", nil}}},
		{"more than fits", []File{{"a", make([]byte, 65525*4096)}}},
	} {
		_, err := Disk(tt.files...)
		assert.ErrorContains(t, err, "esp: new disk: ", tt.name)
	}
}
