// Package arm64image reads arm64 Linux kernel images as distributions ship them: a plain Image
// (Documentation/arch/arm64/booting.rst of Linux), an Image compressed by gzip, or an EFI zboot
// application.
package arm64image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Image is a kernel image that can be loaded.
type Image struct {
	Data       []byte // to load at TextOffset bytes above a 2 MiB boundary
	TextOffset uint64 // in bytes
	// Size is the number of bytes of memory that the kernel needs from its start: len(Data) and a
	// tail of zeros.
	Size     uint64
	PageSize int // in bytes; 0 if the image does not specify it
}

// Errors that the errors of Parse match.
var (
	ErrNotImage    = errors.New("not an arm64 Linux kernel image")
	ErrTruncated   = errors.New("the kernel image is truncated")
	ErrUnsupported = errors.New("the kernel image has an unsupported format")
)

// The image header, 64 bytes, all of it little-endian (booting.rst, section 4).
const (
	offTextOffset = 8
	offImageSize  = 16
	offFlags      = 24
	offMagic      = 56
	headerSize    = 64

	magic = "ARM\x64"

	flagBigEndian     = 1 << 0
	flagPageSizeShift = 1
)

// pageSizes has the page sizes by bits 2:1 of the flags.
var pageSizes = [4]int{0, 4 << 10, 16 << 10, 64 << 10}

// maxSize is the greatest Image.Size, and the greatest size of an uncompressed image.
const maxSize = 512 << 20

// Parse uncompresses and checks a kernel image. Image.Data aliases raw if the image is not
// compressed.
func Parse(raw []byte) (*Image, error) {
	img, err := parse(raw)
	if err != nil {
		return nil, fmt.Errorf("arm64image: parse kernel image: %w", err)
	}
	return img, nil
}

func parse(raw []byte) (*Image, error) {
	data, err := unwrap(raw)
	if err != nil {
		return nil, err
	}
	if len(data) < headerSize || string(data[offMagic:offMagic+4]) != magic {
		return nil, fmt.Errorf("%w: %s", ErrNotImage, describe(data))
	}
	img := &Image{
		Data:       data,
		TextOffset: binary.LittleEndian.Uint64(data[offTextOffset:]),
		Size:       binary.LittleEndian.Uint64(data[offImageSize:]),
	}
	flags := binary.LittleEndian.Uint64(data[offFlags:])
	img.PageSize = pageSizes[flags>>flagPageSizeShift&3]
	switch {
	case flags&flagBigEndian != 0:
		return nil, fmt.Errorf("%w: it is big-endian", ErrUnsupported)
	case img.Size == 0:
		return nil, fmt.Errorf("%w: its header has no size (Linux 3.17 and later write it)", ErrUnsupported)
	case img.Size > maxSize || img.TextOffset >= twoMiB:
		return nil, fmt.Errorf(
			"%w: its header asks for %#x bytes at offset %#x",
			ErrUnsupported,
			img.Size,
			img.TextOffset,
		)
	case img.Size < uint64(len(data)):
		// A signature or padding follows, which is loaded, too.
		img.Size = uint64(len(data))
	}
	if end := peEnd(data); end > uint64(len(data)) {
		return nil, fmt.Errorf("%w: it has %d of %d bytes", ErrTruncated, len(data), end)
	}
	return img, nil
}

const twoMiB = 2 << 20

// describe names the kind of file, for files that users pick by mistake.
func describe(data []byte) string {
	switch {
	case len(data) == 0:
		return "it is empty"
	case len(data) < headerSize:
		return fmt.Sprintf("it has only %d bytes", len(data))
	case bytes.HasPrefix(data, []byte("\x7fELF")):
		return "it is an ELF file such as vmlinux (use Image or vmlinuz)"
	case len(data) > 0x206 && string(data[0x202:0x206]) == "HdrS":
		return "it is an x86 kernel"
	case bytes.HasPrefix(data, []byte("!<arch>\n")):
		return "it is an archive or Debian package"
	}
	return `its header lacks "ARM\x64"`
}
