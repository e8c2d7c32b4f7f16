package arm64image

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// The header of an EFI zboot image (drivers/firmware/efi/libstub/zboot-header.S): a DOS header.
// Fields that EFI does not use hold the offset, size and compression of the payload.
const (
	zbootMagic     = "zimg"
	offZbootMagic  = 4
	offPayload     = 8
	offPayloadSize = 12
	offCompression = 24
	compressionLen = 32
)

// unwrap uncompresses an image. Kernel builds compress once.
func unwrap(raw []byte) ([]byte, error) {
	switch {
	case bytes.HasPrefix(raw, []byte("\x1f\x8b")):
		return gunzip(raw)
	case len(raw) >= headerSize && string(raw[:2]) == "MZ" && string(raw[offZbootMagic:offZbootMagic+4]) == zbootMagic:
		return unwrapZboot(raw)
	}
	return raw, nil
}

func unwrapZboot(raw []byte) ([]byte, error) {
	at := uint64(binary.LittleEndian.Uint32(raw[offPayload:]))
	size := uint64(binary.LittleEndian.Uint32(raw[offPayloadSize:]))
	payload, ok := slice(raw, at, size)
	if !ok {
		return nil, fmt.Errorf("%w: it has %d of %d bytes", ErrTruncated, len(raw), at+size)
	}
	name, _, _ := bytes.Cut(raw[offCompression:offCompression+compressionLen], []byte{0})
	switch string(name) {
	case "gzip":
		return gunzip(payload)
	case "zstd", "zstd22":
		return unzstd(payload)
	}
	return nil, fmt.Errorf("%w: EFI zboot compressed by %q", ErrUnsupported, name)
}

func gunzip(data []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, unpackError("gzip", err)
	}
	// Padding or a signature may follow, but no second member.
	r.Multistream(false)
	return readAll("gzip", r)
}

func unzstd(data []byte) ([]byte, error) {
	// With one goroutine, none is left after an error.
	r, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxSize))
	if err != nil {
		return nil, unpackError("zstd", err)
	}
	defer r.Close()
	return readAll("zstd", r)
}

func readAll(format string, r io.Reader) ([]byte, error) {
	plain, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, unpackError(format, err)
	}
	if len(plain) > maxSize {
		return nil, fmt.Errorf("%w: its uncompressed size is more than %d MiB", ErrUnsupported, maxSize>>20)
	}
	return plain, nil
}

func unpackError(format string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: its %s data is incomplete", ErrTruncated, format)
	}
	return fmt.Errorf("%w: uncompress %s data: %w", ErrNotImage, format, err)
}
