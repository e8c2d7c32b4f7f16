package firmware

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// IORT is ACPI's I/O Remapping Table (DEN 0049E.e): the ITS, the SMMUs, the PCI root complexes in
// front of them, and the ranges that the guest maps to themselves. References are indices into its
// slices.
//
// Linux 6.1, which knows no later issue than E.d, reads the table as later versions do. With no ITS
// and without one of the SMMU's four wired interrupts, it logs "ID mapping index overflows valid
// mappings", which is harmless.
type IORT struct {
	OEMID       string // up to 6 bytes; empty means "VSMMU"
	OEMTableID  string // up to 8 bytes; empty means "VSMMUV3"
	OEMRevision uint32

	// ITS are the IDs, as in the MADT, of the ITSs that receive all messages. None means that there
	// is no ITS.
	ITS   []uint32
	SMMUs []SMMU
	Roots []PCIRoot
	RMRs  []RMR
}

// NoSMMU is the index of no SMMU.
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
	// CanWBS says that all DMA is cached, whatever its attributes: no-snoop accesses, too. A guest
	// needs that to pass functions on to guests of its own.
	CanWBS bool
	// NonCoherent says that DMA does not snoop the CPUs' caches.
	NonCoherent bool
}

// RMR is a reserved memory range: DMA addresses that the guest maps, in stage 1, to the same
// guest-physical addresses, for a range of streams. It is the IORT's Identity. Base and Size are
// multiples of 64 KiB.
//
// Linux regards an RMR of PCI functions only if it keeps the firmware's PCI bus numbers: function 5
// of the host bridge's _DSM returns 0.
type RMR struct {
	SMMU       int
	First      smmuv3.StreamID
	Streams    uint32 // number of streams, from First on
	Base, Size uint64
}

// ErrIORT is matched by the errors of IORT.Table.
var ErrIORT = errors.New("firmware: IORT")

// Revisions of the table and of its nodes. Node revision 5 of the SMMUv3 came with table revision
// 6, issue E.e.
const (
	iortRevision = 6

	nodeITS  = 0
	nodeRoot = 2
	nodeSMMU = 4
	nodeRMR  = 6

	revITS  = 1
	revRoot = 3
	revSMMU = 5
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

// mapping maps the IDs from 0 to last of a node to those of another. A single one maps the node's
// own ID.
type mapping struct {
	last   uint32
	output uint32 // the output of ID 0
	to     int    // the offset of the other node
	single bool
}

// singleMapping is the flag of an ID mapping that has an output and no input.
const singleMapping = 1 << 0

// lastID is the last of all IDs.
const lastID = 1<<32 - 1

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

// Table returns the table, with its checksum, as the guest's firmware installs it.
func (i *IORT) Table() ([]byte, error) {
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
		t.smmu(s, i.toITS(its, lastID-s.DeviceBase, s.DeviceBase))
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

func (i *IORT) check() error {
	switch {
	case len(i.OEMID) > oemIDSize:
		return fmt.Errorf("OEMID %q: longer than %d bytes", i.OEMID, oemIDSize)
	case len(i.OEMTableID) > oemTableIDSize:
		return fmt.Errorf("OEMTableID %q: longer than %d bytes", i.OEMTableID, oemTableIDSize)
	}
	for n, id := range i.ITS {
		for k, other := range i.ITS[:n] {
			if id == other {
				return fmt.Errorf("ITS[%d] %d: the same as ITS[%d]", n, id, k)
			}
		}
	}
	for n := range i.SMMUs {
		if err := i.checkSMMU(n); err != nil {
			return fmt.Errorf("SMMUs[%d]: %w", n, err)
		}
	}
	for n := range i.Roots {
		if err := i.checkRoot(n); err != nil {
			return fmt.Errorf("Roots[%d]: %w", n, err)
		}
	}
	for n := range i.SMMUs {
		if err := i.checkDeviceID(n); err != nil {
			return fmt.Errorf("SMMUs[%d]: %w", n, err)
		}
	}
	for n := range i.RMRs {
		if err := i.checkRMR(n); err != nil {
			return fmt.Errorf("RMRs[%d]: %w", n, err)
		}
	}
	return nil
}

func (i *IORT) has(smmu int) bool { return smmu >= 0 && smmu < len(i.SMMUs) }

func (i *IORT) checkSMMU(n int) error {
	s := &i.SMMUs[n]
	if err := s.check(len(i.ITS) > 0); err != nil {
		return err
	}
	for k := range i.SMMUs[:n] {
		if o := &i.SMMUs[k]; s.Base < o.Base+smmuv3.RegisterSpace && o.Base < s.Base+smmuv3.RegisterSpace {
			return fmt.Errorf("Base %#x: the register file overlaps that of SMMUs[%d]", s.Base, k)
		}
	}
	return nil
}

func (i *IORT) checkRoot(n int) error {
	r := &i.Roots[n]
	switch {
	case r.Requesters == 0 || r.Requesters > 1<<16:
		return fmt.Errorf("Requesters %d: a segment has 1 to 65536", r.Requesters)
	case r.AddressBits == 0 || r.AddressBits > 64:
		return fmt.Errorf("AddressBits %d: addresses have 1 to 64", r.AddressBits)
	case r.SMMU != NoSMMU && !i.has(r.SMMU):
		return fmt.Errorf("SMMU %d: the table has %d", r.SMMU, len(i.SMMUs))
	case uint64(r.StreamBase)+uint64(r.Requesters) > 1<<32:
		return fmt.Errorf("StreamBase %v: %d StreamIDs end beyond 32 bits", r.StreamBase, r.Requesters)
	case r.SMMU != NoSMMU && uint64(i.SMMUs[r.SMMU].DeviceBase)+uint64(r.StreamBase)+uint64(r.Requesters) > 1<<32:
		return fmt.Errorf("StreamBase %v: with the SMMU's DeviceBase, DeviceIDs end beyond 32 bits", r.StreamBase)
	case r.CanWBS && r.NonCoherent:
		return errors.New("CanWBS: DMA that is always cached is not NonCoherent")
	}
	for k := range i.Roots[:n] {
		o := &i.Roots[k]
		switch {
		case r.Segment == o.Segment:
			return fmt.Errorf("Segment %d: the same as that of Roots[%d]", r.Segment, k)
		case r.SMMU == o.SMMU && (r.SMMU != NoSMMU || len(i.ITS) > 0) && r.overlaps(o):
			return fmt.Errorf("StreamBase %v: %d IDs overlap those of Roots[%d]", r.StreamBase, r.Requesters, k)
		}
	}
	return nil
}

func (r *PCIRoot) overlaps(o *PCIRoot) bool {
	return uint64(r.StreamBase) < uint64(o.StreamBase)+uint64(o.Requesters) &&
		uint64(o.StreamBase) < uint64(r.StreamBase)+uint64(r.Requesters)
}

// checkDeviceID keeps the messages of an SMMU apart from those of functions and of other SMMUs.
func (i *IORT) checkDeviceID(n int) error {
	s := &i.SMMUs[n]
	if len(i.ITS) == 0 || !s.IDs.Has(smmuv3.MSI) {
		return nil
	}
	for k := range i.Roots {
		r := &i.Roots[k]
		first := uint64(r.StreamBase)
		if r.SMMU != NoSMMU {
			first += uint64(i.SMMUs[r.SMMU].DeviceBase)
		}
		if id := uint64(s.DeviceID); id >= first && id-first < uint64(r.Requesters) {
			return fmt.Errorf("DeviceID %#x: one of Roots[%d] has it", s.DeviceID, k)
		}
	}
	for k := range i.SMMUs[:n] {
		if o := &i.SMMUs[k]; o.IDs.Has(smmuv3.MSI) && o.DeviceID == s.DeviceID {
			return fmt.Errorf("DeviceID %#x: the same as that of SMMUs[%d]", s.DeviceID, k)
		}
	}
	return nil
}

func (i *IORT) checkRMR(n int) error {
	r := &i.RMRs[n]
	switch {
	case !i.has(r.SMMU):
		return fmt.Errorf("SMMU %d: the table has %d", r.SMMU, len(i.SMMUs))
	case r.Base%granule64K != 0:
		return fmt.Errorf("Base %#x: not a multiple of 64 KiB", r.Base)
	case r.Size == 0 || r.Size%granule64K != 0:
		return fmt.Errorf("Size %#x: not a positive multiple of 64 KiB", r.Size)
	case r.Base+r.Size-1 < r.Base:
		return fmt.Errorf("Size %#x: the range from %#x on ends beyond 64 bits", r.Size, r.Base)
	case r.Streams == 0:
		return errors.New("Streams 0: a range is for one stream or more")
	case uint64(r.First)+uint64(r.Streams) > 1<<32:
		return fmt.Errorf("Streams %d: StreamIDs from %v on end beyond 32 bits", r.Streams, r.First)
	}
	return nil
}

// toITS returns the mapping of IDs to the ITS at an offset, if there is an ITS.
func (i *IORT) toITS(at int, last, output uint32) []mapping {
	if len(i.ITS) == 0 {
		return nil
	}
	return []mapping{{last: last, output: output, to: at}}
}

// node begins a node. Its fixed part and extra bytes come before its mappings. Its identifier is
// its place among all nodes.
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
		flags := uint32(0)
		if m.single {
			flags = singleMapping
		}
		t.u32(0)
		t.u32(m.last)
		t.u32(m.output)
		t.u32(uint32(m.to))
		t.u32(flags)
	}
}

func (t *iortBuilder) its(ids []uint32) {
	t.node(nodeITS, revITS, itsSize, 4*len(ids), nil)
	t.u32(uint32(len(ids)))
	for _, id := range ids {
		t.u32(id)
	}
}

// firstSPI is the INTID of SPI 0: ACPI counts all of a GIC's interrupts.
const firstSPI = 32

// Flags of an SMMUv3 node. The HTTU override is bits 2:1, with the values of IDR0.HTTU.
const (
	smmuCOHACCOverride     = 1 << 0
	smmuHTTUOverrideShift  = 1
	smmuDeviceIDIndexValid = 1 << 4 // from node revision 5 on
)

// smmu appends the node of an SMMU. Mappings lead from its StreamIDs to the ITS; none if there is
// no ITS.
//
// The node's DeviceID mapping index names a single mapping: the SMMU's own DeviceID. Node revision
// 5 has a flag that says whether the index is valid. Linux 6.1 does not know the flag, and goes by
// the rule of earlier revisions: the index is valid unless all four GSIVs are given. It takes the
// mapping that the index names out of the mapping of StreamIDs. Therefore the node has a single
// mapping, an index and the flag if a GSIV is missing, and also if the SMMU sends messages. The
// single mapping comes last, so that a reader who takes the first mapping that matches finds that
// of the StreamIDs.
func (t *iortBuilder) smmu(s SMMU, mappings []mapping) {
	gsiv := map[string]uint32{}
	for _, w := range s.wires() {
		if w.present {
			gsiv[w.name] = firstSPI + w.spi
		}
	}
	flags := s.httu() << smmuHTTUOverrideShift
	if s.coherent() {
		flags |= smmuCOHACCOverride
	}
	index := 0
	if len(mappings) > 0 && (len(gsiv) < len(s.wires()) || s.messages()) {
		index = len(mappings)
		mappings = append(mappings, mapping{output: s.DeviceID, to: mappings[0].to, single: true})
		flags |= smmuDeviceIDIndexValid
	}
	t.node(nodeSMMU, revSMMU, smmuNodeSize, 0, mappings)
	t.u64(s.Base)
	t.u32(flags)
	t.u32(0)
	t.u64(0) // no VATOS page
	t.u32(0) // a generic SMMUv3
	t.u32(gsiv["eventq"])
	t.u32(gsiv["priq"])
	t.u32(gsiv["gerror"])
	t.u32(gsiv["cmdq-sync"])
	t.u32(0) // proximity domain, not valid
	t.u32(uint32(index))
	t.mappings(mappings)
}

// Memory access properties of a root complex.
const (
	memoryCoherent = 1      // cache coherency attribute
	memoryCPM      = 1 << 0 // flag: a coherent path to memory
	memoryDACS     = 1 << 1 // flag: attributes are cacheable and shareable
	memoryCANWBS   = 1 << 2 // flag: and no others are possible
)

func (t *iortBuilder) root(r PCIRoot, mappings []mapping) {
	coherency, flags := uint32(memoryCoherent), uint8(memoryCPM|memoryDACS)
	if r.NonCoherent {
		coherency, flags = 0, 0
	}
	if r.CanWBS {
		flags |= memoryCANWBS
	}
	ats := uint32(0)
	if r.ATS {
		ats = 1
	}
	t.node(nodeRoot, revRoot, rootSize, 0, mappings)
	t.u32(coherency)
	t.u8(0) // allocation hints
	t.u16(0)
	t.u8(flags)
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
