package soft

import (
	"fmt"
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Invalidate implements bridge.Host.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return errHostClosed
	}
	if len(cmds) == 0 {
		return nil
	}
	now := h.clock.Add(1) + 1
	shown := h.shown.Load()
	var err error
	atcs := false
	for i := range cmds {
		c := &cmds[i]
		if !h.invalidate(c, shown, now) && err == nil {
			err = fmt.Errorf("%v is not a command a host executes", c.Opcode())
		}
		atcs = atcs || c.Opcode() == smmuv3.OpATCInv
	}
	store(&h.clock, now)
	h.sections.Drain()
	if atcs && err == nil {
		err = h.invalidateATCs(cmds, shown)
	}
	return err
}

// invalidate executes one command for transactions that start from now on. It reports whether
// it knows the command.
//
// TLBI_S2_IPA invalidates translations of stage 2 alone. To invalidate translations of both stages,
// software also sends a TLBI_NH_ALL or TLBI_NH_VAA (§4.4.3.1). Walks of stage 1 do not cache the
// physical addresses of their tables.
func (h *Host) invalidate(c *smmuv3.Command, shown *shown, now uint64) bool {
	switch c.Opcode() {
	case smmuv3.OpTLBINSNHAll:
		for _, d := range h.domains.inUse {
			d.invalidateAll(now)
		}
	case smmuv3.OpTLBIS12VMAll:
		for _, d := range h.domains.of(c.VMID()) {
			if d != nil {
				d.invalidateAll(now)
			}
		}
	case smmuv3.OpTLBIS2IPA:
		set := h.domains.of(c.VMID())
		if d := set[ofNested]; d != nil {
			d.invalidateTables(c, now)
		}
		if d := set[ofStage2]; d != nil {
			d.invalidateTables(c, now)
			d.invalidateRange(shown.rangeOf(c), 0, false, now)
		}
	case smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		set := h.domains.of(c.VMID())
		if d := set[ofStage1]; d != nil {
			d.invalidateStage1(c, shown, now)
		}
		if d := set[ofNested]; d != nil {
			d.invalidateStage1(c, shown, now)
		}
	case smmuv3.OpCfgiCD:
		if s := h.streams[c.StreamID()]; s != nil {
			s.ep.bound.Load().invalidateCD(c.SubstreamID(), now)
		}
	case smmuv3.OpCfgiCDAll:
		if s := h.streams[c.StreamID()]; s != nil {
			s.ep.bound.Load().invalidateCDs(now)
		}
	case smmuv3.OpATCInv:
		// invalidateATCs executes it after the TLB is invalidated.
	default:
		return false
	}
	return true
}

// invalidateStage1 executes a TLBI_NH_* in a domain of VAs.
func (d *domain) invalidateStage1(c *smmuv3.Command, shown *shown, now uint64) {
	asid := c.ASID() & shown.asidMask
	switch c.Opcode() {
	case smmuv3.OpTLBINHAll:
		d.invalidateAll(now)
	case smmuv3.OpTLBINHASID:
		d.invalidateASID(asid, now)
	case smmuv3.OpTLBINHVA:
		d.invalidateTables(c, now)
		d.invalidateRange(shown.rangeOf(c), asid, false, now)
	case smmuv3.OpTLBINHVAA:
		d.invalidateTables(c, now)
		d.invalidateRange(shown.rangeOf(c), 0, true, now)
	}
}

// maxPages is the largest number of pages that one command invalidates one by one. For more pages,
// invalidating a larger set is faster.
const maxPages = 128

// invalidateRange invalidates the entries in a range of addresses, of one ASID or of all, and
// global entries. It looks for each size in use separately, since an entry is a whole page or
// block. The entries of a fractured block have other sizes than the block. An address in such a
// block covers them all.
func (d *domain) invalidateRange(r span, asid smmuv3.ASID, allASIDs bool, now uint64) {
	forms := d.forms.Load()
	if forms&formFractured != 0 {
		d.invalidateSpace(asid, allASIDs, now)
		return
	}
	for m := forms & r.sizes; m != 0; m &= m - 1 {
		size := uint(bits.TrailingZeros64(m)) & 63
		first, last := r.first>>size, r.last>>size
		switch {
		case last-first >= maxPages:
			d.invalidateSpace(asid, allASIDs, now)
			return
		case !allASIDs:
			// Most commands cover one region without entries. Detect this case without a call.
			if first>>logRegion != last>>logRegion || d.region(first<<keyPage|uint64(size), asid).Load() != 0 {
				d.clearPages(uint64(size), asid, first, last)
			}
			if forms&formGlobal != 0 {
				d.clearPages(uint64(size)|keyGlobal, 0, first, last)
			}
			continue
		}
		for page := first; page <= last; page++ {
			d.invalidatePlace(page<<size, size, now)
		}
	}
}

// invalidateSpace invalidates the entries of one ASID or of all, and global entries, at every
// address.
func (d *domain) invalidateSpace(asid smmuv3.ASID, allASIDs bool, now uint64) {
	if allASIDs || d.forms.Load()&formGlobal != 0 {
		d.invalidateAll(now)
		return
	}
	d.invalidateASID(asid, now)
}

// span is the reach of an invalidation by address: the addresses from first to last, and the sizes
// of entries. Bit n of sizes means entries of 2^n bytes.
type span struct{ first, last, sizes uint64 }

// rangeRules are the rules of the SMMU that decide the span of a command.
type rangeRules struct {
	ril  bool
	ds   bool
	tgs  [4]smmuv3.Granule // by TG; 0 for none
	most [4]uint64         // the sizes of all pages and blocks, by TG
}

func newRangeRules(ids *smmuv3.IDRegs) rangeRules {
	r := rangeRules{
		ril: ids.Has(smmuv3.RIL),
		ds:  ids.Has(smmuv3.DS),
		tgs: [4]smmuv3.Granule{0, smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K},
	}
	for tg := 1; tg < len(r.tgs); tg++ {
		for level := range 4 {
			r.most[tg] |= 1 << r.tgs[tg].LevelShift(level)
		}
	}
	return r
}

// hasBlocks1 reports whether a granule has blocks at level 1. Without IDR5.DS, TTL = 1 is reserved
// for 16 KiB, and behaves as 0 (§4.4.1.1). With 64 KiB and without 52 bits there are no such
// blocks, so the hint is wrong.
func (s *shown) hasBlocks1(g smmuv3.Granule) bool {
	switch g {
	case smmuv3.Granule16K:
		return s.ranges.ds
	case smmuv3.Granule64K:
		return s.ids.OutputBits() >= 52
	}
	return true
}

// rangeOf returns the span of a command, from its range and level fields (§4.4.1.1).
func (s *shown) rangeOf(c *smmuv3.Command) span {
	va, tg := c.Addr()&vaMask, c.TG()&3
	if tg == 0 || !s.ranges.ril {
		return span{va, va, formSizes}
	}
	g, scale := s.ranges.tgs[tg], c.Scale()
	if s.ranges.ds {
		scale = min(scale, 39)
	} else {
		scale &= 0x1f // it has five bits
	}
	bytes := uint64(c.Num()+1) << (scale + uint(g))
	r := span{va, min(va+bytes-1, vaMask), s.ranges.most[tg]} // it does not wrap
	// The host uses TTL only with Leaf = 1. Linux 5.8 to 6.4 sends Leaf = 0 and TTL = 3 for whole
	// tables that hold blocks.
	if level := int(c.TTL()); c.Leaf() && level != 0 && (level != 1 || s.hasBlocks1(g)) {
		r.sizes = 1 << g.LevelShift(level)
	}
	return r
}
