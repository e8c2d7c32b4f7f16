package labtest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Offsets in an IORT (Arm DEN 0049): the header that ACPI tables have in common, the nodes, and a root complex.
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

// IORTChange is of a byte in every node of a type.
type IORTChange struct {
	node       byte
	at         uint64
	set, clear byte
}

var (
	// CanWBS declares root complexes CANWBS: a device's writes are write-back and cacheable, whatever it or the tables ask for.
	CanWBS = IORTChange{node: rootComplex, at: rcAccessFlags, set: 1 << 2}
	// Incoherent takes it back that an SMMU's own accesses are coherent (COHACC override).
	Incoherent = IORTChange{node: smmuV3, at: smmuFlags, clear: 1 << 0}
)

// PatchIORT returns the table with a change made. The OEM revision is raised, without which Linux takes no table in place of the
// firmware's.
func PatchIORT(table []byte, change IORTChange) ([]byte, error) {
	if len(table) < iortNodes+4 || string(table[:4]) != "IORT" {
		return nil, errors.New("labtest: not an IORT")
	}
	if n := binary.LittleEndian.Uint32(table[4:]); uint64(n) != uint64(len(table)) {
		return nil, fmt.Errorf("labtest: IORT of %d bytes says it has %d", len(table), n)
	}
	p := append([]byte(nil), table...)
	at := uint64(binary.LittleEndian.Uint32(p[iortNodes:]))
	found := false
	for range binary.LittleEndian.Uint32(p[iortNodeCount:]) {
		if at+nodeHeader+9 > uint64(len(p)) {
			return nil, fmt.Errorf("labtest: IORT node at %d is cut off", at)
		}
		if p[at] == change.node {
			p[at+change.at] = p[at+change.at]&^change.clear | change.set
			found = true
		}
		length := uint64(binary.LittleEndian.Uint16(p[at+nodeLength:]))
		if length < nodeHeader {
			return nil, fmt.Errorf("labtest: IORT node at %d has length %d", at, length)
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
