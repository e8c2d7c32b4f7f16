package soft

import (
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tables are a set of translation tables, of either stage.
type tables struct {
	format     smmuv3.Format
	level      int    // at which the walk begins
	base       uint64 // of the first table, or of as many as are concatenated
	input      uint   // bits of the addresses that are translated
	outputBits uint   // and of those that may come out
	bigEndian  bool
	haft       bool // the Access flag of table descriptors is updated
}

// setBase aligns the address of the first table to its size: 8 bytes for each
// descriptor, but no less than 64 where addresses have 52 bits (§5.4, TTB0; §5.2,
// S2TTB).
func (t *tables) setBase(addr uint64) {
	size := uint64(8) << (t.input - t.format.Granule.LevelShift(t.level))
	if t.outputBits >= 52 {
		size = max(size, 64)
	}
	t.base = addr &^ (size - 1)
}

// swapped turns a descriptor as it lies in memory, read as little-endian, into a
// descriptor, and back.
func (t *tables) swapped(word uint64) uint64 {
	if t.bigEndian {
		return bits.ReverseBytes64(word)
	}
	return word
}

// read reads the descriptor of a level, and says what it is and where it points to;
// or the event that comes of it (§7.3.22).
func (h *Host) read(t *tables, level int, at uint64) (d smmuv3.Desc, kind smmuv3.DescKind, addr uint64, event smmuv3.EventType) {
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

// update puts a descriptor in the place of another. ok is false if the guest was
// faster.
func (h *Host) update(t *tables, at uint64, was, is smmuv3.Desc) (ok bool, err error) {
	return h.swap.CompareAndSwap(guestmem.GPA(at), t.swapped(uint64(was)), t.swapped(uint64(is)))
}

// leaf is what a walk ends in.
type leaf struct {
	pa     uint64 // where the page or block begins
	size   uint   // log2 of its bytes
	global bool
	perms  permissions
}

// translate is where the leaf takes an address that lies in it.
func (l leaf) translate(va uint64) translation {
	offset := va & (1<<l.size - 1)
	return translation{l.pa | offset, 1<<l.size - offset}
}

// through is what two stages make of the address together, of which l is the
// first's: as much as both translate alike, and what both let pass.
func (l leaf) through(s2 leaf, va uint64) leaf {
	t := s2.translate(l.translate(va).pa)
	size := min(l.size, s2.size)
	return leaf{t.pa &^ (1<<size - 1), size, l.global, l.perms & s2.perms}
}

// maxUpdates bounds how often a walk starts over at a descriptor that the guest
// changes while its flags are being updated.
const maxUpdates = 16
