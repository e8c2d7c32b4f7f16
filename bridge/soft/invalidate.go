package soft

import (
	"fmt"
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Invalidate is bridge.Host's.
func (h *Host) Invalidate(cmds []smmuv3.Command) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return fmt.Errorf("soft: invalidate: %w", bridge.ErrClosed)
	}
	if len(cmds) == 0 {
		return nil
	}
	now := h.clock.Add(1)
	var err error
	for _, c := range cmds {
		if !h.withdraw(c, now) && err == nil {
			err = fmt.Errorf("soft: invalidate: %v is none of a host's commands", c.Opcode())
		}
	}
	h.sections.Drain()
	return err
}

// withdraw carries out one command for transactions that start from now on. It
// reports whether it knows the command.
func (h *Host) withdraw(c smmuv3.Command, now uint64) bool {
	switch c.Opcode() {
	case smmuv3.OpTLBINHAll, smmuv3.OpTLBINSNHAll:
		h.tlb.invalidateAll(now)
	case smmuv3.OpTLBINHASID:
		h.tlb.invalidateASID(c.ASID(), now)
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		h.withdrawRange(c, now)
	case smmuv3.OpCfgiCD:
		if s := h.streams[c.StreamID()]; s != nil {
			s.ep.bound.Load().invalidateCD(c.SubstreamID(), now)
		}
	case smmuv3.OpCfgiCDAll:
		if s := h.streams[c.StreamID()]; s != nil {
			s.ep.bound.Load().invalidateCDs(now)
		}
	case smmuv3.OpATCInv:
		// Endpoints hold no translations.
	default:
		return false
	}
	return true
}

// maxPages is how many pages one command invalidates one by one. Beyond that
// it takes less time to throw more away.
const maxPages = 128

// withdrawRange carries out TLBI_NH_VA and TLBI_NH_VAA. Entries have whole
// pages and blocks, so each size that may be held is looked for by itself.
func (h *Host) withdrawRange(c smmuv3.Command, now uint64) {
	r := rangeOf(c, &h.ids)
	allASIDs := c.Opcode() == smmuv3.OpTLBINHVAA
	for m := h.tlb.forms.Load() & r.sizes; m != 0; m &= m - 1 {
		size := uint(bits.TrailingZeros64(m))
		first, last := r.first>>size, r.last>>size
		switch {
		case last-first >= maxPages && (allASIDs || h.tlb.forms.Load()&formGlobal != 0):
			h.tlb.invalidateAll(now)
			return
		case last-first >= maxPages:
			h.tlb.invalidateASID(c.ASID(), now)
			return
		case !allASIDs:
			h.tlb.invalidatePages(c.ASID(), first, last, size)
			continue
		}
		for page := first; page <= last; page++ {
			h.tlb.invalidatePlace(page<<size, size, now)
		}
	}
}

// span is the addresses that an invalidation reaches, both ends included, and
// the sizes of entries, bit n for 2^n bytes.
type span struct{ first, last, sizes uint64 }

// rangeOf reads the fields for ranges and levels (§4.4.1.1).
func rangeOf(c smmuv3.Command, ids *smmuv3.IDRegs) span {
	va := c.Addr() & vaMask
	g := [4]smmuv3.Granule{0, smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K}[c.TG()&3]
	if g == 0 || !ids.Has(smmuv3.RIL) {
		return span{va, va, formSizes}
	}
	scale, noLevel1 := c.Scale(), g == smmuv3.Granule16K
	if ids.Has(smmuv3.DS) {
		scale, noLevel1 = min(scale, 39), false
	} else {
		scale &= 0x1f // it has five bits
	}
	bytes := uint64(c.Num()+1) << (scale + uint(g))
	s := span{first: va, last: min(va+bytes-1, vaMask)} // it does not wrap
	if level := int(c.TTL()); level != 0 && !(level == 1 && noLevel1) {
		s.sizes = 1 << g.LevelShift(level)
		return s
	}
	for level := range 4 {
		s.sizes |= 1 << g.LevelShift(level)
	}
	return s
}
