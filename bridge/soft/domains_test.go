package soft

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func newDomains(entries int, vmids smmuv3.VMID) (*domains, *atomic.Uint64) {
	clock := new(atomic.Uint64)
	return &domains{entries: entries, clock: clock, mask: vmids}, clock
}

// §3.17: a translation belongs to one VMID and one kind of address. Users of the same VMID and kind
// share a domain. Invalidations find the domain while it has a user. Users of another VMID or kind
// have another domain. A new domain holds no entries of an earlier one with the same tag.
func TestDomainBelongsToOneVMIDAndKind(t *testing.T) {
	all, clock := newDomains(64, 1<<16-1)
	type name struct {
		vmid smmuv3.VMID
		kind int
	}
	users := map[name]int{}
	has := map[name]*domain{}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		// VMIDs that differ in either byte alone.
		n := name{smmuv3.VMID(dice.IntN(2)<<8 | dice.IntN(2)), dice.IntN(kinds)}
		if dice.IntN(2) == 0 {
			d := all.acquire(n.vmid, n.kind)
			if users[n] == 0 {
				_, ok := d.lookup(space{asid: 1}, 0x1000, unprivRead)
				require.False(t, ok, "it holds an entry of another domain")
				d.forms.Or(1 << 12)
				_, ok = d.lookup(space{asid: 1}, 0x1000, unprivRead)
				require.False(t, ok, "it holds an entry of an earlier domain")
				pa := uint64(n.vmid)<<20 | uint64(n.kind)<<16
				d.insert(space{asid: 1}, 0x1000, leaf{pa: pa, size: 12, perms: unprivRead}, walkAt(clock.Load()), clock)
				tr, ok := d.lookup(space{asid: 1}, 0x1000, unprivRead)
				require.True(t, ok)
				require.Equal(t, pa, tr.pa)
				has[n] = d
			}
			require.Same(t, has[n], d)
			users[n]++
		} else if users[n] > 0 {
			all.release(has[n])
			users[n]--
		}
		seen := map[*domain]bool{}
		for _, vmid := range []smmuv3.VMID{0, 1, 2, 0x100, 0x101} {
			for kind, d := range all.of(vmid) {
				m := name{vmid, kind}
				require.Equal(t, users[m] != 0, d != nil, "VMID %d kind %d", vmid, kind)
				if d != nil {
					require.Same(t, has[m], d)
					require.False(t, seen[d], "shared")
					seen[d] = true
				}
			}
		}
		require.Len(t, all.inUse, len(seen))
		for i, d := range all.inUse {
			require.True(t, seen[d])
			require.Equal(t, i, d.index)
		}
	}
	all.release(nil)
}

// An invalidation of one domain leaves the entries of the others, at the same address and ASID.
func TestInvalidationReachesOneDomain(t *testing.T) {
	for name, invalidate := range map[string]func(d *domain, now uint64){
		"all":   (*domain).invalidateAll,
		"ASID":  func(d *domain, now uint64) { d.invalidateASID(1, now) },
		"place": func(d *domain, now uint64) { d.invalidatePlace(0x1000, 12, now) },
		"page":  func(d *domain, now uint64) { d.invalidateRange(span{0x1000, 0x1000, 1 << 12}, 1, false, now) },
	} {
		t.Run(name, func(t *testing.T) {
			all, clock := newDomains(64, 1<<16-1)
			var ds []*domain
			for _, vmid := range []smmuv3.VMID{0, 1, 0x100, 0xffff} {
				for kind := range kinds {
					ds = append(ds, all.acquire(vmid, kind))
				}
			}
			for _, d := range ds {
				d.insert(space{asid: 1}, 0x1000, leaf{pa: uint64(d.tag) << 12, size: 12, perms: unprivRead}, walkAt(clock.Load()), clock)
			}
			invalidate(ds[4], clock.Add(1))
			for i, d := range ds {
				tr, ok := d.lookup(space{asid: 1}, 0x1000, unprivRead)
				assert.Equal(t, i != 4, ok, "domain %#x", d.tag)
				if ok {
					assert.Equal(t, uint64(d.tag)<<12, tr.pa)
				}
			}
		})
	}
}

// §3.17, §4.4: VMIDs have 16 bits with IDR0.VMID16, otherwise eight, and none without stage 2.
func TestBitsOfVMIDs(t *testing.T) {
	eight := Stage2IDs()
	eight.Set(smmuv3.VMID16, 0)
	for _, c := range []struct {
		ids  smmuv3.IDRegs
		bits uint
	}{{DefaultIDs(), 0}, {eight, 8}, {Stage2IDs(), 16}} {
		all, _ := newDomains(8, newShown(c.ids).vmidMask)
		for vmid := range 1 << 16 {
			all.acquire(smmuv3.VMID(vmid), ofStage2)
		}
		assert.Len(t, all.inUse, 1<<c.bits)
	}
}

// A domain exists only while a stream uses it. VMIDs that streams used earlier have none.
func TestDomainsOfUnusedVMIDsAreFreed(t *testing.T) {
	h, err := New(Config{Memory: new(guestmem.Fake), IDs: Stage2IDs(), TLBEntries: 8})
	require.NoError(t, err)
	st, err := h.Attach(1, NewEndpoint())
	require.NoError(t, err)
	s2 := smmuv3.Stage2{T0SZ: 25, SL0: 1, PS: 5, AA64: true, R: true}
	for vmid := range smmuv3.VMID(100) {
		for _, g := range []bridge.GuestStage{
			{Disposition: bridge.Translate},
			{Disposition: bridge.TranslateS2, S2: s2},
			{Disposition: bridge.TranslateNested, S2: s2, S1CDMax: 1, S1DSS: smmuv3.S1DSSBypass},
		} {
			g.S2VMID = vmid + 1
			require.NoError(t, st.Bind(g))
			assert.LessOrEqual(t, len(h.domains.inUse), 2)
			assert.LessOrEqual(t, len(h.domains.others), 1)
		}
	}
	require.NoError(t, st.Close())
	assert.Empty(t, h.domains.inUse)
	assert.Empty(t, h.domains.others)
	assert.Zero(t, h.cds.used)
}

// All streams together cache at most maxCDSlots CDs, besides one CD for each stream. A stream that
// is attached later has one slot. It gets more slots when other streams are detached.
func TestCDSlotsAreBounded(t *testing.T) {
	var c cdBudget
	var streams []int
	for range 1000 {
		streams = append(streams, len(c.alloc(1<<20)))
	}
	assert.Equal(t, 64, streams[63])
	assert.Equal(t, 1, streams[64])
	assert.LessOrEqual(t, c.used, maxCDSlots+1000)
	for _, n := range streams {
		c.free(n)
	}
	assert.Zero(t, c.used)
	assert.Len(t, c.alloc(8), 8)
}
