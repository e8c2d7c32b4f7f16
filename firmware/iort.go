package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// IORT is an I/O Remapping Table of ACPI: the ITS, SMMUs, the PCI root complexes before them, and ranges that guests must map
// to themselves (DEN 0049E.d). References between them are indices.
type IORT struct {
	OEMID       string // up to 6 bytes
	OEMTableID  string // up to 8
	OEMRevision uint32

	// ITS are the IDs, as the MADT gives them, of those that take the messages of everything in the table; none for none.
	ITS   []uint32
	SMMUs []SMMU // PHandle does not matter here
	Roots []PCIRoot
	RMRs  []RMR
}

// NoSMMU is the index of no SMMU.
const NoSMMU = -1

// PCIRoot is a PCI root complex. Its DMA is coherent with the CPUs' caches.
type PCIRoot struct {
	Segment    uint32
	Requesters uint32 // how many requester IDs it has, from 0 on, at most 65536
	SMMU       int    // that translates for them, or NoSMMU
	// StreamBase is the StreamID of requester 0. The ITS knows the messages by the StreamIDs, or without an SMMU by the requester
	// IDs.
	StreamBase  smmuv3.StreamID
	ATS         bool
	AddressBits uint8 // width of the addresses that it can send, 1 to 64
	// CanWBS says that all its DMA is cached and cannot be made to bypass the caches, by no-snoop attributes least of all. A
	// guest needs that to nest guests of its own.
	CanWBS bool
}

// RMR is a range of DMA addresses that the guest is to map, in stage 1, to the same guest-physical addresses, for these streams:
// as Identity is in a device tree. Base and Size are multiples of 64 KiB.
//
// Linux regards one for PCI devices only if it has been told to leave the PCI bus numbers as they are, by the method _DSM,
// function 5, of the host bridge.
type RMR struct {
	SMMU       int
	First      smmuv3.StreamID
	Streams    uint32 // how many, from First on
	Base, Size uint64
}

// ErrIORT is matched by the errors of IORT.Table.
var ErrIORT = errors.New("firmware: IORT")

// Revisions, of the table and of the kinds of nodes, are those of issue E.d.
const (
	iortRevision = 5

	nodeITS  = 0
	nodeRoot = 2
	nodeSMMU = 4
	nodeRMR  = 6

	revITS  = 1
	revRoot = 3
	revSMMU = 4
	revRMR  = 3
)

// Sizes of the fixed parts.
const (
	acpiHeader    = 36
	iortHeader    = acpiHeader + 12
	nodeHeader    = 16
	itsSize       = nodeHeader + 4
	rootSize      = nodeHeader + 20
	smmuNodeSize  = nodeHeader + 52
	rmrSize       = nodeHeader + 12
	rmrDescriptor = 20
	mappingSize   = 20
)

// mapping is how IDs from 0 to last go from a node to another one.
type mapping struct {
	last   uint32
	output uint32 // what 0 becomes
	to     int    // the offset of the other node
}

// allIDs is the last of all IDs.
const allIDs = 1<<32 - 1

// iortBuilder appends to a table.
type iortBuilder struct {
	b     []byte
	nodes uint32 // so far
}

func (t *iortBuilder) u8(v uint8)   { t.b = append(t.b, v) }
func (t *iortBuilder) u16(v uint16) { t.b = binary.LittleEndian.AppendUint16(t.b, v) }
func (t *iortBuilder) u32(v uint32) { t.b = binary.LittleEndian.AppendUint32(t.b, v) }
func (t *iortBuilder) u64(v uint64) { t.b = binary.LittleEndian.AppendUint64(t.b, v) }
func (t *iortBuilder) text(s string, size int) {
	t.b = append(t.b, make([]byte, size)...)
	copy(t.b[len(t.b)-size:], s)
}

// Table is the table as the guest's firmware is to install it.
func (i *IORT) Table() ([]byte, error) {
	if err := i.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIORT, err)
	}
	t := &iortBuilder{}
	t.text("IORT", 4)
	t.u32(0) // length, below
	t.u8(iortRevision)
	t.u8(0) // checksum, below
	t.text(i.OEMID, 6)
	t.text(i.OEMTableID, 8)
	t.u32(i.OEMRevision)
	t.text("VSMU", 4) // the creator, and its revision
	t.u32(1)

	nodes := len(i.SMMUs) + len(i.Roots) + len(i.RMRs)
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
		t.smmu(s, i.toITS(its, allIDs, 0))
	}
	for _, r := range i.Roots {
		if r.SMMU == NoSMMU {
			t.root(r, i.toITS(its, r.Requesters-1, uint32(r.StreamBase)))
		} else {
			t.root(r, []mapping{{last: r.Requesters - 1, output: uint32(r.StreamBase), to: smmus[r.SMMU]}})
		}
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

func (i *IORT) check() error {
	if len(i.OEMID) > 6 || len(i.OEMTableID) > 8 {
		return fmt.Errorf("OEMID %q, OEMTableID %q: longer than 6 or 8 bytes", i.OEMID, i.OEMTableID)
	}
	const granule = 64<<10 - 1
	for n, s := range i.SMMUs {
		if s.Base&granule != 0 {
			return fmt.Errorf("SMMUs[%d] is at %#x: not a multiple of 64 KiB (IHI 0070 §6.1)", n, s.Base)
		}
	}
	for _, r := range i.Roots {
		switch {
		case r.Requesters == 0 || r.Requesters > 1<<16:
			return fmt.Errorf("segment %d has %d requesters: not 1 to 65536", r.Segment, r.Requesters)
		case r.AddressBits == 0 || r.AddressBits > 64:
			return fmt.Errorf("segment %d sends addresses of %d bits: not 1 to 64", r.Segment, r.AddressBits)
		case r.SMMU != NoSMMU && !i.has(r.SMMU):
			return fmt.Errorf("segment %d is behind SMMUs[%d], and there are %d", r.Segment, r.SMMU, len(i.SMMUs))
		case uint64(r.StreamBase)+uint64(r.Requesters) > 1<<32:
			return fmt.Errorf("segment %d has %d StreamIDs from %v on: beyond 32 bits", r.Segment, r.Requesters, r.StreamBase)
		}
	}
	for _, r := range i.RMRs {
		switch {
		case !i.has(r.SMMU):
			return fmt.Errorf("range %#x is for SMMUs[%d], and there are %d", r.Base, r.SMMU, len(i.SMMUs))
		case r.Size == 0 || (r.Base|r.Size)&granule != 0 || r.Base+r.Size-1 < r.Base:
			return fmt.Errorf("range of %#x bytes at %#x: not one of 64 KiB granules", r.Size, r.Base)
		case r.Streams == 0 || uint64(r.First)+uint64(r.Streams) > 1<<32:
			return fmt.Errorf("range %#x is for %d streams from %v on", r.Base, r.Streams, r.First)
		}
	}
	return nil
}

func (i *IORT) has(smmu int) bool { return smmu >= 0 && smmu < len(i.SMMUs) }

// toITS maps IDs to the ITS at an offset, if there is one.
func (i *IORT) toITS(at int, last, output uint32) []mapping {
	if len(i.ITS) == 0 {
		return nil
	}
	return []mapping{{last: last, output: output, to: at}}
}

// node begins a node, whose fixed part and extra bytes come before its mappings. Its identifier is its place among all.
func (t *iortBuilder) node(kind, revision uint8, fixed, extra int, mappings []mapping) {
	t.u8(kind)
	t.u16(uint16(fixed + extra + mappingSize*len(mappings)))
	t.u8(revision)
	t.u32(t.nodes)
	t.nodes++
	t.u32(uint32(len(mappings)))
	if len(mappings) == 0 {
		t.u32(0)
	} else {
		t.u32(uint32(fixed + extra))
	}
}

func (t *iortBuilder) mappings(mappings []mapping) {
	for _, m := range mappings {
		t.u32(0)
		t.u32(m.last)
		t.u32(m.output)
		t.u32(uint32(m.to))
		t.u32(0)
	}
}

func (t *iortBuilder) its(ids []uint32) {
	t.node(nodeITS, revITS, itsSize, 4*len(ids), nil)
	t.u32(uint32(len(ids)))
	for _, id := range ids {
		t.u32(id)
	}
}

// firstSPI is the number of SPI 0 among all of a GIC's interrupts, which is what ACPI counts by.
const firstSPI = 32

func (t *iortBuilder) smmu(s SMMU, mappings []mapping) {
	t.node(nodeSMMU, revSMMU, smmuNodeSize, 0, mappings)
	t.u64(s.Base)
	t.u32(1) // its walks are coherent
	t.u32(0)
	t.u64(0) // no VATOS page
	t.u32(0) // a generic SMMUv3
	t.u32(firstSPI + s.EventQ)
	t.u32(firstSPI + s.PRIQ)
	t.u32(firstSPI + s.GError)
	if s.NoCmdSync {
		t.u32(0)
	} else {
		t.u32(firstSPI + s.CmdSync)
	}
	t.u32(0) // proximity domain, not valid
	t.u32(0) // mapping of its own DeviceID: not valid, for its interrupts are wired
	t.mappings(mappings)
}

// Memory access properties of a root complex.
const (
	maCoherent = 1      // cache coherency attribute
	maCPM      = 1 << 0 // memory access flags: a coherent path to memory,
	maDACS     = 1 << 1 // attributes that are cacheable and shareable,
	maCANWBS   = 1 << 2 // and no others possible
)

func (t *iortBuilder) root(r PCIRoot, mappings []mapping) {
	t.node(nodeRoot, revRoot, rootSize, 0, mappings)
	t.u32(maCoherent)
	t.u8(0)
	t.u16(0)
	flags := uint8(maCPM | maDACS)
	if r.CanWBS {
		flags |= maCANWBS
	}
	t.u8(flags)
	ats := uint32(0)
	if r.ATS {
		ats = 1
	}
	t.u32(ats)
	t.u32(r.Segment)
	t.u8(r.AddressBits)
	t.u8(0)
	t.u16(0)
	t.mappings(mappings)
}

func (t *iortBuilder) rmr(r RMR, smmu int) {
	mappings := []mapping{{last: r.Streams - 1, output: uint32(r.First), to: smmu}}
	t.node(nodeRMR, revRMR, rmrSize, rmrDescriptor, mappings)
	t.u32(0) // not to be remapped; Device-nGnRnE memory
	t.u32(1)
	t.u32(rmrSize) // the descriptor's offset
	t.u64(r.Base)
	t.u64(r.Size)
	t.u32(0)
	t.mappings(mappings)
}
