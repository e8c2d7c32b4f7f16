package firmware

import "encoding/binary"

// Revisions of the table and of its nodes. Node revision 5 of the SMMUv3 came with table revision
// 6, issue E.e.
const (
	iortRevision = 6

	nodeITS       = 0
	nodeComponent = 1
	nodeRoot      = 2
	nodeSMMU      = 4
	nodeRMR       = 6

	revITS       = 1
	revComponent = 4
	revRoot      = 3
	revSMMU      = 5
	revRMR       = 3
)

// Sizes of the fixed parts.
const (
	acpiHeader    = 36
	iortHeader    = acpiHeader + 12
	nodeHeader    = 16
	itsSize       = nodeHeader + 4
	componentSize = nodeHeader + 13
	rootSize      = nodeHeader + 20
	smmuNodeSize  = nodeHeader + 52
	rmrSize       = nodeHeader + 12
	rmrDescriptor = 20
	mappingSize   = 20

	maxNode = 1<<16 - 1 // its length has 16 bits
)

// mapping maps the IDs from 0 to last of a node to those of another. A single mapping maps the
// node's own ID.
type mapping struct {
	last   uint32
	output uint32 // the output of ID 0
	to     int    // the offset of the other node
	single bool
}

// singleMapping is the flag of an ID mapping that has an output and no input.
const singleMapping = 1 << 0

// lastID is the greatest ID.
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

// node begins a node. Its fixed part and extra bytes come before its mappings. Its identifier is
// its index among all nodes.
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
// 5 has a flag that says whether the index is valid. Linux 6.1 ignores the flag and applies the
// rule of earlier revisions: the index is valid unless all four GSIVs are given. It excludes the
// mapping that the index names from the mapping of StreamIDs. The node therefore has a single
// mapping, an index and the flag if a GSIV is missing or if the SMMU sends messages. The single
// mapping comes last, so a reader that takes the first match finds the mapping of the StreamIDs.
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

// Memory access properties.
const (
	memoryCoherent = 1      // cache coherency attribute
	memoryCPM      = 1 << 0 // flag: a coherent path to memory
	memoryDACS     = 1 << 1 // flag: attributes are cacheable and shareable
	memoryCANWBS   = 1 << 2 // flag: and no others are possible
)

// memory appends memory access properties.
func (t *iortBuilder) memory(nonCoherent, canWBS bool) {
	coherency, flags := uint32(memoryCoherent), uint8(memoryCPM|memoryDACS)
	if nonCoherent {
		coherency, flags = 0, 0
	}
	if canWBS {
		flags |= memoryCANWBS
	}
	t.u32(coherency)
	t.u8(0) // allocation hints
	t.u16(0)
	t.u8(flags)
}

func (t *iortBuilder) root(r PCIRoot, mappings []mapping) {
	ats := uint32(0)
	if r.ATS {
		ats = 1
	}
	t.node(nodeRoot, revRoot, rootSize, 0, mappings)
	t.memory(r.NonCoherent, r.CanWBS)
	t.u32(ats)
	t.u32(r.Segment)
	t.u8(r.AddressBits)
	t.u8(0)
	t.u16(0)
	t.mappings(mappings)
}

// Flags of a named component.
const (
	componentCanStall   = 1 << 0
	componentPASIDShift = 1
)

// name returns the path in the node's form: zero-terminated, and padded so that the mappings are at
// a multiple of 4 bytes. There is always padding: versions of iasl up to 20200925 reject a node
// without.
func (c *Component) name() []byte {
	name := append([]byte(c.Path), 0, 0)
	for (componentSize+len(name))%4 != 0 {
		name = append(name, 0)
	}
	return name
}

// component appends the node of a platform device. It has no input IDs: each StreamID is a single
// mapping.
func (t *iortBuilder) component(c Component, smmu int) {
	name := c.name()
	var mappings []mapping
	for _, sid := range c.StreamIDs {
		mappings = append(mappings, mapping{output: uint32(sid), to: smmu, single: true})
	}
	flags := c.PASIDBits << componentPASIDShift
	if c.CanStall {
		flags |= componentCanStall
	}
	t.node(nodeComponent, revComponent, componentSize, len(name), mappings)
	t.u32(flags)
	t.memory(c.NonCoherent, false)
	t.u8(c.AddressBits)
	t.b = append(t.b, name...)
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
