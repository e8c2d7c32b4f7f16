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
	atcs := false
	for i := range cmds {
		c := &cmds[i]
		if !h.withdraw(c, now) && err == nil {
			err = fmt.Errorf("soft: invalidate: %v is none of a host's commands", c.Opcode())
		}
		atcs = atcs || c.Opcode() == smmuv3.OpATCInv
	}
	h.sections.Drain()
	if atcs && err == nil {
		err = h.invalidateATCs(cmds)
	}
	return err
}

// withdraw carries out one command for transactions that start from now on. It
// reports whether it knows the command.
//
// TLBI_S2_IPA is for what stage 2 translates alone. What it has translated along with
// stage 1 the architecture leaves to a TLBI_NH_ALL or TLBI_NH_VAA that software sends
// besides (§4.4.3.1), and a stage 1 walk translates the addresses of its tables anew.
func (h *Host) withdraw(c *smmuv3.Command, now uint64) bool {
	switch c.Opcode() {
	case smmuv3.OpTLBINSNHAll:
		for _, t := range h.tlbs.inUse {
			t.invalidateAll(now)
		}
	case smmuv3.OpTLBIS12VMAll:
		for _, t := range h.tlbs.of(c.VMID()) {
			if t != nil {
				t.invalidateAll(now)
			}
		}
	case smmuv3.OpTLBIS2IPA:
		if t := h.tlbs.of(c.VMID())[ofStage2]; t != nil {
			t.withdrawRange(rangeOf(c, &h.ids), 0, false, now)
		}
	case smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA:
		tlbs := h.tlbs.of(c.VMID())
		if t := tlbs[ofStage1]; t != nil {
			h.withdrawStage1(t, c, now)
		}
		if t := tlbs[ofNested]; t != nil {
			h.withdrawStage1(t, c, now)
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
		// The endpoints' turn comes when the TLB's is over.
	default:
		return false
	}
	return true
}

// withdrawStage1 carries out a TLBI_NH_* on a TLB of VAs.
func (h *Host) withdrawStage1(t *tlb, c *smmuv3.Command, now uint64) {
	switch c.Opcode() {
	case smmuv3.OpTLBINHAll:
		t.invalidateAll(now)
	case smmuv3.OpTLBINHASID:
		t.invalidateASID(c.ASID(), now)
	case smmuv3.OpTLBINHVA:
		t.withdrawRange(rangeOf(c, &h.ids), c.ASID(), false, now)
	case smmuv3.OpTLBINHVAA:
		t.withdrawRange(rangeOf(c, &h.ids), 0, true, now)
	}
}

// maxPages is how many pages one command invalidates one by one. Beyond that
// it takes less time to throw more away.
const maxPages = 128

// withdrawRange takes the entries at some addresses, of an ASID or of all, and the
// global ones. Entries have whole pages and blocks, so each size that may be held is
// looked for by itself. Where blocks have been fractured, an address is for entries
// anywhere in its block, and of other sizes than its level tells.
func (t *tlb) withdrawRange(r span, asid smmuv3.ASID, allASIDs bool, now uint64) {
	forms := t.forms.Load()
	if forms&formFractured != 0 {
		t.withdrawAny(asid, allASIDs, now)
		return
	}
	for m := forms & r.sizes; m != 0; m &= m - 1 {
		size := uint(bits.TrailingZeros64(m)) & 63
		first, last := r.first>>size, r.last>>size
		switch {
		case last-first >= maxPages:
			t.withdrawAny(asid, allASIDs, now)
			return
		case !allASIDs:
			// Most commands are for one region that holds nothing, which it takes no call
			// to see.
			if first>>logRegion != last>>logRegion || t.regionOf(first<<keyPage|uint64(size), asid).Load() != 0 {
				t.clearPages(uint64(size), asid, first, last)
			}
			if forms&formGlobal != 0 {
				t.clearPages(uint64(size)|keyGlobal, 0, first, last)
			}
			continue
		}
		for page := first; page <= last; page++ {
			t.invalidatePlace(page<<size, size, now)
		}
	}
}

// withdrawAny takes the entries of an ASID or of all, and the global ones, wherever
// they are.
func (t *tlb) withdrawAny(asid smmuv3.ASID, allASIDs bool, now uint64) {
	if allASIDs || t.forms.Load()&formGlobal != 0 {
		t.invalidateAll(now)
		return
	}
	t.invalidateASID(asid, now)
}

// span is the addresses that an invalidation reaches, both ends included, and
// the sizes of entries, bit n for 2^n bytes.
type span struct{ first, last, sizes uint64 }

// rangeOf reads the fields for ranges and levels (§4.4.1.1).
func rangeOf(c *smmuv3.Command, ids *smmuv3.IDRegs) span {
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
	// TTL counts with Leaf = 1 only. Linux 5.8 to 6.4 sends Leaf = 0 and TTL = 3 for whole
	// tables that hold blocks.
	if level := int(c.TTL()); c.Leaf() && level != 0 && !(level == 1 && noLevel1) {
		s.sizes = 1 << g.LevelShift(level)
		return s
	}
	for level := range 4 {
		s.sizes |= 1 << g.LevelShift(level)
	}
	return s
}
