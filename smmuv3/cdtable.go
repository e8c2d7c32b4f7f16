package smmuv3

// CDTable is a stream's Context Descriptor table, as its STE describes it (§5.2).
type CDTable struct {
	Ptr uint64 // STE.S1ContextPtr
	Max uint8  // STE.S1CDMax: log2 of the number of CDs
	Fmt S1Fmt
}

// leafBits returns the number of SubstreamID bits that index a leaf of a two-level table, or 0 for
// a linear table. A table of one CD is linear with every Fmt. A table with the reserved Fmt is
// linear (§5.2).
func (t CDTable) leafBits() uint {
	if t.Max == 0 {
		return 0
	}
	return [4]uint{S1Fmt4K: 6, S1Fmt64K: 10}[t.Fmt&3]
}

// TwoLevel reports whether Ptr is the address of L1CDs, and not of CDs.
func (t CDTable) TwoLevel() bool { return t.leafBits() != 0 }

// Contains reports whether the table has room for the SubstreamID.
func (t CDTable) Contains(s SubstreamID) bool { return uint64(s)>>t.Max == 0 }

// base returns Ptr aligned to the size of its table. The lower bits are RES0, and §5.2 permits an
// SMMU to treat them as zero.
func (t CDTable) base() uint64 {
	size := uint64(CDSize) << t.Max
	if leaf := t.leafBits(); leaf != 0 {
		size = CDSize
		if uint(t.Max) > leaf {
			size = max(size, L1CDSize<<(uint(t.Max)-leaf))
		}
	}
	return t.Ptr &^ (size - 1)
}

// CDAddr returns the address of a CD in a linear table.
func (t CDTable) CDAddr(s SubstreamID) uint64 { return t.base() + CDSize*uint64(s) }

// L1CDAddr returns the address of the L1CD for a SubstreamID in a two-level table.
func (t CDTable) L1CDAddr(s SubstreamID) uint64 {
	return t.base() + L1CDSize*(uint64(s)>>t.leafBits())
}

// LeafCDAddr returns the address of a CD in the leaf table that an L1CD points to. The leaf table
// is aligned to its size (§5.3).
func (t CDTable) LeafCDAddr(d L1CD, s SubstreamID) uint64 {
	leaf := uint64(1) << t.leafBits()
	return d.L2Ptr()&^(CDSize*leaf-1) + CDSize*(uint64(s)&(leaf-1))
}
