package smmuv3

// StreamTable is the place and shape of the Stream table: STRTAB_BASE and STRTAB_BASE_CFG as the
// SMMU uses them (§3.3.1, §6.3.24, §6.3.25).
type StreamTable struct {
	Addr     uint64
	TwoLevel bool
	Log2Size uint   // log2 of the number of STEs, at most IDR1.SIDSIZE
	Split    uint   // the number of StreamID bits that index a level-2 table: 6, 8 or 10
	AddrMask uint64 // the bits of an address within the output address size
}

const (
	// splitUnit is STRTAB_BASE_CFG with SPLIT = 1.
	splitUnit = STRTAB_BASE_CFG_SPLIT &^ (STRTAB_BASE_CFG_SPLIT << 1)
	// fmtTwoLevel is STRTAB_BASE_CFG with FMT = 1.
	fmtTwoLevel = STRTAB_BASE_CFG_FMT &^ (STRTAB_BASE_CFG_FMT << 1)
)

// NewStreamTable returns the table that these register values describe on an SMMU with these ID
// registers. The size is capped at SIDSIZE. A SPLIT other than 6, 8 and 10 behaves as 6, a reserved
// FMT as linear. Without IDR0.ST_LEVEL, FMT and SPLIT are ignored. The base is aligned down to the
// size of the linear or level-1 table. This alignment uses LOG2SIZE without the cap (§6.3.24).
func NewStreamTable(base uint64, cfg uint32, ids IDRegs) StreamTable {
	log2 := uint(cfg & STRTAB_BASE_CFG_LOG2SIZE)
	t := StreamTable{
		Log2Size: min(log2, uint(ids.Get(SIDSIZE))),
		TwoLevel: ids.Has(STLevel) && cfg&STRTAB_BASE_CFG_FMT == fmtTwoLevel,
		Split:    6,
		AddrMask: ids.OutputMask(),
	}
	if s := uint(cfg & STRTAB_BASE_CFG_SPLIT / splitUnit); s == 8 || s == 10 {
		t.Split = s
	}
	align := 6 + log2
	if t.TwoLevel {
		align = max(6, 3+log2-min(log2, t.Split))
	}
	t.Addr = base & STRTAB_BASE_ADDR & t.AddrMask &^ (1<<align - 1)
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

// STEAddr returns the address of an STE in a linear table.
func (t StreamTable) STEAddr(sid StreamID) uint64 { return t.Addr + STESize*uint64(sid) }

// L1STDAddr returns the address of the level-1 descriptor for a StreamID in a two-level table.
func (t StreamTable) L1STDAddr(sid StreamID) uint64 {
	return t.Addr + L1STDSize*uint64(sid>>t.Split)
}

// Size returns the length in bytes of the table at Addr: the linear table, or the level-1 table.
func (t StreamTable) Size() uint64 {
	if t.TwoLevel {
		return L1STDSize * t.l1Entries()
	}
	return STESize << t.Log2Size
}
