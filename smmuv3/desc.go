package smmuv3

// Desc is a descriptor of a VMSAv8-64 translation table (D8.3.1). Leaves of stage 1 and of stage 2
// differ:
//
//	 63 62 61  60  59 54  53   52  51  47       12 11 10 9  8 7   6 5   2 1 0
//	+-+-------+---+---+-----+----+---+-----------+--+--+----+-----+------+-+-+
//	| |APTable|UXN|PXN|     |    |   |   next    |  |AF|    |     |      |1|1|  table
//	| |       |   |   |U PXN|Cont|DBM|  output   |nG|AF| SH | AP  | Attr |x|1|  leaf, stage 1
//	| |       |   |   | XN  |Cont|DBM|  output   |  |AF| SH | S2AP| Attr |x|1|  leaf, stage 2
//	+-+-------+---+---+-----+----+---+-----------+--+--+----+-----+------+-+-+
//
// 52-bit addresses have their bits [51:48] in bits [15:12] with the 64 KiB granule, and in bits
// [9:8] and [49:48] with the others. Table descriptors of stage 2 impose no limits. With CD.HAFT,
// table descriptors have an Access flag.
type Desc uint64

// The places of the fields. Those of table descriptors begin with descTable, those of leaves of
// stage 2 with descS2.
const (
	descValid      = 0 + wide
	descNotBlock   = 1 + wide // set in tables, and in pages at level 3
	descAddr       = 0 + 48*wide + address
	descAddr52_64K = 12 + 4*wide // address bits [51:48], 64 KiB granule
	descAddr52Hi   = 8 + 2*wide  // address bits [51:50], other granules
	descAddr52Lo   = 48 + 2*wide // address bits [49:48], other granules

	descAttrIndx = 2 + 3*wide
	descAP1      = 6 + wide
	descAP2      = 7 + wide
	descAP       = 6 + 2*wide
	descSH       = 8 + 2*wide
	descAF       = 10 + wide
	descNG       = 11 + wide
	descDBM      = 51 + wide
	descPXN      = 53 + wide
	descUXN      = 54 + wide

	descS2MemAttr = 2 + 4*wide
	descS2AP      = 6 + 2*wide
	descS2AP1     = 7 + wide
	descS2XN      = 53 + 2*wide

	descTablePXN = 59 + wide
	descTableUXN = 60 + wide
	descTableAP  = 61 + 2*wide
	descTableNS  = 63 + wide

	descNS         = 5 + wide
	descContiguous = 52 + wide
	descSW         = 55 + 4*wide
)

func (d Desc) get(p place) uint64 { return p.of(uint64(d)) }

func (d Desc) with(p place, v uint64) Desc { return Desc(p.in(uint64(d), v)) }

// DescKind is the kind of a descriptor in a table walk.
type DescKind uint8

// The kinds of descriptors.
const (
	DescInvalid DescKind = iota
	DescTable
	DescLeaf // a block or a page
)

// Kind returns the kind of the descriptor at a level (Table D8-48). A block is invalid at a level
// without blocks.
func (d Desc) Kind(f Format, level int) DescKind {
	const valid, notBlock = 1 << (descValid & 63), 1 << (descNotBlock & 63)
	switch {
	case d&valid == 0:
		return DescInvalid
	case d&notBlock != 0 && level < 3:
		return DescTable
	case d&notBlock != 0 || level < 3 && f.leafLevel(level):
		return DescLeaf
	}
	return DescInvalid
}

// Addr returns the address in the descriptor: of the next table, of a page or, for a leaf above
// level 3, of a block.
func (d Desc) Addr(f Format, level int) uint64 {
	lo := uint(f.Granule)
	if d.get(descNotBlock) == 0 {
		lo = f.Granule.LevelShift(level)
	}
	a := d.get(descAddr) &^ (1<<lo - 1)
	switch {
	case f.Granule == Granule64K:
		a |= d.get(descAddr52_64K) << 48
	case f.Wide:
		a |= d.get(descAddr52Hi)<<50 | d.get(descAddr52Lo)<<48
	}
	return a
}

// The limits that a table descriptor imposes on all levels below it (D8.4.1.2).

// APTable returns APTable[1:0]: bit 0 removes unprivileged access, bit 1 removes writes.
func (d Desc) APTable() uint8 { return uint8(d.get(descTableAP)) }

// UXNTable reports whether unprivileged execution is removed.
func (d Desc) UXNTable() bool { return d.get(descTableUXN) != 0 }

// PXNTable reports whether privileged execution is removed.
func (d Desc) PXNTable() bool { return d.get(descTablePXN) != 0 }

// The attributes of a leaf of stage 1 (Table D8-52).

// UXN reports unprivileged execute-never.
func (d Desc) UXN() bool { return d.get(descUXN) != 0 }

// PXN reports privileged execute-never.
func (d Desc) PXN() bool { return d.get(descPXN) != 0 }

// DBM reports the Dirty Bit Modifier: the SMMU may make the page writable.
func (d Desc) DBM() bool { return d.get(descDBM) != 0 }

// NG reports whether the leaf belongs to an ASID.
func (d Desc) NG() bool { return d.get(descNG) != 0 }

// AF returns the Access flag.
func (d Desc) AF() bool { return d.get(descAF) != 0 }

// AP returns AP[2:1]: bit 0 grants unprivileged access, bit 1 removes writes.
func (d Desc) AP() uint8 { return uint8(d.get(descAP)) }

// The attributes of a leaf of stage 2 (D8.4.2).

// S2AP returns S2AP[1:0]: bit 0 grants reads, bit 1 grants writes.
func (d Desc) S2AP() uint8 { return uint8(d.get(descS2AP)) }

// XN returns XN[1:0]. Without IDR3.XNX, bit 1 is execute-never. With it, 0b01 is privileged
// execute-never, 0b10 execute-never and 0b11 unprivileged execute-never.
func (d Desc) XN() uint8 { return uint8(d.get(descS2XN)) }

// Device reports whether the leaf's memory is Device memory. fwb is STE.S2FWB, which changes the
// encoding of MemAttr (D8.6.6).
func (d Desc) Device(fwb bool) bool {
	attr := d.get(descS2MemAttr)
	if fwb {
		return attr&0b0100 == 0
	}
	return attr&0b1100 == 0
}

// TableDesc returns a table descriptor without limits. The address is aligned to the granule and
// below 2^48.
func TableDesc(next uint64) Desc { return Desc(next).with(descValid, 1).with(descNotBlock, 1) }

// LeafAttrs are the attributes of a leaf. The zero value allows every access, and belongs to one
// address space.
type LeafAttrs struct {
	AttrIndx   uint8 // the index into MAIR, 0 to 7
	ReadOnly   bool
	Privileged bool // unprivileged accesses fault
	Global     bool // all address spaces: nG is 0
}

// LeafDesc returns the descriptor of a page at level 3, or of a block above it, with the Access
// flag set and Inner Shareable. The address is below 2^48 and aligned to the size that the level
// maps.
func LeafDesc(addr uint64, level int, a LeafAttrs) Desc {
	return Desc(addr).with(descValid, 1).with(descNotBlock, b2u(level == 3)).
		with(descAttrIndx, uint64(a.AttrIndx)).with(descAP1, b2u(!a.Privileged)).with(descAP2, b2u(a.ReadOnly)).
		with(descSH, 0b11).with(descNG, b2u(!a.Global)).WithAF()
}

// WithAF returns the descriptor with the Access flag set.
func (d Desc) WithAF() Desc { return d.with(descAF, 1) }

// WithDirty turns a writable-clean descriptor of stage 1 into a writable-dirty one: it clears AP[2]
// (D8.5.2).
func (d Desc) WithDirty() Desc { return d.with(descAP2, 0) }

// WithS2Dirty turns a writable-clean descriptor of stage 2 into a writable-dirty one: it sets
// S2AP[1].
func (d Desc) WithS2Dirty() Desc { return d.with(descS2AP1, 1) }
