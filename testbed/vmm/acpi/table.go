package acpi

import (
	"encoding/binary"
	"fmt"
)

// Table is a table with its header and checksum.
type Table []byte

// Signature returns the table's name, as in "FACP".
func (t Table) Signature() string { return string(t[:4]) }

// Offsets of the header that all tables share (§5.2.6).
const (
	lengthOffset   = 4
	checksumOffset = 9
	headerSize     = 36
)

// Names of the table's maker, and of its program.
const (
	oemID      = "VSMMU\x00"
	oemTableID = "TESTVMM\x00"
	creatorID  = "VSMU"
)

// newTable returns a table of the header and a body.
func newTable(signature string, revision uint8, body []byte) Table {
	b := writer(signature)
	b.u32(uint32(headerSize + len(body)))
	b.u8(revision)
	b.u8(0) // the checksum
	b.text(oemID)
	b.text(oemTableID)
	b.u32(1) // OEM revision
	b.text(creatorID)
	b.u32(1) // the creator's revision
	b = append(b, body...)
	sum(b, checksumOffset)
	return Table(b)
}

// sum stores at an offset the checksum that makes the sum of all bytes 0.
func sum(b []byte, at int) {
	b[at] = 0
	total := byte(0)
	for _, v := range b {
		total += v
	}
	b[at] = -total
}

// writer appends to a table or to AML.
type writer []byte

func (w *writer) u8(v uint8)   { *w = append(*w, v) }
func (w *writer) u16(v uint16) { *w = binary.LittleEndian.AppendUint16(*w, v) }
func (w *writer) u32(v uint32) { *w = binary.LittleEndian.AppendUint32(*w, v) }
func (w *writer) u64(v uint64) { *w = binary.LittleEndian.AppendUint64(*w, v) }

func (w *writer) text(s string) { *w = append(*w, s...) }
func (w *writer) zeros(n int)   { *w = append(*w, make([]byte, n)...) }

// Set is a machine's tables, placed at an address.
type Set struct {
	// Data is the memory at the address.
	Data []byte
	// RSDP is the address of the Root System Description Pointer.
	RSDP uint64
}

// tableAlignment is the alignment of each table. The architecture requires none; EDK2 uses 8 or
// more.
const tableAlignment = 16

// Offsets of the pointers between tables.
const (
	facpXDSDT = 140 // in the FADT (§5.2.9)
	rsdpSize  = 36
	rsdpXSDT  = 24 // in the RSDP (§5.2.5.3)
)

// Place lays out tables at an address: an RSDP, the XSDT, and copies of the tables. The XSDT lists
// all tables except the DSDT, to which the FADT points. tables must have a FADT and a DSDT.
func Place(at uint64, tables ...Table) (Set, error) {
	align := func(b []byte) []byte { return append(b, make([]byte, -len(b)&(tableAlignment-1))...) }
	data := align(make([]byte, rsdpSize))
	var listed []uint64
	facp, dsdt := -1, -1
	for _, t := range tables {
		switch t.Signature() {
		case "DSDT":
			dsdt = len(data)
		case "FACP":
			facp = len(data)
			fallthrough
		default:
			listed = append(listed, at+uint64(len(data)))
		}
		data = align(append(data, t...))
	}
	if facp < 0 || dsdt < 0 {
		return Set{}, fmt.Errorf("acpi: place tables: no FADT or no DSDT among %d tables", len(tables))
	}
	fadt := data[facp:][:binary.LittleEndian.Uint32(data[facp+lengthOffset:])]
	binary.LittleEndian.PutUint64(fadt[facpXDSDT:], at+uint64(dsdt))
	sum(fadt, checksumOffset)

	var list writer
	for _, a := range listed {
		list.u64(a)
	}
	xsdt := at + uint64(len(data))
	data = append(data, newTable("XSDT", 1, list)...)
	copy(data, rsdp(xsdt))
	return Set{Data: data, RSDP: at}, nil
}

// rsdp returns an RSDP of revision 2, which has no RSDT.
func rsdp(xsdt uint64) []byte {
	const firstChecksum, firstSize, checksum = 8, 20, 32
	w := writer("RSD PTR ")
	w.u8(0) // the first checksum
	w.text(oemID)
	w.u8(2) // revision
	w.u32(0)
	w.u32(rsdpSize)
	w.u64(xsdt)
	w.u8(0) // the checksum of all
	w.zeros(3)
	sum(w[:firstSize], firstChecksum)
	sum(w, checksum)
	return w
}
