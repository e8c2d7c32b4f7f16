package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// IORT is ACPI's I/O Remapping Table (DEN 0049E.e): the ITS, the SMMUs, the PCI root complexes and
// platform devices in front of them, and the ranges that the guest identity-maps. References are
// indices into its slices.
//
// Linux 6.1 supports issues up to E.d, and reads the table as later versions do. If there is no ITS
// and an SMMU lacks one of its four wired interrupts, Linux 6.1 logs "ID mapping index overflows
// valid mappings". The message is harmless.
type IORT struct {
	OEMID       string // up to 6 bytes; empty means "VSMMU"
	OEMTableID  string // up to 8 bytes; empty means "VSMMUV3"
	OEMRevision uint32

	// ITS are the IDs, as in the MADT, of the ITSs that receive all messages. It is empty if there
	// is no ITS.
	ITS        []uint32
	SMMUs      []SMMU
	Roots      []PCIRoot
	Components []Component
	RMRs       []RMR
}

// NoSMMU in place of an SMMU's index means that there is none.
const NoSMMU = -1

// PCIRoot describes a PCI root complex. No two have the same segment.
type PCIRoot struct {
	Segment    uint32
	Requesters uint32 // number of requester IDs, from 0 on; 1 to 65536
	SMMU       int    // the SMMU that translates their DMA, or NoSMMU
	// StreamBase is the StreamID of requester 0. The ITS's DeviceID of a requester is its StreamID,
	// plus the DeviceBase of the SMMU. Without an SMMU it is StreamBase plus the requester ID.
	StreamBase  smmuv3.StreamID
	ATS         bool  // functions may use ATS
	AddressBits uint8 // width of the addresses that functions send, 1 to 64
	// CanWBS means that all DMA is cached, independent of its attributes, including no-snoop
	// accesses. A guest needs this to pass functions through to its own guests.
	CanWBS bool
	// NonCoherent means that DMA does not snoop the CPUs' caches.
	NonCoherent bool
}

// Component describes a platform device behind an SMMU: a named component.
type Component struct {
	// Path is the device's path in the ACPI namespace, as in `\_SB_.VR00`: names of four
	// characters, padded with underscores.
	Path        string
	SMMU        int
	StreamIDs   []smmuv3.StreamID
	PASIDBits   uint32 // width of the SubstreamIDs that the device can use, up to 20; 0 for none
	CanStall    bool   // the device can wait while the guest resolves a fault
	AddressBits uint8  // width of the addresses that the device sends, 1 to 64
	// NonCoherent says that DMA does not snoop the CPUs' caches.
	NonCoherent bool
}

// RMR is a reserved memory range: DMA addresses that the guest's stage 1 identity-maps for a range
// of streams. It is the IORT's equivalent of Identity. Base and Size are multiples of 64 KiB.
//
// Linux uses an RMR of PCI functions only if it keeps the firmware's PCI bus numbers, which
// requires that function 5 of the host bridge's _DSM returns 0.
type RMR struct {
	SMMU       int
	First      smmuv3.StreamID
	Streams    uint32 // number of streams, from First on
	Base, Size uint64
}

// ErrIORT matches the errors of IORT.Table.
var ErrIORT = errors.New("firmware: IORT")

// Table returns the table with its checksum, in the form that the guest's firmware installs.
func (i *IORT) Table() ([]byte, error) {
	if i == nil {
		return nil, fmt.Errorf("%w: nil", ErrIORT)
	}
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIORT, err)
	}
	t := &iortBuilder{}
	t.text("IORT", 4)
	t.u32(0) // length, below
	t.u8(iortRevision)
	t.u8(0) // checksum, below
	t.text(orDefault(i.OEMID, "VSMMU"), oemIDSize)
	t.text(orDefault(i.OEMTableID, "VSMMUV3"), oemTableIDSize)
	t.u32(i.OEMRevision)
	t.text("VSMU", 4) // the creator, and its revision
	t.u32(1)

	nodes := len(i.SMMUs) + len(i.Roots) + len(i.Components) + len(i.RMRs)
	if len(i.ITS) > 0 {
		nodes++
	}
	t.u32(uint32(nodes))
	t.u32(iortHeader)
	t.u32(0)

	its := len(t.b)
	if len(i.ITS) > 0 {
		t.its(i.ITS)
	}
	smmus := make([]int, len(i.SMMUs))
	for n, s := range i.SMMUs {
		smmus[n] = len(t.b)
		t.smmu(s, i.toITS(its, lastID-s.DeviceBase, s.DeviceBase))
	}
	for _, r := range i.Roots {
		if r.SMMU == NoSMMU {
			t.root(r, i.toITS(its, r.Requesters-1, uint32(r.StreamBase)))
		} else {
			t.root(r, []mapping{{last: r.Requesters - 1, output: uint32(r.StreamBase), to: smmus[r.SMMU]}})
		}
	}
	for _, c := range i.Components {
		t.component(c, smmus[c.SMMU])
	}
	for _, r := range i.RMRs {
		t.rmr(r, smmus[r.SMMU])
	}

	binary.LittleEndian.PutUint32(t.b[4:], uint32(len(t.b)))
	sum := byte(0)
	for _, b := range t.b {
		sum += b
	}
	t.b[9] = -sum
	return t.b, nil
}

// toITS returns the mapping of IDs to the ITS at an offset, if there is an ITS.
func (i *IORT) toITS(at int, last, output uint32) []mapping {
	if len(i.ITS) == 0 {
		return nil
	}
	return []mapping{{last: last, output: output, to: at}}
}

const (
	oemIDSize      = 6
	oemTableIDSize = 8
)

func orDefault(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
