package smmuv3

// StreamTable is the place and shape of the Stream table as STRTAB_BASE and
// STRTAB_BASE_CFG give it (§3.3.1, §6.3.24, §6.3.25).
type StreamTable struct {
	Addr     uint64
	TwoLevel bool
	Log2Size uint   // log2 of the number of STEs, at most IDR1.SIDSIZE
	Split    uint   // StreamID bits that index a level-2 table: 6, 8 or 10
	AddrMask uint64 // the output address size, which addresses are cut to
}

// L1STDSize is the size of an L1STD in bytes.
const L1STDSize = 8

// Fields of the registers.
const (
	STRTABBaseMask = BaseRA | BaseAddrMask&^0x3f
	STRTABCfgMask  = 0x307ff // LOG2SIZE [5:0], SPLIT [10:6], FMT [17:16]

	STRTABCfgLog2Size = 0x3f
)

// NewStreamTable reads the registers as an SMMU with these ID registers does:
// the size is capped at SIDSIZE, a SPLIT other than 6, 8 and 10 behaves as 6,
// FMT and SPLIT mean nothing without two-level tables, and a reserved FMT is
// linear. The base is aligned down to the size of what it points to, which is
// here the size that LOG2SIZE says and not the capped one (§6.3.24).
func NewStreamTable(base uint64, cfg uint32, ids IDRegs) StreamTable {
	c := uint64(cfg)
	log2 := uint(bits(c, 0, 6))
	t := StreamTable{
		Log2Size: min(log2, uint(ids.Get(SIDSIZE))),
		TwoLevel: ids.Has(STLevel) && bits(c, 16, 2) == 1,
		Split:    6,
		AddrMask: ids.OutputMask(),
	}
	if s := uint(bits(c, 6, 5)); s == 8 || s == 10 {
		t.Split = s
	}
	align := 6 + log2
	if t.TwoLevel {
		align = max(6, 3+log2-min(log2, t.Split))
	}
	t.Addr = base & STRTABBaseMask & BaseAddrMask & t.AddrMask &^ (1<<align - 1)
	return t
}

func (t StreamTable) l1Entries() uint64 {
	if t.Log2Size <= t.Split {
		return 1
	}
	return 1 << (t.Log2Size - t.Split)
}

// Contains reports whether the table has room for the StreamID.
func (t StreamTable) Contains(sid StreamID) bool { return uint64(sid)>>t.Log2Size == 0 }

// STEAddr is where the STE lies in a linear table.
func (t StreamTable) STEAddr(sid StreamID) uint64 { return t.Addr + STESize*uint64(sid) }

// L1STDAddr is where the level-1 descriptor for a StreamID lies in a two-level
// table.
func (t StreamTable) L1STDAddr(sid StreamID) uint64 {
	return t.Addr + L1STDSize*uint64(sid>>t.Split)
}

// Size is the length in bytes of what Addr points to: the linear table, or the
// level-1 table.
func (t StreamTable) Size() uint64 {
	if t.TwoLevel {
		return L1STDSize * t.l1Entries()
	}
	return STESize << t.Log2Size
}

// L1STD is a Level 1 Stream Table Descriptor (§5.1).
//
//	 63      56 55                            6 5 4    0
//	+----------+-------------------------------+-+------+
//	|   RES0   |          L2Ptr[55:6]          |0| Span |
//	+----------+-------------------------------+-+------+
type L1STD uint64

// Span is L1STD.Span: 0 for an invalid descriptor, otherwise the level-2 table
// holds 2^(Span-1) STEs.
func (d L1STD) Span() uint { return uint(bits(uint64(d), 0, 5)) }

// STEs is how many STEs the level-2 table holds for a table of this shape. It
// is 0 where the descriptor is invalid: Span 0, reserved (above 11), or more
// than SPLIT lets a StreamID reach (§5.1).
func (d L1STD) STEs(t StreamTable) uint64 {
	span := d.Span()
	if span == 0 || span > 11 || span > t.Split+1 {
		return 0
	}
	return 1 << (span - 1)
}

// L2Ptr is the address of the level-2 table. Bits below the table's size are
// taken as zero (§5.1); bits above the output address size are not cut.
func (d L1STD) L2Ptr() uint64 {
	align := uint64(STESize)
	if span := d.Span(); span > 0 {
		align <<= span - 1
	}
	return uint64(d) & BaseAddrMask &^ (align - 1)
}
