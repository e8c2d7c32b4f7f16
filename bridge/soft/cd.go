package soft

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// contextDesc is a legal Context Descriptor in the form that translations use.
type contextDesc struct {
	index smmuv3.SubstreamID // in the table of CDs
	time  uint64             // when its fetch began

	space
	halves    [2]halfSpace // by bit 55 of the address
	affd      bool
	ha, hd    bool // hd implies ha
	wxn       bool
	pan, epan bool
	abort     bool // A: a terminated transaction aborts; otherwise it is RAZ/WI
	record    bool // R
	stall     bool // S
}

// halfSpace is the CD's configuration of the addresses that one table base translates.
type halfSpace struct {
	same uint64 // bits of the address that must equal bit 55 (§3.4.1)
	walk bool   // EPDx is 0; otherwise the fields below are not used
	e0pd bool
	had  bool
	tables
}

// newContextDesc converts a CD that is legal on an SMMU with these ID registers.
func newContextDesc(cd *smmuv3.CD, ids *smmuv3.IDRegs) *contextDesc {
	c := &contextDesc{
		space:  space{cd.ASID(), cd.ASET()},
		affd:   cd.AFFD(),
		ha:     cd.HA(),
		hd:     cd.HA() && cd.HD(), // HD without HA has no effect (§5.4)
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
			continue // TxSZ is IGNORED; any address of this half faults
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

// half returns the half that contains an address. ok is false if neither does.
func (c *contextDesc) half(va uint64) (h *halfSpace, ok bool) {
	x := va >> 55 & 1
	h = &c.halves[x]
	return h, (va^-x)&h.same == 0
}

const (
	// cdSlots is the largest number of CDs cached for a stream.
	cdSlots = 64
	// maxCDSlots is the largest number of CDs cached for all streams together, besides one CD for
	// each stream.
	maxCDSlots = 4096
)

// cdBudget counts the slots for CDs. The host's lock guards it.
type cdBudget struct{ used int }

// alloc returns up to n slots, and at least one.
func (c *cdBudget) alloc(n int) []cdSlot {
	n = min(n, cdSlots)
	if c.used+n > maxCDSlots {
		n = 1
	}
	c.used += n
	return make([]cdSlot, n)
}

func (c *cdBudget) free(n int) { c.used -= n }

// cdSlot caches the most recently used CD of those that share the slot.
type cdSlot struct {
	desc atomic.Pointer[contextDesc]
	time atomic.Uint64 // of the last invalidation
}

// findCD returns the CD of a SubstreamID, from the cache or from memory. It does not cache an
// unusable CD, so the next transaction reads it again.
func (b *binding) findCD(index smmuv3.SubstreamID, iova uint64, a *access) (*contextDesc, *refusal) {
	if c := b.cachedCD(index); c != nil {
		return c, nil
	}
	now := b.host.clock.Load() // before the first byte is read
	c, r := b.fetchCD(index, iova, a)
	if r != nil {
		return nil, r
	}
	c.index, c.time = index, now
	b.cdSlot(index).desc.Store(c)
	return c, nil
}

func (b *binding) cdSlot(index smmuv3.SubstreamID) *cdSlot {
	return &b.cds[int(index)&(len(b.cds)-1)]
}

// cachedCD returns the CD of a SubstreamID from the cache, or nil.
func (b *binding) cachedCD(index smmuv3.SubstreamID) *contextDesc {
	slot := b.cdSlot(index)
	if c := slot.desc.Load(); c != nil && c.index == index && c.time >= slot.time.Load() {
		return c
	}
	return nil
}

// fetchCD reads and checks a CD, for a transaction to an address.
func (b *binding) fetchCD(index smmuv3.SubstreamID, iova uint64, a *access) (*contextDesc, *refusal) {
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
		if !d.V() || d.L2Ptr()&^b.shown.outputMask != 0 {
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
	if cd.Illegal(&b.shown.ids, b.stage.S1STALLD) != nil {
		return nil, b.configError(smmuv3.CBadCD, a)
	}
	return newContextDesc(&cd, &b.shown.ids), nil
}

// invalidateCD invalidates one CD, and the CDs that share its slot.
func (b *binding) invalidateCD(index smmuv3.SubstreamID, now uint64) {
	if len(b.cds) != 0 {
		b.cdSlot(index).time.Store(now)
	}
}

func (b *binding) invalidateCDs(now uint64) {
	for i := range b.cds {
		b.cds[i].time.Store(now)
	}
}
