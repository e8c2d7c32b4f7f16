// Package guest is the innermost init of the test boot: it exercises the disks and tells the VMM what it saw.
// The pattern and the protocol, which the VMM shares with it, build everywhere.
package guest

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// Pattern is the content that a disk gets: a function of the disk and the offset alone, so that a byte which lands on
// the wrong disk or at the wrong offset is seen.
type Pattern uint64

// PatternFor returns the pattern of the disk with this serial.
func PatternFor(serial string) Pattern {
	h := fnv.New64a()
	h.Write([]byte(serial))
	return Pattern(h.Sum64())
}

// word is the 8 bytes at an offset: the splitmix64 output function, whose neighbours share no visible bits.
func (p Pattern) word(offset int64) uint64 {
	z := uint64(p) + uint64(offset)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Fill writes the pattern that belongs at offset. Offset and len(b) are multiples of 8.
func (p Pattern) Fill(b []byte, offset int64) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], p.word(offset+int64(i)))
	}
}

// Check says where b first differs from the pattern that belongs at offset.
func (p Pattern) Check(b []byte, offset int64) error {
	for i := 0; i+8 <= len(b); i += 8 {
		at := offset + int64(i)
		if got, want := binary.LittleEndian.Uint64(b[i:]), p.word(at); got != want {
			return fmt.Errorf("at offset %#x: read %#016x where %#016x was written", at, got, want)
		}
	}
	return nil
}
