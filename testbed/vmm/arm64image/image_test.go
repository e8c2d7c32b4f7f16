package arm64image

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// rawImage returns an image (booting.rst) whose last PE section ends at the end of the file.
func rawImage(t *testing.T) []byte {
	t.Helper()
	img := make([]byte, 0x1000)
	copy(img, "MZ")
	le := binary.LittleEndian
	le.PutUint64(img[8:], 0x80000)      // text_offset
	le.PutUint64(img[16:], 0x3000)      // image_size
	le.PutUint64(img[24:], 0b1010)      // little-endian, 4 KiB pages, anywhere
	le.PutUint32(img[56:], 0x644d5241)  // "ARM\x64"
	le.PutUint32(img[60:], 0x40)        // PE header
	copy(img[0x40:], "PE\x00\x00")      //
	le.PutUint16(img[0x44:], 0xaa64)    // machine
	le.PutUint16(img[0x46:], 2)         // sections
	le.PutUint16(img[0x54:], 160)       // size of the optional header
	le.PutUint32(img[0xf8+16:], 0x800)  // .text: size in the file
	le.PutUint32(img[0xf8+20:], 0x200)  // .text: place in the file
	le.PutUint32(img[0x120+16:], 0x600) // .data
	le.PutUint32(img[0x120+20:], 0xa00)
	return img
}

// zboot returns a zboot image of a payload.
func zboot(compression string, payload []byte) []byte {
	img := make([]byte, 0x100)
	copy(img, "MZ\x00\x00zimg")
	binary.LittleEndian.PutUint32(img[8:], 0x100)
	binary.LittleEndian.PutUint32(img[12:], uint32(len(payload)))
	copy(img[24:], compression)
	return append(append(img, payload...), "\x00\x10\x00\x00PE tail"...)
}

func gzipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(data)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return out.Bytes()
}

func zstded(t *testing.T, data []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	require.NoError(t, err)
	return w.EncodeAll(data, nil)
}

func TestParseAcceptsPlainGzipAndZbootImages(t *testing.T) {
	raw := rawImage(t)
	for _, tt := range []struct {
		name string
		data []byte
	}{
		{"plain", raw},
		{"gzip", gzipped(t, raw)},
		{"gzip followed by padding", append(gzipped(t, raw), 0, 0, 0, 0)},
		{"zboot gzip", zboot("gzip", gzipped(t, raw))},
		{"zboot zstd", zboot("zstd", zstded(t, raw))},
		{"zboot zstd22, the name in older kernels", zboot("zstd22", zstded(t, raw))},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img, err := Parse(tt.data)
			require.NoError(t, err)
			assert.Equal(t, &Image{Data: raw, TextOffset: 0x80000, Size: 0x3000, PageSize: 4096}, img)
		})
	}
}

func TestParseReadsSizeAndPageSize(t *testing.T) {
	le := binary.LittleEndian
	for _, tt := range []struct {
		name string
		edit func(img []byte)
		want Image
	}{
		{"page size unspecified", func(img []byte) { le.PutUint64(img[24:], 0) }, Image{Size: 0x3000}},
		{"16 KiB pages", func(img []byte) { le.PutUint64(img[24:], 2<<1) }, Image{Size: 0x3000, PageSize: 16384}},
		{"64 KiB pages", func(img []byte) { le.PutUint64(img[24:], 3<<1) }, Image{Size: 0x3000, PageSize: 65536}},
		{"no EFI stub", func(img []byte) { clear(img[:4]); clear(img[60:0x200]) }, Image{Size: 0x3000, PageSize: 4096}},
		{"size smaller than the file", func(img []byte) { le.PutUint64(img[16:], 0x800) }, Image{Size: 0x1000, PageSize: 4096}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := rawImage(t)
			tt.edit(raw)
			img, err := Parse(raw)
			require.NoError(t, err)
			assert.Equal(t, tt.want.Size, img.Size)
			assert.Equal(t, tt.want.PageSize, img.PageSize)
		})
	}
}

func TestParseRefusesFilesThatCannotBoot(t *testing.T) {
	le := binary.LittleEndian
	edited := func(edit func(img []byte)) []byte {
		raw := rawImage(t)
		edit(raw)
		return raw
	}
	packed := gzipped(t, rawImage(t))
	damaged := bytes.Clone(packed)
	damaged[len(damaged)-8] ^= 0xff // its CRC
	x86 := make([]byte, 0x400)
	copy(x86[0x202:], "HdrS")

	for _, tt := range []struct {
		name string
		data []byte
		is   error
		says string
	}{
		{"nothing", nil, ErrNotImage, "empty"},
		{"a few bytes", []byte("MZ"), ErrNotImage, "2 bytes"},
		{"no magic", make([]byte, 4096), ErrNotImage, "header"},
		{"ELF", append([]byte("\x7fELF"), make([]byte, 100)...), ErrNotImage, "vmlinux"},
		{"x86 bzImage", x86, ErrNotImage, "x86"},
		{"package", append([]byte("!<arch>\n"), make([]byte, 100)...), ErrNotImage, "package"},
		{"big-endian", edited(func(img []byte) { img[24] |= 1 }), ErrUnsupported, "big-endian"},
		{"no size", edited(func(img []byte) { le.PutUint64(img[16:], 0) }), ErrUnsupported, "no size"},
		{"huge size", edited(func(img []byte) { le.PutUint64(img[16:], 1<<63) }), ErrUnsupported, "asks for"},
		{"huge offset", edited(func(img []byte) { le.PutUint64(img[8:], ^uint64(0)) }), ErrUnsupported, "asks for"},
		{"last byte cut", rawImage(t)[:0xfff], ErrTruncated, "4095 of 4096"},
		{"cut within the section table", rawImage(t)[:0x130], ErrTruncated, ""},
		{"cut before the PE header", rawImage(t)[:0x42], ErrTruncated, ""},
		{"PE header past the end", edited(func(img []byte) { le.PutUint32(img[60:], ^uint32(0)) }), ErrTruncated, ""},
		{"section past the end", edited(func(img []byte) { le.PutUint32(img[0xf8+20:], ^uint32(0)) }), ErrTruncated, ""},
		{"gzip cut", packed[:len(packed)/2], ErrTruncated, "gzip"},
		{"gzip header only", packed[:4], ErrTruncated, "gzip"},
		{"gzip damaged", damaged, ErrNotImage, "checksum"},
		{"zboot cut", zboot("gzip", packed)[:0x110], ErrTruncated, ""},
		{"zboot payload cut inside", zboot("zstd", zstded(t, rawImage(t))[:40]), ErrTruncated, "zstd"},
		{"zboot of unknown compression", zboot("xzkern", packed), ErrUnsupported, "xzkern"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse(tt.data)
			require.ErrorIs(t, err, tt.is)
			assert.ErrorContains(t, err, tt.says)
		})
	}
}

// Parse never panics, and Size is never less than the data.
func FuzzParse(f *testing.F) {
	f.Add([]byte("MZ\x00\x00zimg"))
	f.Add(append(make([]byte, offMagic), magic...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if img, err := Parse(data); err == nil {
			assert.LessOrEqual(t, uint64(len(img.Data)), img.Size)
		}
	})
}
