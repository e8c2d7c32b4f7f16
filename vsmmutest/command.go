package vsmmutest

import (
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func priResp(r smmuv3.PageRequest, how smmuv3.PRGResponse) smmuv3.Command {
	c := smmuv3.NewPRIResp(r.StreamID(), r.PRGIndex(), how)
	if r.SSV() {
		c = c.WithSubstream(r.SubstreamID())
	}
	return c
}

// tlbiRange returns the invalidations for n bytes in pages of a granule. op makes the command for
// an address. With ranges (IDR3.RIL) there is a command for each 5 bits of the number of pages, as
// in Linux's driver (§4.4.1.1).
func tlbiRange(
	op func(addr uint64) smmuv3.Command, addr, n uint64, g smmuv3.Granule, ranges bool,
) (cmds []smmuv3.Command) {
	for pages := n >> g; pages > 0; {
		c, take := op(addr), uint64(1)
		if ranges {
			scale := uint(bits.TrailingZeros64(pages))
			num := pages >> scale & 31
			take = num << scale
			if take > 1 { // NUM, SCALE and TTL of 0 are illegal
				c = c.WithRange(g, uint(num-1), scale, 0)
			}
		}
		cmds = append(cmds, c)
		pages, addr = pages-take, addr+take<<g
	}
	return cmds
}

// Invalidation returns the commands that invalidate the translations of n bytes of IOVAs in the
// address space.
func (s *Stage1) Invalidation(vmid smmuv3.VMID, iova, n uint64) []smmuv3.Command {
	op := func(addr uint64) smmuv3.Command { return smmuv3.NewTLBINHVA(vmid, s.ASID, addr, true) }
	return tlbiRange(op, iova, n, s.granule, s.ids.Has(smmuv3.RIL))
}

// Invalidation returns the commands that invalidate the translations of n bytes of IPAs. They also
// invalidate translations of a stage 1 that is nested on this stage 2 (§4.4.3.1).
func (s *Stage2) Invalidation(ipa, n uint64) []smmuv3.Command {
	op := func(addr uint64) smmuv3.Command { return smmuv3.NewTLBIS2IPA(s.VMID, addr, true) }
	return append(tlbiRange(op, ipa, n, s.granule, s.ids.Has(smmuv3.RIL)),
		smmuv3.NewTLBINHAll(s.VMID))
}

// atcInv returns the ATC_INV for the smallest aligned span that covers n bytes of IOVAs (§4.5.1).
func atcInv(sid smmuv3.StreamID, iova, n uint64) smmuv3.Command {
	size := uint(max(bits.Len64(iova^(iova+n-1)), 12) - 12)
	return smmuv3.NewATCInv(sid, iova&^(1<<(size+12)-1), size)
}
