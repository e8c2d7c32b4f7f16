package smmuv3

// CDTable is a stream's Context Descriptor table, as its STE describes it
// (§5.2).
type CDTable struct {
	Ptr uint64 // STE.S1ContextPtr
	Max uint8  // STE.S1CDMax: log2 of the number of CDs
	Fmt S1Fmt
}

// leafBits is how many bits of a SubstreamID index a leaf of a two-level
// table, or 0 for a table that is linear: by Fmt, since the reserved one is
// (§5.2), or because there is one CD and Fmt is IGNORED.
func (t CDTable) leafBits() uint {
	if t.Max == 0 {
		return 0
	}
	return [4]uint{S1Fmt4K: 6, S1Fmt64K: 10}[t.Fmt&3]
}

// TwoLevel reports whether an L1CD stands between Ptr and the CDs.
func (t CDTable) TwoLevel() bool { return t.leafBits() != 0 }

// Contains reports whether the table has room for the SubstreamID.
func (t CDTable) Contains(s SubstreamID) bool { return uint64(s)>>t.Max == 0 }

// base is Ptr aligned to the size of the table that it points to. The bits
// below are RES0, and taking them as zero is one of the permitted ways to meet
// them (§5.2).
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

// CDAddr is where a CD lies in a table that is linear.
func (t CDTable) CDAddr(s SubstreamID) uint64 { return t.base() + CDSize*uint64(s) }

// L1CDAddr is where the L1CD for a SubstreamID lies in a two-level table.
func (t CDTable) L1CDAddr(s SubstreamID) uint64 {
	return t.base() + L1CDSize*(uint64(s)>>t.leafBits())
}

// LeafCDAddr is where a CD lies in the leaf table that an L1CD points to,
// which is aligned to its own size (§5.3).
func (t CDTable) LeafCDAddr(d L1CD, s SubstreamID) uint64 {
	n := t.leafBits()
	return d.L2Ptr()&^(CDSize<<n-1) + CDSize*(uint64(s)&(1<<n-1))
}
