package soft

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// context is a legal Context Descriptor in the form that translations want.
type context struct {
	index smmuv3.SubstreamID // in the table of CDs
	time  uint64             // when its fetch began

	space
	halves    [2]halfSpace // by bit 55 of the address
	affd      bool
	ha, hd    bool // hd implies ha
	wxn       bool
	pan, epan bool
	abort     bool // A: a terminated transaction is aborted, and not RAZ/WI
	record    bool // R
	stall     bool // S
}

// halfSpace is what the CD says of the addresses that one table base
// translates.
type halfSpace struct {
	same uint64 // bits of the address that must equal bit 55 (§3.4.1)
	walk bool   // EPDx is 0: the rest has a meaning
	e0pd bool
	had  bool
	tables
}

// newContext makes a context of a CD that is legal.
func newContext(cd *smmuv3.CD, ids *smmuv3.IDRegs) *context {
	c := &context{
		space:  space{cd.ASID(), cd.ASET()},
		affd:   cd.AFFD(),
		ha:     cd.HA(),
		hd:     cd.HA() && cd.HD(), // HD alone behaves as neither (§5.4)
		wxn:    cd.WXN(),
		pan:    cd.PAN(),
		epan:   cd.EPAN() && ids.Has(smmuv3.EPAN),
		abort:  cd.A(),
		record: cd.R(),
		stall:  cd.S(),
	}
	for x := range uint(2) {
		h := &c.halves[x]
		top := ^uint64(0)
		if cd.TBIx(x) {
			top = vaMask
		}
		if cd.EPDx(x) {
			// TxSZ is IGNORED; any address of this half faults alike.
			continue
		}
		h.walk = true
		h.e0pd = cd.E0PDx(x) && ids.Has(smmuv3.E0PD)
		h.had = cd.HADx(x) && ids.Has(smmuv3.HAD)
		h.tables = tables{
			format:     cd.Format(x, ids),
			input:      64 - cd.TxSZ(x),
			outputBits: cd.OutputBits(ids),
			bigEndian:  cd.ENDI(),
			haft:       cd.HAFT() && ids.Get(smmuv3.HTTU) == httuTables,
		}
		h.level = h.format.Granule.StartLevel(h.input)
		h.setBase(cd.TTBx(x, ids))
		h.same = top &^ (1<<h.input - 1)
	}
	return c
}

// half finds the half that an address lies in; ok is false if it lies in
// neither.
func (c *context) half(va uint64) (h *halfSpace, ok bool) {
	x := va >> 55 & 1
	h = &c.halves[x]
	return h, (va^-x)&h.same == 0
}

// cdSlots is how many CDs are cached for a stream, at most.
const cdSlots = 64

// cdSlot holds the last context used of all that have its place.
type cdSlot struct {
	context atomic.Pointer[context]
	time    atomic.Uint64 // of the last invalidation
}

// context returns the context with an index, from the cache or from memory.
// What makes it useless is not cached, so that the next transaction sees what
// the guest has made of it.
func (b *binding) context(index smmuv3.SubstreamID, iova uint64, a *access) (*context, *refusal) {
	slot := &b.cds[int(index)&(len(b.cds)-1)]
	if c := slot.context.Load(); c != nil && c.index == index && c.time >= slot.time.Load() {
		return c, nil
	}
	now := b.host.clock.Load() // before the first byte is read
	c, r := b.fetch(index, iova, a)
	if r != nil {
		return nil, r
	}
	c.index, c.time = index, now
	slot.context.Store(c)
	return c, nil
}

// fetch reads and judges a CD, for a transaction to an address.
func (b *binding) fetch(index smmuv3.SubstreamID, iova uint64, a *access) (*context, *refusal) {
	h := b.host
	at := b.table.CDAddr(index)
	if b.table.TwoLevel() {
		l1, r := b.physical(b.table.L1CDAddr(index), forCD, iova, a)
		if r != nil {
			return nil, r
		}
		word, err := h.load(l1)
		if err != nil {
			return nil, b.configFetch(a, l1)
		}
		d := smmuv3.L1CD(word)
		if !d.V() || d.L2Ptr()&^h.outputMask != 0 {
			return nil, b.badSubstream(index)
		}
		at = b.table.LeafCDAddr(d, index)
	}
	at, r := b.physical(at, forCD, iova, a)
	if r != nil {
		return nil, r
	}

	var p [smmuv3.CDSize]byte
	if err := h.mem.ReadAt(p[:], guestmem.GPA(at)); err != nil {
		return nil, b.configFetch(a, at)
	}
	cd := smmuv3.LoadCD(&p)
	if cd.Illegal(&h.ids, b.stage.S1STALLD) != nil {
		return nil, b.configError(smmuv3.CBadCD, a)
	}
	return newContext(&cd, &h.ids), nil
}

// invalidateCD withdraws one CD, and whatever shares its place.
func (b *binding) invalidateCD(index smmuv3.SubstreamID, now uint64) {
	if len(b.cds) != 0 {
		b.cds[int(index)&(len(b.cds)-1)].time.Store(now)
	}
}

func (b *binding) invalidateCDs(now uint64) {
	for i := range b.cds {
		b.cds[i].time.Store(now)
	}
}
