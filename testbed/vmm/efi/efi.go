// Package efi lays out the structures that an EFI stub leaves in memory for Linux, on a machine
// without firmware: a system table with the ACPI tables, and a memory map (UEFI 2.10, §4.3 and
// §7.2).
//
// There are no boot services and no runtime services. Linux needs efi=noruntime on its command
// line. Otherwise it calls a runtime service.
package efi

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"unicode/utf16"

	"github.com/u-root/u-root/pkg/dt"
)

// GUIDs of configuration tables, in the byte order of memory.
var (
	// acpi20 is EFI_ACPI_20_TABLE_GUID (§4.6.1).
	acpi20 = [16]byte{0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}
	// memreserve is LINUX_EFI_MEMRESERVE_TABLE_GUID. Linux adds the tables of the GIC to this list,
	// and warns if there is no list.
	memreserve = [16]byte{
		0xc6, 0xb0, 0x8e, 0x88, 0xde, 0x8e, 0xf5, 0x4f, 0xa8, 0xf0, 0x9a, 0xee, 0x5c, 0xb9, 0x77, 0xc2,
	}
)

// Offsets of the parts. The table that memreserve names is empty: zeros.
const (
	vendorOffset     = 0x100
	configOffset     = 0x200
	memreserveOffset = 0x400
	mapOffset        = 0x800
	size             = 0x1000
)

// Size is the number of bytes of a Handover, a page.
const Size = size

// Range is a range of memory, a multiple of 4 KiB at a multiple of 4 KiB.
type Range struct{ Base, Size uint64 }

// Handover is the memory at an address.
type Handover struct {
	at      uint64
	mapSize int
	// Data has Size bytes.
	Data []byte
}

// Memory types and attributes of the memory map (§7.2).
const (
	typeConventional = 7
	typeACPIReclaim  = 9
	writeBack        = 1 << 3

	descriptorSize    = 48 // larger than the 40 bytes of a descriptor, as in all firmware
	descriptorVersion = 1
	page              = 4 << 10
)

// New lays out a Handover at an address of ram, followed by the ACPI tables: the memory between at
// and end is theirs. rsdp is the address of the RSDP.
func New(at, end, rsdp uint64, ram Range) (Handover, error) {
	if at%page != 0 || end%page != 0 || ram.Base%page != 0 || ram.Size%page != 0 ||
		at < ram.Base || end < at+size || end > ram.Base+ram.Size {
		return Handover{}, errors.New("efi: new handover: not whole pages of the memory")
	}
	h := Handover{at: at, Data: make([]byte, size)}
	vendor := h.Data[vendorOffset:vendorOffset]
	for _, u := range utf16.Encode([]rune("vsmmuv3 test machine")) {
		vendor = binary.LittleEndian.AppendUint16(vendor, u)
	}
	config := append(h.Data[configOffset:configOffset], acpi20[:]...)
	config = binary.LittleEndian.AppendUint64(config, rsdp)
	config = append(config, memreserve[:]...)
	_ = binary.LittleEndian.AppendUint64(config, at+memreserveOffset)
	copy(h.Data, systemTable(at))

	descriptors := h.Data[mapOffset:mapOffset]
	for _, r := range []struct {
		kind      uint32
		base, end uint64
	}{{typeConventional, ram.Base, at}, {typeACPIReclaim, at, end}, {typeConventional, end, ram.Base + ram.Size}} {
		if r.base == r.end {
			continue
		}
		descriptors = binary.LittleEndian.AppendUint64(descriptors, uint64(r.kind))
		for _, v := range []uint64{r.base, 0, (r.end - r.base) / page, writeBack, 0} {
			descriptors = binary.LittleEndian.AppendUint64(descriptors, v)
		}
	}
	h.mapSize = len(descriptors)
	return h, nil
}

// systemTable returns a system table with two configuration tables and no services (§4.3).
func systemTable(at uint64) []byte {
	const (
		revision  = 2<<16 | 70
		tableSize = 120
		checksum  = 16
		services  = 8 // consoles and services
	)
	t := []byte("IBI SYST")
	for _, v := range []uint32{revision, tableSize, 0, 0} {
		t = binary.LittleEndian.AppendUint32(t, v)
	}
	t = binary.LittleEndian.AppendUint64(t, at+vendorOffset)
	t = binary.LittleEndian.AppendUint64(t, 1) // the vendor's revision
	t = append(t, make([]byte, services*8)...)
	t = binary.LittleEndian.AppendUint64(t, 2)
	t = binary.LittleEndian.AppendUint64(t, at+configOffset)
	binary.LittleEndian.PutUint32(t[checksum:], crc32.ChecksumIEEE(t))
	return t
}

// secureBootDisabled is the value of linux,uefi-secure-boot for a disabled Secure Boot.
const secureBootDisabled = 2

// Chosen returns the properties of the node /chosen by which Linux finds the Handover. Linux only
// looks for ACPI tables if the tree has no other node (Documentation/arch/arm64/acpi).
func (h Handover) Chosen() []dt.Property {
	return []dt.Property{
		dt.PropertyU64("linux,uefi-system-table", h.at),
		dt.PropertyU64("linux,uefi-mmap-start", h.at+mapOffset),
		dt.PropertyU32("linux,uefi-mmap-size", uint32(h.mapSize)),
		dt.PropertyU32("linux,uefi-mmap-desc-size", descriptorSize),
		dt.PropertyU32("linux,uefi-mmap-desc-ver", descriptorVersion),
		// Debian's kernels ignore a system table without it.
		dt.PropertyU32("linux,uefi-secure-boot", secureBootDisabled),
	}
}
