package vsmmutest

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// StreamTable is a Stream table in guest memory, linear or of two levels (§3.3.1).
type StreamTable struct {
	ram   *RAM
	shape smmuv3.StreamTable
}

// maxStreams is log2 of the most STEs that a table can have (§6.3.2, SIDSIZE).
const maxStreams = 32

// NewStreamTable allocates a table of 2^log2 STEs. split is 0 for a linear table. For a two-level
// table it is the number of StreamID bits that index a level 2 table: 6, 8 or 10. Level 2 tables
// are allocated when Entry first needs them.
func NewStreamTable(r *RAM, log2, split uint) (*StreamTable, error) {
	t, err := PlaceStreamTable(r, 0, log2, split)
	if err != nil {
		return nil, err
	}
	at, err := r.Alloc(max(t.shape.Size(), smmuv3.STESize))
	t.shape.Addr = uint64(at)
	return t, err
}

// PlaceStreamTable returns a table, as NewStreamTable does, at an address that the test chooses. It
// writes nothing.
func PlaceStreamTable(r *RAM, at guestmem.GPA, log2, split uint) (*StreamTable, error) {
	switch {
	case log2 > maxStreams:
		return nil, fmt.Errorf("vsmmutest: new stream table: 2^%d STEs, at most 2^%d", log2, maxStreams)
	case split != 0 && split != 6 && split != 8 && split != 10:
		return nil, fmt.Errorf("vsmmutest: new stream table: split %d, not 6, 8, 10 or 0 for a linear table", split)
	}
	return &StreamTable{ram: r, shape: smmuv3.StreamTable{
		Addr: uint64(at), TwoLevel: split != 0, Log2Size: log2, Split: split, AddrMask: smmuv3.BaseAddrMask,
	}}, nil
}

// Shape returns the address and the layout of the table.
func (t *StreamTable) Shape() smmuv3.StreamTable { return t.shape }

// Base returns the value of STRTAB_BASE for the table (§6.3.24).
func (t *StreamTable) Base() uint64 { return t.shape.Addr }

// Config returns the value of STRTAB_BASE_CFG for the table (§6.3.25): LOG2SIZE [5:0], SPLIT
// [10:6], FMT [17:16].
func (t *StreamTable) Config() uint32 {
	cfg := uint32(t.shape.Log2Size)
	if t.shape.TwoLevel {
		cfg |= uint32(t.shape.Split)<<6 | 1<<16
	}
	return cfg
}

// Entry returns the address of a StreamID's STE. In a two-level table it allocates the level 2
// table if there is none.
func (t *StreamTable) Entry(sid smmuv3.StreamID) (guestmem.GPA, error) {
	if !t.shape.Contains(sid) {
		return 0, fmt.Errorf("vsmmutest: STE of stream %v: the table has 2^%d STEs", sid, t.shape.Log2Size)
	}
	if !t.shape.TwoLevel {
		return guestmem.GPA(t.shape.STEAddr(sid)), nil
	}
	at := guestmem.GPA(t.shape.L1STDAddr(sid))
	w, err := t.ram.Load(at)
	if err != nil {
		return 0, err
	}
	d := smmuv3.L1STD(w)
	if d.STEs(t.shape) == 0 {
		l2, err := t.ram.Alloc(smmuv3.STESize << t.shape.Split)
		if err != nil {
			return 0, err
		}
		// L1STD (§5.1): L2Ptr, and in [4:0] Span, for 2^(Span-1) STEs.
		d = smmuv3.L1STD(uint64(l2) | uint64(t.shape.Split+1))
		if err := t.ram.Store(at, uint64(d)); err != nil {
			return 0, err
		}
	}
	return guestmem.GPA(d.L2Ptr()) + smmuv3.STESize*guestmem.GPA(sid&(1<<t.shape.Split-1)), nil
}

// Set writes a StreamID's STE, its first word last. It does not invalidate the cached STE;
// Guest.SetSTE does.
func (t *StreamTable) Set(sid smmuv3.StreamID, e smmuv3.STE) error {
	at, err := t.Entry(sid)
	if err != nil {
		return err
	}
	return t.ram.storeEntry(at, e[:])
}
