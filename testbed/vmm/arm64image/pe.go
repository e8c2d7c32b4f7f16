package arm64image

import "encoding/binary"

// Where things are in a PE file: the DOS header's pointer, the COFF header behind the signature, and a section header.
const (
	offPEPointer = 0x3c

	offSectionCount = 6  // from the signature
	offOptionalSize = 20 // from the signature
	coffSize        = 24 // signature and COFF header

	sectionSize   = 40
	offRawSize    = 16
	offRawPointer = 20
)

// peEnd is where the last section of the PE file that an image with an EFI stub also is ends, and 0 if the image is none.
// The image's own header does not give the file's size: its tail of zeros is left out of the file.
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

// slice is data[at:at+n], if there is that much.
func slice(data []byte, at, n uint64) ([]byte, bool) {
	size := uint64(len(data))
	if at > size || n > size-at {
		return nil, false
	}
	return data[at : at+n], true
}
