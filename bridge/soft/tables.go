package soft

import (
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tables describes a set of translation tables, of either stage.
type tables struct {
	format     smmuv3.Format
	level      int    // where the walk begins
	base       uint64 // address of the first table, or of the concatenated tables
	input      uint   // bits of an input address
	outputBits uint   // bits of an output address
	bigEndian  bool
	haft       bool // the walk updates the Access flag of table descriptors
}

// setBase sets the address of the first table, aligned to the table's size: 8 bytes for each
// descriptor, and at least 64 if addresses have 52 bits (§5.4, TTB0; §5.2, S2TTB).
func (t *tables) setBase(addr uint64) {
	size := uint64(8) << (t.input - t.format.Granule.LevelShift(t.level))
	if t.outputBits >= 52 {
		size = max(size, 64)
	}
	t.base = addr &^ (size - 1)
}

// swapped converts a descriptor to its little-endian word in memory, or back.
func (t *tables) swapped(word uint64) uint64 {
	if t.bigEndian {
		return bits.ReverseBytes64(word)
	}
	return word
}

// read reads a descriptor, and returns its kind and output address, or its event (§7.3.22).
func (h *Host) read(
	t *tables, level int, at uint64,
) (d smmuv3.Desc, kind smmuv3.DescKind, addr uint64, event smmuv3.EventType) {
	word, err := h.load(at)
	if err != nil {
		return 0, 0, 0, smmuv3.FWalkEABT
	}
	d = smmuv3.Desc(t.swapped(word))
	kind = d.Kind(t.format, level)
	if kind == smmuv3.DescInvalid {
		return 0, 0, 0, smmuv3.FTranslation
	}
	addr = d.Addr(t.format, level)
	if addr>>t.outputBits != 0 {
		return 0, 0, 0, smmuv3.FAddrSize
	}
	return d, kind, addr, 0
}

// update replaces a descriptor. ok is false if the guest has changed it.
func (h *Host) update(t *tables, at uint64, was, is smmuv3.Desc) (ok bool, err error) {
	return h.swap.CompareAndSwap(guestmem.GPA(at), t.swapped(uint64(was)), t.swapped(uint64(is)))
}

// leaf is the result of a walk.
type leaf struct {
	pa     uint64 // start of the page or block
	size   uint   // log2 of its bytes
	global bool
	perms  permissions
}

// translate translates an address that lies in the leaf.
func (l leaf) translate(va uint64) translation {
	offset := va & (1<<l.size - 1)
	return translation{l.pa | offset, 1<<l.size - offset}
}

// through combines a leaf of stage 1 with the leaf of stage 2 for an address in it. The result has
// the smaller size, and the permissions that both grant.
func (l leaf) through(s2 leaf, va uint64) leaf {
	t := s2.translate(l.translate(va).pa)
	size := min(l.size, s2.size)
	return leaf{t.pa &^ (1<<size - 1), size, l.global, l.perms & s2.perms}
}

// maxUpdates limits how often a walk reads a descriptor again because the guest changed it during
// an update of its flags.
const maxUpdates = 16
