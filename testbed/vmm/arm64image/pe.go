package arm64image

import "encoding/binary"

// Offsets in a PE file: of the DOS header's pointer, in the COFF header after the signature, and in
// a section header.
const (
	offPEPointer = 0x3c

	offSectionCount = 6  // from the signature
	offOptionalSize = 20 // from the signature
	coffSize        = 24 // signature and COFF header

	sectionSize   = 40
	offRawSize    = 16
	offRawPointer = 20
)

// peEnd returns the end of the last PE section of an image with an EFI stub, or 0 for an image
// without. It is the size of a complete file. The size in the image's own header includes the tail
// of zeros, which the file does not have.
func peEnd(data []byte) uint64 {
	at := uint64(binary.LittleEndian.Uint32(data[offPEPointer:]))
	if string(data[:2]) != "MZ" || at == 0 {
		return 0
	}
	header, ok := slice(data, at, coffSize)
	if !ok || string(header[:4]) != "PE\x00\x00" {
		return at + coffSize
	}
	sections := uint64(binary.LittleEndian.Uint16(header[offSectionCount:]))
	table := at + coffSize + uint64(binary.LittleEndian.Uint16(header[offOptionalSize:]))
	end := table + sections*sectionSize
	for i := range sections {
		section, ok := slice(data, table+i*sectionSize, sectionSize)
		if !ok {
			return end
		}
		pointer := uint64(binary.LittleEndian.Uint32(section[offRawPointer:]))
		size := uint64(binary.LittleEndian.Uint32(section[offRawSize:]))
		end = max(end, pointer+size)
	}
	return end
}

// slice returns data[at:at+n], or false if data is too short.
func slice(data []byte, at, n uint64) ([]byte, bool) {
	size := uint64(len(data))
	if at > size || n > size-at {
		return nil, false
	}
	return data[at : at+n], true
}
