// Package iorttest reads an IORT as DEN 0049E.e lays it out, and as Linux follows it. Its offsets are
// literals of its own, so that a wrong offset of the writer does not pass.
package iorttest

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"
)

// Reader reads a table. Its methods take offsets of nodes in the table.
type Reader struct {
	b []byte
	// Nodes are the offsets of all nodes.
	Nodes []int
}

// U8 reads a field.
func (r *Reader) U8(at int) uint8 { return r.b[at] }

// U16 reads a field.
func (r *Reader) U16(at int) uint16 { return binary.LittleEndian.Uint16(r.b[at:]) }

// U32 reads a field.
func (r *Reader) U32(at int) uint32 { return binary.LittleEndian.Uint32(r.b[at:]) }

// U64 reads a field.
func (r *Reader) U64(at int) uint64 { return binary.LittleEndian.Uint64(r.b[at:]) }

// Kind is the type of the node at an offset: 0 ITS group, 1 named component, 2 root complex,
// 4 SMMUv3, 6 RMR.
func (r *Reader) Kind(at int) uint8 { return r.U8(at) }

// Mappings is the number of mappings of a node.
func (r *Reader) Mappings(at int) int { return int(r.U32(at + 8)) }

// Mapping is the offset of a mapping of a node.
func (r *Reader) Mapping(at, n int) int { return at + int(r.U32(at+12)) + 20*n }

// Of lists the nodes of a kind, in the order of the table.
func (r *Reader) Of(kind uint8) (nodes []int) {
	for _, at := range r.Nodes {
		if r.Kind(at) == kind {
			nodes = append(nodes, at)
		}
	}
	return nodes
}

// Read checks the form of a table: header, checksum, lengths, alignment, references, and
// reserved fields.
func Read(t require.TestingT, b []byte) *Reader {
	r := &Reader{b: b}
	require.Equal(t, "IORT", string(b[0:4]))
	require.EqualValues(t, len(b), r.U32(4), "length")
	sum := byte(0)
	for _, v := range b {
		sum += v
	}
	require.Zero(t, sum, "checksum")
	require.GreaterOrEqual(t, r.U8(8), uint8(6), "table revision of node revision 5 of the SMMUv3")
	require.EqualValues(t, 48, r.U32(40), "offset of the first node")
	require.Zero(t, r.U32(44), "reserved")

	revisions := map[uint8]uint8{0: 1, 1: 4, 2: 3, 4: 5, 6: 3}
	sizes := map[uint8]int{0: 24, 2: 36, 4: 68, 6: 48} // without mappings; an ITS group of one, an RMR of one
	identifiers := map[uint32]bool{}
	for at := 48; at < len(b); at += int(r.U16(at + 1)) {
		kind, length := r.Kind(at), int(r.U16(at+1))
		if kind == 1 {
			sizes[1] = (29 + len(r.Path(at)) + 2 + 3) &^ 3 // the path, and at least one byte of padding
		}
		require.Contains(t, sizes, kind, "node at %#x", at)
		require.Zero(t, at%4, "alignment of the node at %#x", at)
		require.Equal(t, revisions[kind], r.U8(at+3), "revision of the node at %#x", at)
		require.False(t, identifiers[r.U32(at+4)], "identifier of the node at %#x", at)
		identifiers[r.U32(at+4)] = true
		require.Equal(t, sizes[kind]+20*r.Mappings(at), length, "length of the node at %#x", at)
		if r.Mappings(at) > 0 {
			require.EqualValues(t, sizes[kind], r.U32(at+12), "mapping offset of the node at %#x", at)
		} else {
			require.Zero(t, r.U32(at+12), "mapping offset of the node at %#x", at)
		}
		r.Nodes = append(r.Nodes, at)
	}
	require.Len(t, r.Nodes, int(r.U32(36)), "node count")

	targets := map[uint8][]uint8{1: {4}, 2: {0, 4}, 4: {0}, 6: {4}}
	for _, at := range r.Nodes {
		for n := range r.Mappings(at) {
			m := r.Mapping(at, n)
			to := int(r.U32(m + 12))
			require.Contains(t, r.Nodes, to, "reference of mapping %d of the node at %#x", n, at)
			require.Contains(t, targets[r.Kind(at)], r.Kind(to),
				"kind that mapping %d of the node at %#x refers to", n, at)
			require.Zero(t, r.U32(m+16)&^1, "reserved flags")
			require.LessOrEqual(t, uint64(r.U32(m+8))+uint64(r.U32(m+4)), uint64(1<<32-1), "outputs of mapping %d", n)
		}
		switch r.Kind(at) {
		case 0:
			require.EqualValues(t, 1, r.U32(at+16), "ITS count")
		case 1:
			require.Zero(t, r.U32(at+16)&^0x3f, "reserved flags")
			require.Zero(t, r.U8(at+24)|uint8(r.U16(at+25))|uint8(r.U16(at+25)>>8), "hints and reserved")
			require.Zero(t, r.U8(at+27)&^7, "reserved memory access flags")
		case 2:
			require.Zero(t, r.U8(at+20)|uint8(r.U16(at+21))|uint8(r.U16(at+21)>>8), "hints and reserved")
			require.Zero(t, r.U8(at+23)&^7, "reserved memory access flags")
			require.Zero(t, r.U32(at+24)&^1, "reserved ATS attributes")
			require.Zero(t, r.U8(at+33)|r.U8(at+34)|r.U8(at+35), "reserved")
		case 4:
			require.Zero(t, r.U32(at+24)&^(1|3<<1|1<<4), "flags that are reserved, or mean a proximity domain")
			require.NotEqual(t, uint32(3<<1), r.U32(at+24)&(3<<1), "reserved HTTU override")
			require.Zero(t, r.U32(at+28), "reserved")
			require.Zero(t, r.U64(at+32), "VATOS")
			require.Zero(t, r.U32(at+40), "model")
			require.Zero(t, r.U32(at+60), "proximity domain")
		case 6:
			require.EqualValues(t, 1, r.U32(at+20), "descriptors")
			require.EqualValues(t, 28, r.U32(at+24), "offset of the first")
			require.Zero(t, r.U32(at+44), "reserved")
		}
	}
	return r
}

// Path is the name of a named component's object.
func (r *Reader) Path(at int) string {
	name, _, _ := strings.Cut(string(r.b[at+29:]), "\x00")
	return name
}

// GSIVs are the event, PRI, GERR and sync interrupts of an SMMU's node.
func (r *Reader) GSIVs(at int) [4]uint32 {
	return [4]uint32{r.U32(at + 44), r.U32(at + 48), r.U32(at + 52), r.U32(at + 56)}
}

// IndexReader is a guest's reading of the DeviceID mapping index: -1 is none. bug is the guest's
// report of a firmware bug.
type IndexReader func(r *Reader, at int) (index int, bug string)

// Linux61 is iort_get_id_mapping_index of Linux 6.1, which knows no node revision 5.
func Linux61(r *Reader, at int) (int, string) {
	if r.Kind(at) != 4 || r.U8(at+3) < 1 {
		return -1, ""
	}
	if g := r.GSIVs(at); g[0] != 0 && g[1] != 0 && g[2] != 0 && g[3] != 0 {
		return -1, ""
	}
	index := r.U32(at + 64)
	if index >= uint32(r.Mappings(at)) {
		return -1, "ID mapping index overflows valid mappings"
	}
	return int(index), ""
}

// Linux73 is the reader of Linux 7.3. It reads nodes before revision 5 as Linux 6.1 does.
func Linux73(r *Reader, at int) (int, string) {
	if r.Kind(at) != 4 || r.U8(at+3) < 5 {
		return Linux61(r, at)
	}
	if r.U32(at+24)&(1<<4) == 0 {
		return -1, ""
	}
	index := r.U32(at + 64)
	if index >= uint32(r.Mappings(at)) {
		return -1, "ID mapping index overflows valid mappings"
	}
	return int(index), ""
}

// Follow is Linux's iort_node_map_id: it follows an ID from a node to one of a kind.
func (r *Reader) Follow(read IndexReader, at int, id uint32, kind uint8) (to int, out uint32, err error) {
	for r.Kind(at) != kind {
		own := -1
		if r.Mappings(at) > 0 { // otherwise Linux does not look at the index
			index, bug := read(r, at)
			if bug != "" {
				return 0, 0, fmt.Errorf("node at %#x: %s", at, bug)
			}
			own = index
		}
		next, in, again := -1, id, false
		for n := range r.Mappings(at) {
			m := r.Mapping(at, n)
			if n == own {
				continue
			}
			if r.U32(m+16)&1 != 0 {
				if r.Kind(at) != 2 {
					return 0, 0, fmt.Errorf("node at %#x: single mapping not allowed here", at)
				}
				next, id = int(r.U32(m+12)), r.U32(m+8)
				break
			}
			base, count := r.U32(m), r.U32(m+4)
			if in < base || in-base > count {
				continue
			}
			if again {
				return 0, 0, fmt.Errorf("node at %#x: conflicting mapping for %#x", at, in)
			}
			next, id = int(r.U32(m+12)), r.U32(m+8)+in-base
			if count == 0 || in-base != count {
				break
			}
			again = true // the last ID of a range may be a count that is one too many
		}
		if next < 0 {
			return 0, 0, fmt.Errorf("node at %#x maps %#x nowhere", at, in)
		}
		at = next
	}
	return at, id, nil
}

// Own is Linux's iort_set_device_domain and iort_pmsi_get_dev_id: the DeviceID of an SMMU's own
// messages. ok is false if the SMMU sends none.
func (r *Reader) Own(read IndexReader, at int) (id uint32, ok bool, err error) {
	index, bug := read(r, at)
	switch {
	case bug != "":
		return 0, false, fmt.Errorf("node at %#x: %s", at, bug)
	case index < 0:
		return 0, false, nil
	}
	m := r.Mapping(at, index)
	if r.U32(m+16)&1 == 0 {
		return 0, false, fmt.Errorf("node at %#x: invalid MSI mapping", at)
	}
	if r.Kind(int(r.U32(m+12))) != 0 {
		return 0, false, fmt.Errorf("node at %#x: messages go to no ITS", at)
	}
	return r.U32(m + 8), true, nil
}

// FreeBSD is iort_pci_rc_map of FreeBSD 14: the DeviceID of a requester behind a root complex. It
// does not check the SMMU's node revision, and takes the number of IDs of a mapping for one more
// than it is, so it never finds the last ID.
func (r *Reader) FreeBSD(root int, requester uint32) (device uint32, ok bool) {
	at, id := root, requester
	for r.Kind(at) != 0 {
		own := -1
		if index, bug := Linux61(r, at); bug == "" {
			own = index
		}
		next := -1
		for n := range r.Mappings(at) {
			m := r.Mapping(at, n)
			base, end := r.U32(m), r.U32(m)+r.U32(m+4)-1
			if n == own || id < base || id > end {
				continue
			}
			next = int(r.U32(m + 12))
			if r.U32(m+16)&1 != 0 {
				base = id
			}
			id = r.U32(m+8) + id - base
			break
		}
		if next < 0 {
			return 0, false
		}
		at = next
	}
	return id, true
}

// FreeBSDAttaches returns an error if FreeBSD's driver does not attach to an SMMU: it needs the
// interrupts of events, CMD_SYNC and errors, and uses no messages.
func (r *Reader) FreeBSDAttaches(at int) error {
	g := r.GSIVs(at)
	for i, name := range []string{"event", "", "GERR", "sync"} {
		if name != "" && g[i] == 0 {
			return fmt.Errorf("node at %#x: no GSIV: %s", at, name)
		}
	}
	return nil
}
