package guest

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
)

// Pattern is the content written to a disk. It depends on the disk and the offset alone, so that
// Check finds bytes on the wrong disk or at the wrong offset.
type Pattern uint64

// PatternFor returns the pattern of the disk with a serial.
func PatternFor(serial string) Pattern {
	h := fnv.New64a()
	h.Write([]byte(serial))
	return Pattern(h.Sum64())
}

// word returns the 8 bytes at an offset: the output of splitmix64, whose neighbouring values look
// unrelated.
func (p Pattern) word(offset int64) uint64 {
	z := uint64(p) + uint64(offset)*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Fill writes the pattern at offset to b. offset and len(b) are multiples of 8.
func (p Pattern) Fill(b []byte, offset int64) {
	for i := 0; i+8 <= len(b); i += 8 {
		binary.LittleEndian.PutUint64(b[i:], p.word(offset+int64(i)))
	}
}

// Check returns an error that says where b first differs from the pattern at offset.
func (p Pattern) Check(b []byte, offset int64) error {
	for i := 0; i+8 <= len(b); i += 8 {
		at := offset + int64(i)
		if got, want := binary.LittleEndian.Uint64(b[i:]), p.word(at); got != want {
			return fmt.Errorf("at offset %#x: read %#016x, wrote %#016x", at, got, want)
		}
	}
	return nil
}
