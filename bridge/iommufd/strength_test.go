//go:build linux && (amd64 || arm64)

package iommufd

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// entry is a TLB entry of stage 1, or a cached table descriptor.
type entry struct {
	asid, granule uint64 // granule as TG encodes it
	level         uint64 // of the descriptor
	table         bool
	first, last   uint64 // addresses
}

// mustDrop reports whether an SMMU with IDR3.RIL, IDR5.DS and IDR0.ASID16 must drop the entry on a
// TLBI_NH_VA or TLBI_NH_VAA (§4.4.1.1, §4.4.2.3, §4.4.2.4). It follows the specification and reads
// raw bits.
func mustDrop(c smmuv3.Command, e entry, ril, ds, asid16 bool) bool {
	asid, addr := c[0]>>48, c[1]&^0xfff
	if !asid16 {
		if asid > 0xff {
			return false // §4.4: the upper bits are RES0
		}
	}
	if c[0]&0xff == 0x12 && asid != e.asid {
		return false
	}
	tg, ttl := c[1]>>10&3, c[1]>>8&3
	if !ril {
		tg = 0
	}
	last := addr // of a command without TG: the entries that contain the address
	if tg == 0 {
		ttl = 0
	} else {
		if tg != e.granule {
			return false
		}
		if tg == 2 && ttl == 1 && !ds {
			ttl = 0
		}
		num, scale := c[0]>>12&0x1f, c[0]>>20&0x1f
		if ds {
			scale = min(c[0]>>20&0x3f, 39)
		}
		size := (num + 1) << scale << (10 + 2*tg)
		if last = addr + size - 1; last < addr {
			last = ^uint64(0)
		}
	}
	if e.first > last || e.last < addr {
		return false
	}
	if e.table {
		return c[1]&1 == 0 && (ttl == 0 || e.level < ttl)
	}
	return ttl == 0 || e.level == ttl
}

// For any ID registers of the guest, the command for the hardware drops at least the entries that
// the guest's command drops. The hardware has every feature.
func TestInvalidate_drops_at_least_the_guests_entries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(n uint64) uint64 { return r.Uint64N(n) }
	var dropped [8]int
	var guests [8]*smmuv3.IDRegs
	var sets [8]*commandSet
	for shown := range guests {
		ids := wide()
		ids.IDR[3] = ids.IDR[3]&^(1<<10) | uint32(shown)&1<<10
		ids.IDR[5] = ids.IDR[5]&^(1<<7) | uint32(shown)>>1&1<<7
		ids.IDR[0] = ids.IDR[0]&^(1<<12) | uint32(shown)>>2&1<<12
		guests[shown], sets[shown] = ids, newCommandSet(ids)
	}
	for range 200_000 {
		shown := int(pick(8))
		ril, ds, asid16 := shown&1 != 0, shown&2 != 0, shown&4 != 0

		granule := 1 + pick(3)
		shift := 10 + 2*granule
		e := entry{asid: pick(3) << (8 * pick(2)), granule: granule, level: 1 + pick(3), table: pick(2) == 0}
		span := shift + (3-e.level)*(shift-3)
		if e.table {
			span += shift - 3 // a table covers the range of all its entries
		}
		base := pick(64) << shift
		e.first = base >> span << span
		e.last = e.first + 1<<span - 1

		c := smmuv3.Command{0x12 + pick(2) | pick(3)<<(8*pick(2))<<48 | pick(4)<<12 | (pick(4)+32*pick(2))<<20,
			(base+pick(3)<<shift)&^0xfff | pick(4)<<10 | pick(4)<<8 | pick(2)}
		if c.Illegal(guests[shown]) != nil {
			continue
		}
		var sent smmuv3.Command
		require.True(t, sets[shown].physical(&sent, &c))
		if mustDrop(c, e, ril, ds, asid16) {
			dropped[shown]++
			require.True(t, mustDrop(sent, e, true, true, true), "%#x sent as %#x, of %+v; shown %03b", [2]uint64(c), [2]uint64(sent), e, shown)
		}
	}
	for shown, n := range dropped {
		require.Greater(t, n, 100, "shown %03b", shown)
	}
}
