// Package arm64image reads Linux kernel images for arm64 as distributions ship them: the plain Image of the kernel's
// Documentation/arch/arm64/booting.rst, the same compressed by gzip, or wrapped as an EFI zboot application.
package arm64image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// Image is a kernel image ready to be put into memory.
type Image struct {
	Data       []byte // what goes to memory, TextOffset bytes above a 2 MiB boundary
	TextOffset uint64 // bytes
	Size       uint64 // bytes of memory that the kernel takes from its start, at least len(Data): it has a tail of zeros
	PageSize   int    // bytes; 0 if the image does not say
}

// Errors that Parse's errors match.
var (
	ErrNotImage    = errors.New("not an arm64 Linux kernel image")
	ErrTruncated   = errors.New("the kernel image is truncated")
	ErrUnsupported = errors.New("the kernel image is of a kind that cannot be booted")
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

// pageSizes by flag bits 2:1.
var pageSizes = [4]int{0, 4 << 10, 16 << 10, 64 << 10}

// maxSize bounds what an image may ask of memory, and what a compressed one may unpack to.
const maxSize = 512 << 20

// Parse takes raw, plain or wrapped, and checks all that can be known before it runs. Image.Data aliases raw if that was
// plain.
func Parse(raw []byte) (*Image, error) {
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
		return nil, fmt.Errorf("%w: its header gives no size, as before Linux 3.17", ErrUnsupported)
	case img.Size > maxSize || img.TextOffset >= twoMiB:
		return nil, fmt.Errorf("%w: its header asks for %#x bytes at offset %#x", ErrUnsupported, img.Size, img.TextOffset)
	case img.Size < uint64(len(data)):
		// A signature or padding follows; it still takes memory once loaded.
		img.Size = uint64(len(data))
	}
	if end := peEnd(data); end > uint64(len(data)) {
		return nil, fmt.Errorf("%w: it has %d of %d bytes", ErrTruncated, len(data), end)
	}
	return img, nil
}

const twoMiB = 2 << 20

// describe says what the data is instead, for the things that users pick by mistake.
func describe(data []byte) string {
	switch {
	case len(data) == 0:
		return "it is empty"
	case len(data) < headerSize:
		return fmt.Sprintf("it has %d bytes only", len(data))
	case bytes.HasPrefix(data, []byte("\x7fELF")):
		return "it is an ELF file (vmlinux?); use Image or vmlinuz"
	case len(data) > 0x206 && string(data[0x202:0x206]) == "HdrS":
		return "it is an x86 kernel"
	case bytes.HasPrefix(data, []byte("!<arch>\n")):
		return "it is an archive or Debian package"
	}
	return `"ARM\x64" is missing from its header`
}
