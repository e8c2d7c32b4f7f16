package vsmmutest

import (
	"math/bits"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Fields of commands (Chapter 4).
const (
	leafOnly = 1 << 0 // dw1: CFGI_*.Leaf, TLBI_*.Leaf
	ssvBit   = 1 << 11
)

func cmdSync() smmuv3.Command { return smmuv3.Command{uint64(smmuv3.OpSync)} }

func cfgiAll() smmuv3.Command {
	return smmuv3.Command{uint64(smmuv3.OpCfgiSTERange), smmuv3.RangeAll}
}

func cfgiSTE(sid smmuv3.StreamID) smmuv3.Command {
	return smmuv3.Command{uint64(smmuv3.OpCfgiSTE) | uint64(sid)<<32, leafOnly}
}

func cfgiCD(sid smmuv3.StreamID, ssid smmuv3.SubstreamID) smmuv3.Command {
	return smmuv3.Command{uint64(smmuv3.OpCfgiCD) | uint64(ssid)<<12 | uint64(sid)<<32, leafOnly}
}

func priResp(r smmuv3.PageRequest, how smmuv3.PRGResponse) smmuv3.Command {
	c := smmuv3.Command{
		uint64(smmuv3.OpPRIResp) | uint64(r.StreamID())<<32,
		uint64(r.PRGIndex()) | uint64(how)<<12,
	}
	if r.SSV() {
		c[0] |= ssvBit | uint64(r.SubstreamID())<<12
	}
	return c
}

// tlbiRange returns invalidations by address for n bytes of pages of a granule. op has everything
// but the address and the range. With ranges (IDR3.RIL) it takes a command for each 5 bits of the
// number of pages, as in Linux's driver (§4.4.1.1).
func tlbiRange(op smmuv3.Command, addr, n uint64, g smmuv3.Granule, ranges bool) (cmds []smmuv3.Command) {
	pages := n >> g
	for pages > 0 {
		c := op
		c[1] |= addr
		take := uint64(1)
		if ranges && pages > 1 {
			scale := uint64(bits.TrailingZeros64(pages))
			num := pages >> scale & 31
			take = num << scale
			tg := (uint64(g) - 10) / 2
			c[0] |= (num-1)<<12 | scale<<20
			c[1] |= tg << 10
			if num == 1 && scale == 0 {
				c = smmuv3.Command{op[0], op[1] | addr} // NUM, SCALE and TTL of 0 are illegal with TG
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
	op := smmuv3.Command{uint64(smmuv3.OpTLBINHVA) | uint64(vmid)<<32 | uint64(s.ASID)<<48, leafOnly}
	return tlbiRange(op, iova, n, s.granule, s.ids.Has(smmuv3.RIL))
}

// Invalidation returns the commands that invalidate the translations of n bytes of IPAs. Where stage
// 1 is nested on this stage 2, what it caches goes as well (§4.4.3.1).
func (s *Stage2) Invalidation(ipa, n uint64) []smmuv3.Command {
	op := smmuv3.Command{uint64(smmuv3.OpTLBIS2IPA) | uint64(s.VMID)<<32, leafOnly}
	return append(tlbiRange(op, ipa, n, s.granule, s.ids.Has(smmuv3.RIL)),
		smmuv3.Command{uint64(smmuv3.OpTLBINHAll) | uint64(s.VMID)<<32})
}

// atcInv returns the ATC_INV for the smallest aligned span that covers n bytes of IOVAs (§4.5.1).
func atcInv(sid smmuv3.StreamID, iova, n uint64) smmuv3.Command {
	size := uint64(max(bits.Len64(iova^(iova+n-1)), 12) - 12)
	return smmuv3.Command{uint64(smmuv3.OpATCInv) | uint64(sid)<<32, iova&^(1<<(size+12)-1) | size}
}
