package acpi

import (
	"encoding/binary"
	"slices"
)

// Names of the files of QEMU's table loader (hw/acpi/bios-linker-loader.c).
const (
	fileRSDP   = "etc/acpi/rsdp"
	fileTables = "etc/acpi/tables"
	fileLoader = "etc/table-loader"
)

// Loader returns tables as files of QEMU's firmware configuration device, with the commands by
// which firmware places them. Each pointer in the tables is an offset in a file. Commands replace
// the offsets by addresses and correct the checksums. tables must have a FADT and a DSDT.
func Loader(tables ...Table) (files map[string][]byte, err error) {
	// The tables come after the RSDP. The RSDP is below 0, so the addresses of the tables are
	// offsets.
	start := (rsdpSize + tableAlignment - 1) &^ (tableAlignment - 1)
	set, err := Place(-uint64(start), tables...)
	if err != nil {
		return nil, err
	}
	root, data := slices.Clone(set.Data[:rsdpSize]), slices.Clone(set.Data[start:])
	u32 := func(at uint64) uint32 { return binary.LittleEndian.Uint32(data[at:]) }
	xsdt := binary.LittleEndian.Uint64(root[rsdpXSDT:])

	var s script
	s.allocate(fileRSDP, tableAlignment, zoneFSeg)
	s.allocate(fileTables, 64, zoneHigh)
	s.pointer(fileRSDP, rsdpXSDT)
	for at := xsdt + headerSize; at < xsdt+uint64(u32(xsdt+lengthOffset)); at += 8 {
		s.pointer(fileTables, uint32(at))
		if facp := binary.LittleEndian.Uint64(data[at:]); string(data[facp:][:4]) == "FACP" {
			s.pointer(fileTables, uint32(facp)+facpXDSDT)
			s.checksum(fileTables, data, uint32(facp)+checksumOffset, uint32(facp), u32(facp+lengthOffset))
		}
	}
	s.checksum(fileTables, data, uint32(xsdt)+checksumOffset, uint32(xsdt), u32(xsdt+lengthOffset))
	const firstChecksum, firstSize, checksum = 8, 20, 32
	s.checksum(fileRSDP, root, firstChecksum, 0, firstSize)
	s.checksum(fileRSDP, root, checksum, 0, rsdpSize)
	return map[string][]byte{fileRSDP: root, fileTables: data, fileLoader: s.commands}, nil
}

// script is a list of commands of 128 bytes.
type script struct{ commands []byte }

// Commands, and the zones of memory for files.
const (
	commandAllocate = 1
	commandPointer  = 2
	commandChecksum = 3

	zoneHigh = 1
	zoneFSeg = 2

	commandSize = 128
	nameSize    = 56
	pointerSize = 8
)

func (s *script) add(w writer) {
	s.commands = append(s.commands, w...)
	s.commands = append(s.commands, make([]byte, commandSize-len(w))...)
}

func (w *writer) name(name string) {
	w.text(name)
	w.zeros(nameSize - len(name))
}

func (s *script) allocate(file string, align uint32, zone uint8) {
	var w writer
	w.u32(commandAllocate)
	w.name(file)
	w.u32(align)
	w.u8(zone)
	s.add(w)
}

// pointer makes firmware replace a pointer in a file by an address. The pointer is an offset in the
// tables' file.
func (s *script) pointer(file string, at uint32) {
	var w writer
	w.u32(commandPointer)
	w.name(file)
	w.name(fileTables)
	w.u32(at)
	w.u8(pointerSize)
	s.add(w)
}

// checksum computes the checksum of a range of a file, whose data has 0 in its place.
func (s *script) checksum(file string, data []byte, at, start, length uint32) {
	data[at] = 0
	var w writer
	w.u32(commandChecksum)
	w.name(file)
	w.u32(at)
	w.u32(start)
	w.u32(length)
	s.add(w)
}
