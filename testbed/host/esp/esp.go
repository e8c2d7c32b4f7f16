// Package esp writes images of disks from which UEFI firmware boots. A disk has a GPT with one EFI
// System Partition, which is a FAT file system (UEFI 2.10, §5.3 and §13.3).
package esp

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf16"
)

// File is a file of the partition.
type File struct {
	Path string // with slashes, as in EFI/BOOT/BOOTAA64.EFI
	Data []byte
}

// Layout of the disk, in sectors.
const (
	partitionStart = 2048
	tableSectors   = 32 // 128 entries of 128 bytes
	entryCount     = 128
	entryBytes     = 128
	headerSize     = 92
)

// systemPartition is the type GUID C12A7328-F81F-11D2-BA4B-00A0C93EC93B, in the byte order of disks.
var systemPartition = [16]byte{
	0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
}

// GUIDs of the disk and of the partition. Only one disk of a machine has them.
var (
	diskGUID      = [16]byte{0x01, 'v', 's', 'm', 'm', 'u', 0, 0x40, 0x80}
	partitionGUID = [16]byte{0x02, 'v', 's', 'm', 'm', 'u', 0, 0x40, 0x80}
)

// Disk returns the image of a disk with files.
func Disk(files ...File) ([]byte, error) {
	volume, err := fileSystem(files, partitionStart)
	if err != nil {
		return nil, fmt.Errorf("esp: new disk: %w", err)
	}
	end := partitionStart + len(volume)/sector - 1 // the partition's last sector
	sectors := end + 1 + tableSectors + 1
	disk := make([]byte, sectors*sector)
	copy(disk[partitionStart*sector:], volume)
	copy(disk, protectiveMBR(uint32(sectors)))

	table := make([]byte, entryCount*entryBytes)
	copy(table, systemPartition[:])
	copy(table[16:], partitionGUID[:])
	binary.LittleEndian.PutUint64(table[32:], partitionStart)
	binary.LittleEndian.PutUint64(table[40:], uint64(end))
	for i, u := range utf16.Encode([]rune("EFI system partition")) {
		binary.LittleEndian.PutUint16(table[56+2*i:], u)
	}
	last := sectors - 1
	copy(disk[2*sector:], table)
	copy(disk[(last-tableSectors)*sector:], table)
	copy(disk[sector:], header(table, 1, last, 2, end))
	copy(disk[last*sector:], header(table, last, 1, last-tableSectors, end))
	return disk, nil
}

// header returns a GPT header for sector at, whose copy is at other (§5.3.2).
func header(table []byte, at, other, tableAt, end int) []byte {
	h := []byte("EFI PART\x00\x00\x01\x00")
	for _, v := range []uint32{headerSize, 0, 0} {
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	for _, v := range []int{at, other, 2 + tableSectors, end} {
		h = binary.LittleEndian.AppendUint64(h, uint64(v))
	}
	h = append(h, diskGUID[:]...)
	h = binary.LittleEndian.AppendUint64(h, uint64(tableAt))
	for _, v := range []uint32{entryCount, entryBytes, crc32.ChecksumIEEE(table)} {
		h = binary.LittleEndian.AppendUint32(h, v)
	}
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return h
}

// protectiveMBR returns an MBR with one partition of type 0xEE that covers the disk (§5.2.3).
func protectiveMBR(sectors uint32) []byte {
	b := make([]byte, sector)
	p := b[446:]
	copy(p, []byte{0, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff})
	binary.LittleEndian.PutUint32(p[8:], 1)
	binary.LittleEndian.PutUint32(p[12:], sectors-1)
	b[510], b[511] = 0x55, 0xaa
	return b
}
