package smmuv3

// Granule is the size of the smallest page of a set of translation tables, and
// of a table in it, as log2 of bytes. Sections with a letter are of the Arm
// Architecture Reference Manual, DDI 0487.
type Granule uint8

const (
	Granule4K  Granule = 12
	Granule16K Granule = 14
	Granule64K Granule = 16
)

// HasGranule reports whether the SMMU walks tables of a granule (§6.3.6).
func (r IDRegs) HasGranule(g Granule) bool {
	switch g {
	case Granule4K:
		return r.Has(GRAN4K)
	case Granule16K:
		return r.Has(GRAN16K)
	case Granule64K:
		return r.Has(GRAN64K)
	}
	return false
}

// stride is how many bits of an address a full table resolves: descriptors
// have eight bytes.
func (g Granule) stride() uint { return uint(g) - 3 }

// LevelShift is log2 of the bytes that one descriptor at a level maps. The last
// level is 3.
func (g Granule) LevelShift(level int) uint { return uint(g) + g.stride()*uint(3-level) }

// StartLevel is the level at which the walk of an input address of this many
// bits begins (D8.2.8.1, D8.2.9.1, D8.2.10.1): -1 for more than 48 bits and the
// 4 KiB granule. There are more bits than the granule has.
func (g Granule) StartLevel(inputBits uint) int {
	return 3 - int((inputBits-uint(g)-1)/g.stride())
}

// Format is how the descriptors of a set of tables are laid out.
type Format struct {
	Granule Granule
	// Wide says that addresses have 52 bits: by CD.DS for the small granules
	// (§5.4), and for 64 KiB by the SMMU's output address size (IDR5.OAS).
	Wide bool
}

// leafLevel reports whether descriptors of a level may map memory: at level 3,
// and in blocks above it where the granule has them (Tables D8-17, D8-27 and
// D8-36). The largest block of each granule comes with 52-bit addresses.
func (f Format) leafLevel(level int) bool {
	switch level {
	case 3, 2:
		return true
	case 1:
		return f.Granule == Granule4K || f.Wide
	case 0:
		return f.Granule == Granule4K && f.Wide
	}
	return false
}

// Desc is a descriptor of a VMSAv8-64 translation table (D8.3.1), of stage 1
// or, where that differs, stage 2.
//
//	table  63     62:61        60        59     47:12      1 0
//	         |  APTable | UXNTable | PXNTable |  next table | 1 1
//	leaf   54    53    52       51    47:12    11   10   7     6      1 0
//	       UXN | PXN | Contig | DBM | output | nG | AF | AP[2] AP[1] | x 1
//	stage 2, table  63:12 next table, 1 1: nothing that limits what lies below
//	stage 2, leaf   54:53 XN, 7 write, 6 read, 5:2 MemAttr, the others as above; no nG
//
// Where addresses have 52 bits, their bits [51:48] are [15:12] of the descriptor
// with the 64 KiB granule, and [9:8] and [49:48] with the others.
// A table descriptor has its Access flag at bit 10, too, if CD.HAFT says so.
type Desc uint64

// DescKind is what a descriptor is to the walk that meets it.
type DescKind uint8

const (
	DescInvalid DescKind = iota
	DescTable
	DescLeaf // a block or a page
)

// Kind is what the descriptor is at a level (Table D8-48). Blocks where there can
// be none are invalid.
func (d Desc) Kind(f Format, level int) DescKind {
	switch {
	case d&1 == 0:
		return DescInvalid
	case d&2 != 0 && level < 3:
		return DescTable
	case d&2 != 0 || level < 3 && f.leafLevel(level):
		return DescLeaf
	}
	return DescInvalid
}

// Addr is the address in the descriptor: of the next table, of a page or, for
// a leaf above level 3, of a block.
func (d Desc) Addr(f Format, level int) uint64 {
	lo := uint(f.Granule)
	if d&2 == 0 {
		lo = f.Granule.LevelShift(level)
	}
	a := uint64(d) & (1<<48 - 1) &^ (1<<lo - 1)
	switch {
	case f.Granule == Granule64K:
		a |= bits(uint64(d), 12, 4) << 48
	case f.Wide:
		a |= bits(uint64(d), 8, 2)<<50 | bits(uint64(d), 48, 2)<<48
	}
	return a
}

// APTable, UXNTable and PXNTable of a table descriptor limit what lies below
// it (D8.4.1.2): bit 0 of APTable takes unprivileged access, bit 1 writes.
func (d Desc) APTable() uint8 { return uint8(bits(uint64(d), 61, 2)) }
func (d Desc) UXNTable() bool { return bit(uint64(d), 60) }
func (d Desc) PXNTable() bool { return bit(uint64(d), 59) }

// The attributes of a leaf (Table D8-52).

func (d Desc) UXN() bool { return bit(uint64(d), 54) }
func (d Desc) PXN() bool { return bit(uint64(d), 53) }
func (d Desc) DBM() bool { return bit(uint64(d), 51) }
func (d Desc) NG() bool  { return bit(uint64(d), 11) }
func (d Desc) AF() bool  { return bit(uint64(d), 10) }

// AP is AP[2:1]: bit 0 grants unprivileged access, bit 1 takes writes.
func (d Desc) AP() uint8 { return uint8(bits(uint64(d), 6, 2)) }

// The attributes of a leaf of stage 2 (D8.4.2).

// S2AP is S2AP[1:0]: bit 0 grants reads, bit 1 writes.
func (d Desc) S2AP() uint8 { return uint8(bits(uint64(d), 6, 2)) }

// XN is XN[1:0]: with IDR3.XNX bit 1, less bit 0, takes execution from
// unprivileged software, and one of them alone from privileged.
func (d Desc) XN() uint8 { return uint8(bits(uint64(d), 53, 2)) }

// Device reports whether the leaf makes its memory Device memory; fwb is STE.S2FWB,
// which has MemAttr mean something else (D8.6.6).
func (d Desc) Device(fwb bool) bool {
	if fwb {
		return !bit(uint64(d), 4)
	}
	return bits(uint64(d), 4, 2) == 0
}

// TableDesc is a table descriptor that limits nothing. The address is aligned
// to the granule, and below 2^48.
func TableDesc(next uint64) Desc { return Desc(next | 0b11) }

// LeafAttrs are what a leaf says besides the address. The zero value is memory
// of its address space that everyone reads, writes and executes.
type LeafAttrs struct {
	AttrIndx   uint8 // index into MAIR, 0 to 7
	ReadOnly   bool
	Privileged bool // not for unprivileged accesses
	Global     bool // of all address spaces: nG is 0
}

// LeafDesc is the descriptor of a page at level 3, or of a block above, with
// its Access flag set and Inner Shareable. The address is aligned to what the
// level maps, and below 2^48.
func LeafDesc(addr uint64, level int, a LeafAttrs) Desc {
	d := Desc(addr | 0b11<<8 | 0b01)
	d = Desc(setBits(uint64(d), 2, 3, uint64(a.AttrIndx)))
	d = Desc(setBit(uint64(d), 1, level == 3))
	d = Desc(setBit(uint64(d), 6, !a.Privileged))
	d = Desc(setBit(uint64(d), 7, a.ReadOnly))
	d = Desc(setBit(uint64(d), 11, !a.Global))
	return d.WithAF()
}

// WithAF is the descriptor with its Access flag set.
func (d Desc) WithAF() Desc { return d | 1<<10 }

// WithDirty is a writable-clean descriptor made writable-dirty: AP[2] cleared
// (D8.5.2).
func (d Desc) WithDirty() Desc { return d &^ (1 << 7) }

// WithS2Dirty is WithDirty at stage 2: S2AP[1] set.
func (d Desc) WithS2Dirty() Desc { return d | 1<<7 }
