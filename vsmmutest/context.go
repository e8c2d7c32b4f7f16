package vsmmutest

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// CDTable is a stream's Context Descriptor table in guest memory: a single CD, a linear table, or a
// table of two levels (§5.2, §5.4).
type CDTable struct {
	ram   *RAM
	shape smmuv3.CDTable
}

// maxCDs is log2 of the most CDs that a table can have (§6.3.2, SSIDSIZE).
const maxCDs = 20

// NewCDTable allocates a table of 2^log2 CDs. If log2 is 0, there is one CD, and f is ignored. Leaf
// tables of a two-level table are allocated when Entry first needs them.
func NewCDTable(r *RAM, f smmuv3.S1Fmt, log2 uint8) (*CDTable, error) {
	t, err := newCDTable(r, f, log2)
	if err != nil {
		return nil, err
	}
	size := uint64(smmuv3.CDSize) << log2
	if t.shape.TwoLevel() {
		last := smmuv3.SubstreamID(1)<<log2 - 1
		size = max(smmuv3.CDSize, t.shape.L1CDAddr(last)+smmuv3.L1CDSize)
	}
	at, err := r.Alloc(size)
	t.shape.Ptr = uint64(at)
	return t, err
}

// PlaceCDTable returns a table, as NewCDTable does, at an address that the test chooses. It writes
// nothing: unused parts of a large table need not be in memory.
func PlaceCDTable(r *RAM, at guestmem.GPA, f smmuv3.S1Fmt, log2 uint8) (*CDTable, error) {
	t, err := newCDTable(r, f, log2)
	if err == nil {
		t.shape.Ptr = uint64(at)
	}
	return t, err
}

func newCDTable(r *RAM, f smmuv3.S1Fmt, log2 uint8) (*CDTable, error) {
	if log2 > maxCDs {
		return nil, fmt.Errorf("vsmmutest: new CD table: 2^%d CDs, at most 2^%d", log2, maxCDs)
	}
	if f > smmuv3.S1Fmt64K {
		return nil, fmt.Errorf("vsmmutest: new CD table: format %d, not 0 to %d", f, smmuv3.S1Fmt64K)
	}
	if log2 == 0 {
		f = smmuv3.S1FmtLinear
	}
	return &CDTable{ram: r, shape: smmuv3.CDTable{Max: log2, Fmt: f}}, nil
}

// leafSize is the size of the leaf tables of a two-level table: 64 or 1024 CDs.
func (t *CDTable) leafSize() uint64 {
	if t.shape.Fmt == smmuv3.S1Fmt64K {
		return 64 << 10
	}
	return 4 << 10
}

// Shape returns the address and the layout of the table, as in an STE.
func (t *CDTable) Shape() smmuv3.CDTable { return t.shape }

const l1cdValid = 1 // L1CD.V (§5.3)

// Entry returns the address of a SubstreamID's CD. In a two-level table it allocates the leaf table
// if there is none.
func (t *CDTable) Entry(ssid smmuv3.SubstreamID) (guestmem.GPA, error) {
	if !t.shape.Contains(ssid) {
		return 0, fmt.Errorf("vsmmutest: CD %v: the table has 2^%d CDs", ssid, t.shape.Max)
	}
	if !t.shape.TwoLevel() {
		return guestmem.GPA(t.shape.CDAddr(ssid)), nil
	}
	l1 := guestmem.GPA(t.shape.L1CDAddr(ssid))
	w, err := t.ram.Load(l1)
	if err != nil {
		return 0, err
	}
	if !smmuv3.L1CD(w).V() {
		leaf, err := t.ram.Alloc(t.leafSize())
		if err != nil {
			return 0, err
		}
		w = uint64(leaf) | l1cdValid
		if err := t.ram.Store(l1, w); err != nil {
			return 0, err
		}
	}
	return guestmem.GPA(t.shape.LeafCDAddr(smmuv3.L1CD(w), ssid)), nil
}

// Set writes a SubstreamID's CD. It does not invalidate the cached CD; Guest.SetCD does.
func (t *CDTable) Set(ssid smmuv3.SubstreamID, cd smmuv3.CD) error {
	at, err := t.Entry(ssid)
	if err != nil {
		return err
	}
	return t.ram.storeEntry(at, cd[:])
}

// storeEntry writes an entry with its first word, which has the valid bit, last.
func (r *RAM) storeEntry(at guestmem.GPA, words []uint64) error {
	if err := r.Store(at+wordSize, words[1:]...); err != nil {
		return err
	}
	return r.Store(at, words[0])
}

// STE returns the Stream Table Entry of a stream whose stage 1 uses this table, as Linux's driver
// writes it. With more than one CD, transactions without a SubstreamID use CD 0.
func (t *CDTable) STE() (e smmuv3.STE) {
	e.SetV(true)
	e.SetConfig(smmuv3.ConfigS1)
	e.SetS1ContextPtr(t.shape.Ptr)
	e.SetS1CIR(writeBack)
	e.SetS1COR(writeBack)
	e.SetS1CSH(innerShareable)
	if t.shape.Max != 0 {
		e.SetS1CDMax(t.shape.Max)
		e.SetS1Fmt(t.shape.Fmt)
		e.SetS1DSS(smmuv3.S1DSSSubstream0)
	}
	return e
}

// STE returns the Stream Table Entry of a stream that this stage 2 alone translates.
func (s *Stage2) STE() (e smmuv3.STE) {
	e.SetV(true)
	e.SetConfig(smmuv3.ConfigS2)
	e.SetS2VMID(s.VMID)
	e.SetStage2(s.s2)
	return e
}

// Nested returns an STE with stage 1 as in e, nested on this stage 2. The addresses in e and in its
// tables are then IPAs.
func (s *Stage2) Nested(e smmuv3.STE) smmuv3.STE {
	e.SetConfig(smmuv3.ConfigNested)
	e.SetS2VMID(s.VMID)
	e.SetStage2(s.s2)
	return e
}

// BypassSTE returns the STE of a stream whose transactions bypass the SMMU.
func BypassSTE() (e smmuv3.STE) {
	e.SetV(true)
	e.SetConfig(smmuv3.ConfigBypass)
	return e
}

// AbortSTE returns the STE of a stream whose transactions abort without an event.
func AbortSTE() (e smmuv3.STE) {
	e.SetV(true)
	e.SetConfig(smmuv3.ConfigAbort)
	return e
}
