package kernel

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/u-root/u-root/pkg/cpio"
	"github.com/ulikunitz/xz"
)

// module returns a minimal module: an ELF header, .modinfo, the section names, three section
// headers.
func module(machine uint16, depends string) []byte {
	info := "license=GPL\x00depends=" + depends + "\x00name=x\x00vermagic=6.1.0-9-arm64 SMP mod_unload aarch64\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	const header, sectionHeader = 64, 64
	b := make([]byte, header, 512)
	b = append(append(b, info...), names...)
	sections := len(b)
	le := binary.LittleEndian
	copy(b, "\x7fELF\x02\x01\x01") // 64 bits, little-endian
	le.PutUint16(b[16:], 1)        // ET_REL
	le.PutUint16(b[18:], machine)  // e_machine
	le.PutUint32(b[20:], 1)        // e_version
	le.PutUint64(b[40:], uint64(sections))
	le.PutUint16(b[52:], header)
	le.PutUint16(b[58:], sectionHeader)
	le.PutUint16(b[60:], 3) // sections
	le.PutUint16(b[62:], 2) // the last section has the names
	section := func(name, kind uint32, offset, size int) {
		s := make([]byte, sectionHeader)
		le.PutUint32(s[0:], name)
		le.PutUint32(s[4:], kind)
		le.PutUint64(s[24:], uint64(offset))
		le.PutUint64(s[32:], uint64(size))
		b = append(b, s...)
	}
	section(0, 0, 0, 0)
	section(1, 1, header, len(info))             // SHT_PROGBITS
	section(10, 3, header+len(info), len(names)) // SHT_STRTAB
	return b
}

const aarch64, x86 = 183, 62

func compressed(t *testing.T, suffix string, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch suffix {
	case "":
		return data
	case ".gz":
		w = gzip.NewWriter(&out)
	case ".xz":
		w, err = xz.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out)
	}
	require.NoError(t, err)
	_, err = w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

// deb returns a Debian package, deb(5), with data.tar compressed as its suffix says.
func deb(t *testing.T, suffix string, files map[string][]byte) []byte {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for name, content := range files {
		require.NoError(t, w.WriteHeader(&tar.Header{Name: "./" + name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}))
		_, err := w.Write(content)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	out := bytes.NewBufferString("!<arch>\n")
	member := func(name string, content []byte) {
		fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, 0, 0, 0, "100644", len(content))
		out.Write(content)
		if len(content)%2 == 1 {
			out.WriteByte('\n')
		}
	}
	member("debian-binary", []byte("2.0\n"))
	member("control.tar.gz", []byte("odd"))
	member("data.tar"+suffix, compressed(t, suffix, data.Bytes()))
	return out.Bytes()
}

// tree writes files below a new directory.
func tree(t *testing.T, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, content, 0o644))
	}
	return dir
}

func TestImageInEverySource(t *testing.T) {
	dir := tree(t, map[string][]byte{
		"plain":                         []byte("kernel"),
		"root/boot/vmlinuz-6.1.0-arm64": []byte("kernel"),
		"root/boot/config-6.1.0-arm64":  []byte("config"),
		"new.deb":                       deb(t, ".xz", map[string][]byte{"usr/lib/modules/7.3/vmlinuz.unsigned": []byte("kernel")}),
		"debs/image.deb":                deb(t, ".zst", map[string][]byte{"boot/vmlinuz-6.1": []byte("kernel")}),
		"two/a/vmlinuz-6.1":             []byte("a"),
		"two/b/vmlinuz-6.6":             []byte("b"),
		"none/README":                   []byte("nothing"),
		"none.deb":                      deb(t, "", map[string][]byte{"usr/share/doc/x": []byte("nothing")}),
		"damaged.deb":                   deb(t, ".xz", map[string][]byte{"boot/vmlinuz-6.1": []byte("kernel")})[:200],
		"false.deb":                     []byte("no package at all"),
		"lzma.deb":                      bytes.Replace(deb(t, ".gz", nil), []byte("data.tar.gz  "), []byte("data.tar.lzma"), 1),
	})
	require.NoError(t, os.Symlink(filepath.Join(dir, "root"), filepath.Join(dir, "link")))
	for _, tt := range []struct{ path, fails string }{
		{"plain", ""},
		{"root", ""},
		{"link", ""},
		{"new.deb", ""},
		{"debs", ""},
		{"two", "more than one kernel"},
		{"none", "has no kernel"},
		{"none.deb", "has no kernel"},
		{"absent", "no such file"},
		{"damaged.deb", "damaged package"},
		{"false.deb", "not a Debian package"},
		{"lzma.deb", "unknown compression"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			_, image, err := Image(filepath.Join(dir, tt.path))
			if tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, "kernel", string(image))
		})
	}
}

func TestModulesInDirectoriesAndPackagesOfEveryCompression(t *testing.T) {
	ring, mmio := module(aarch64, ""), module(aarch64, "virtio-ring")
	for _, suffix := range []string{"", ".gz", ".xz", ".zst"} {
		files := map[string][]byte{
			"lib/modules/6.1/kernel/drivers/virtio/virtio_mmio.ko" + suffix: compressed(t, suffix, mmio),
			"lib/modules/6.1/kernel/drivers/virtio/virtio_ring.ko" + suffix: compressed(t, suffix, ring),
			"lib/modules/6.1/kernel/fs/other.ko" + suffix:                   []byte("never read"),
		}
		want := []Module{{"virtio_ring", ring}, {"virtio_mmio", mmio}}
		t.Run("directory"+suffix, func(t *testing.T) {
			got, err := Modules(tree(t, files), "virtio_mmio")
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
		t.Run("package"+suffix, func(t *testing.T) {
			got, err := Modules(tree(t, map[string][]byte{"a.deb": deb(t, suffix, files)})+"/a.deb", "virtio_mmio")
			require.NoError(t, err)
			assert.Equal(t, want, got)
		})
	}
}

func TestModulesThatAreBuiltInMissingOrDamaged(t *testing.T) {
	builtin := []byte("kernel/drivers/virtio/virtio.ko\nkernel/drivers/virtio/virtio-ring.ko\n")
	for _, tt := range []struct {
		name  string
		files map[string][]byte
		names []string
		fails string
	}{
		{"built in, named with a hyphen", map[string][]byte{"modules.builtin": builtin, "x.ko": module(aarch64, "")}, []string{"x"}, ""},
		{"no list of what is built in", map[string][]byte{"x.ko": module(aarch64, "")}, []string{"x"}, ""},
		{"neither module nor built in", map[string][]byte{"modules.builtin": builtin}, nil, "no driver x"},
		{"a dependency is missing", map[string][]byte{"x.ko": module(aarch64, "gone")}, nil, "has no module gone, which x needs"},
		{"dependencies in a circle", map[string][]byte{"x.ko": module(aarch64, "y"), "y.ko": module(aarch64, "x")}, []string{"y", "x"}, ""},
		{"two kernels", map[string][]byte{"6.1/x.ko": module(aarch64, ""), "6.6/x.ko.xz": nil}, nil, "more than one kernel"},
		{"a module for another machine", map[string][]byte{"x.ko": module(x86, "")}, nil, "not for arm64"},
		{"no object file", map[string][]byte{"x.ko": []byte("text")}, nil, "not a kernel module"},
		{"damaged compression", map[string][]byte{"x.ko.xz": []byte("text")}, nil, "x.ko.xz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Modules(tree(t, tt.files), "virtio_ring", "x")
			if tt.name == "neither module nor built in" || tt.fails != "" {
				require.ErrorContains(t, err, tt.fails)
				return
			}
			require.NoError(t, err)
			var names []string
			for _, m := range got {
				names = append(names, m.Name)
			}
			assert.Equal(t, tt.names, names)
		})
	}
}

func TestCheckComparesAKernelWithItsModulesAndDrivers(t *testing.T) {
	blk := []Module{{"virtio_blk", module(aarch64, "")}}
	for _, tt := range []struct {
		name, image string
		modules     []Module
		fails       string
	}{
		{"modules of the kernel", "Linux version 6.1.0-9-arm64 (x)", blk, ""},
		{"modules of another kernel", "Linux version 6.1.0-8-arm64 (x)", blk, "the module virtio_blk is for Linux 6.1.0-9-arm64, but the kernel is Linux 6.1.0-8-arm64"},
		{"modules of another flavour", "Linux version 6.1.0-9-cloud-arm64 (x)", blk, "is for Linux 6.1.0-9-arm64"},
		{"a format string before the banner", "Linux version %s Linux version 6.1.0-8-arm64 (x)", blk, "the kernel is Linux 6.1.0-8-arm64"},
		{"a kernel without a banner", "", blk, ""},
		{"a banner at the end", "Linux version ", blk, ""},
		{"a module that is not an ELF file", "Linux version 6.1.0 (x)", []Module{{"virtio_blk", []byte("text")}}, ""},
		{"a driver that is built in", "virtio_blk", nil, ""},
		{"a driver that is missing", "virtio-mmio", nil, "the kernel has no virtio_blk, neither built in nor as a module"},
		{"modules without the driver", "", []Module{{"virtio", module(aarch64, "")}}, "the kernel has no virtio_blk"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Check([]byte(tt.image), tt.modules, "virtio_blk", "virtio")
			if tt.fails == "" {
				assert.NoError(t, err)
			} else {
				assert.ErrorContains(t, err, tt.fails)
			}
		})
	}
	assert.NoError(t, Check([]byte("kvm-arm.mode"), nil, KVM))
	assert.NoError(t, Check([]byte("HYP mode not available"), nil, KVM), "as in kernels up to 5.10")
	missing := new(MissingError)
	require.ErrorAs(t, Check(nil, nil, KVM), &missing)
	assert.Equal(t, KVM, missing.Driver)
}

// The format is newc, Documentation/driver-api/early-userspace/buffer-format.rst.
func TestInitramfsHasTheFilesAndTheirDirectories(t *testing.T) {
	var out bytes.Buffer
	files := append([]File{{"init", 0o755, []byte("program")}}, ModuleFiles([]Module{{"virtio", []byte("a")}, {"virtio_blk", []byte("b")}})...)
	require.NoError(t, WriteInitramfs(&out, files))
	assert.Equal(t, "070701", out.String()[:6])

	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(out.Bytes())))
	require.NoError(t, err)
	modes := map[string]uint64{}
	for _, r := range records {
		modes[r.Name] = r.Mode
	}
	assert.Equal(t, map[string]uint64{
		"dev": 0o40755, "proc": 0o40755, "sys": 0o40755, "tmp": 0o41777, "modules": 0o40755, "dev/console": 0o20600,
		"init": 0o100755, "modules/00-virtio.ko": 0o100644, "modules/01-virtio_blk.ko": 0o100644,
	}, modes)
}

// The kernel unpacks a file only if the archive has its directory before it.
func TestInitramfsHasEachDirectoryOnceAndFirst(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, WriteInitramfs(&out, []File{{"a/b/x", 0o644, nil}, {"a/b/y", 0o644, nil}, {"a/z", 0o644, nil}}))
	records, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(out.Bytes())))
	require.NoError(t, err)
	var names []string
	for _, r := range records {
		names = append(names, r.Name)
	}
	assert.Equal(t, []string{"dev", "proc", "sys", "tmp", "dev/console", "a", "a/b", "a/b/x", "a/b/y", "a/z"}, names)
}

func FuzzDependencies(f *testing.F) {
	f.Add(module(aarch64, "a,b"))
	f.Add(module(aarch64, "")[:100])
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = dependencies(data) })
}
