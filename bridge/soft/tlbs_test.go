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

// §3.17: translations are of one VMID and one sort of address. Whoever uses the same
// has the same TLB, which invalidations find as long as anybody uses it; nobody else
// has it; and one that had been another's is empty.
func TestTLBsAreOfOneVMIDAndKind(t *testing.T) {
	ids := Stage2IDs()
	var clock atomic.Uint64
	var all tlbs
	all.init(8, &ids, &clock)
	type name struct {
		vmid smmuv3.VMID
		kind int
	}
	users := map[name]int{{0, ofStage1}: 1} // the one that is always there
	has := map[name]*tlb{{0, ofStage1}: all.of(0)[ofStage1]}
	dice := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		// VMIDs that differ in either byte alone.
		n := name{smmuv3.VMID(dice.IntN(2)<<8 | dice.IntN(2)), dice.IntN(kinds)}
		if dice.IntN(2) == 0 {
			u := all.acquire(n.vmid, n.kind)
			if users[n] == 0 {
				_, ok := u.lookup(space{asid: 1}, 0x1000, unprivRead)
				require.False(t, ok, "it holds what was another's")
				u.insert(space{asid: 1}, 0x1000, leaf{pa: 0x5000, size: 12, perms: unprivRead}, clock.Load(), &clock)
				_, ok = u.lookup(space{asid: 1}, 0x1000, unprivRead)
				require.True(t, ok)
				has[n] = u
			}
			require.Same(t, has[n], u)
			users[n]++
		} else if users[n] > 1 || users[n] == 1 && n != (name{0, ofStage1}) {
			all.release(has[n])
			users[n]--
		}
		seen := map[*tlb]bool{}
		for _, vmid := range []smmuv3.VMID{0, 1, 2, 0x100, 0x101} {
			for kind, u := range all.of(vmid) {
				m := name{vmid, kind}
				require.Equal(t, users[m] != 0, u != nil, "VMID %d kind %d", vmid, kind)
				if u != nil {
					require.Same(t, has[m], u)
					require.False(t, seen[u], "shared")
					seen[u] = true
				}
			}
		}
		require.Len(t, all.inUse, len(seen))
		for _, u := range all.inUse {
			require.True(t, seen[u])
		}
		for _, u := range all.spare {
			require.False(t, seen[u], "spare, though in use")
		}
	}
	all.release(nil)
}

// §3.17, §4.4: VMIDs have 16 bits with IDR0.VMID16, else eight, and without stage 2 none.
func TestBitsOfVMIDs(t *testing.T) {
	eight := Stage2IDs()
	eight.Set(smmuv3.VMID16, 0)
	for _, c := range []struct {
		ids  smmuv3.IDRegs
		bits uint
	}{{DefaultIDs(), 0}, {eight, 8}, {Stage2IDs(), 16}} {
		var all tlbs
		all.init(8, &c.ids, new(atomic.Uint64))
		places := map[*[kinds]*tlb]bool{}
		for vmid := range 1 << 16 {
			places[all.of(smmuv3.VMID(vmid))] = true
		}
		assert.Len(t, places, 1<<c.bits)
	}
}

// TLBs are as many as streams use at a time, whatever VMIDs they have had.
func TestTLBsOfVMIDsThatAreNoLongerUsedAreUsedAgain(t *testing.T) {
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
			// One is that of a guest without VMIDs; Bind has the new before the old is given back.
			assert.LessOrEqual(t, len(h.tlbs.inUse)+len(h.tlbs.spare), 1+2+2)
		}
	}
	require.NoError(t, st.Close())
	assert.Len(t, h.tlbs.inUse, 1)
}
