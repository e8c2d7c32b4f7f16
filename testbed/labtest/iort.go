package labtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/u-root/u-root/pkg/cpio"
)

// Offsets in an IORT (Arm DEN 0049): in the header of every ACPI table, in the IORT's own header,
// and in nodes.
const (
	iortRevision  = 24 // OEM revision
	iortChecksum  = 9
	iortNodeCount = 36
	iortNodes     = 40 // offset of the first node

	nodeLength    = 1
	nodeHeader    = 16
	rootComplex   = 2 // node types
	smmuV3        = 4
	rcAccessFlags = nodeHeader + 7
	smmuFlags     = nodeHeader + 8
)

// IORTChange changes bits of one byte in every node of a type.
type IORTChange struct {
	node       byte
	at         uint64
	set, clear byte
}

var (
	// CanWBS declares root complexes CANWBS. A device's writes are then write-back cacheable, for
	// any attributes of the device and the translation tables.
	CanWBS = IORTChange{node: rootComplex, at: rcAccessFlags, set: 1 << 2}
	// Incoherent clears an SMMU's COHACC override: its own accesses are not coherent.
	Incoherent = IORTChange{node: smmuV3, at: smmuFlags, clear: 1 << 0}
)

// PatchIORT returns a changed copy of a table. It increments the OEM revision: Linux only replaces
// a firmware's table by one with a higher revision.
func PatchIORT(table []byte, change IORTChange) ([]byte, error) {
	if len(table) < iortNodes+4 || string(table[:4]) != "IORT" {
		return nil, errors.New("labtest: not an IORT")
	}
	if n := binary.LittleEndian.Uint32(table[4:]); uint64(n) != uint64(len(table)) {
		return nil, fmt.Errorf("labtest: IORT has %d bytes, but its header says %d", len(table), n)
	}
	p := append([]byte(nil), table...)
	at := uint64(binary.LittleEndian.Uint32(p[iortNodes:]))
	found := false
	for range binary.LittleEndian.Uint32(p[iortNodeCount:]) {
		if at+nodeHeader+9 > uint64(len(p)) {
			return nil, fmt.Errorf("labtest: IORT node at offset %d is truncated", at)
		}
		if p[at] == change.node {
			p[at+change.at] = p[at+change.at]&^change.clear | change.set
			found = true
		}
		length := uint64(binary.LittleEndian.Uint16(p[at+nodeLength:]))
		if length < nodeHeader {
			return nil, fmt.Errorf("labtest: IORT node at offset %d has length %d", at, length)
		}
		at += length
	}
	if !found {
		return nil, fmt.Errorf("labtest: IORT has no node of type %d", change.node)
	}
	binary.LittleEndian.PutUint32(p[iortRevision:], binary.LittleEndian.Uint32(p[iortRevision:])+1)
	p[iortChecksum] = 0
	var sum byte
	for _, b := range p {
		sum += b
	}
	p[iortChecksum] = -sum
	return p, nil
}

// iortArchive returns an archive from which Linux takes a changed table
// (CONFIG_ACPI_TABLE_UPGRADE). It must come before the initramfs, and not be compressed.
func iortArchive(table []byte, change IORTChange) ([]byte, error) {
	patched, err := PatchIORT(table, change)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	err = cpio.WriteRecords(w, []cpio.Record{
		cpio.StaticRecord(patched, cpio.Info{Name: "kernel/firmware/acpi/iort.aml", Mode: cpio.S_IFREG | 0o644}),
	})
	if err != nil {
		return nil, err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	// The next archive starts at a multiple of 4.
	return append(b.Bytes(), make([]byte, -b.Len()&3)...), nil
}
