package vsmmu_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// TestPolicyReachesTheSoftHost shows that a soft host follows the guest's ID registers: if a policy
// lowers a field, structures that use the field behave as on an SMMU without it.
func TestPolicyReachesTheSoftHost(t *testing.T) {
	const cd0 = 0x0001_6205_c000_0010 // T0SZ 16, EPD1, V, IPS, AA64, R, A, ASID 1
	for _, c := range []struct {
		name   string
		policy idr.Policy
		cd     [2]uint64
		level0 uint64
		leaf   uint64
		want   smmuv3.EventType // 0 for none
	}{
		{"HAD", idr.Policy{smmuv3.HAD: 0}, [2]uint64{cd0, 0x50_0002}, 0x51_0003 | 1<<61, 0x60_0c43, smmuv3.FPermission},
		{"OAS", idr.Policy{smmuv3.OAS: 4}, [2]uint64{cd0, 0x50_0000}, 0x51_0003, 1<<44 | 0xc43, smmuv3.FAddrSize},
		{"HTTU", idr.Policy{smmuv3.HTTU: 0}, [2]uint64{cd0 | 1<<43, 0x50_0000}, 0x51_0003, 0x60_0843, smmuv3.CBadCD},
		{"E0PD", idr.Policy{smmuv3.E0PD: 0}, [2]uint64{cd0, 0x50_0004}, 0x51_0003, 0x60_0c43, 0},
		{"GRAN4K", idr.Policy{smmuv3.GRAN4K: 0}, [2]uint64{cd0, 0x50_0000}, 0x51_0003, 0x60_0c43, smmuv3.CBadCD},
		{"TTENDIAN", idr.Policy{smmuv3.TTENDIAN: 3}, [2]uint64{cd0, 0x50_0000}, 0x51_0003, 0x60_0c43, smmuv3.CBadCD},
		{"ASID16", idr.Policy{smmuv3.ASID16: 0}, [2]uint64{cd0 | 1<<56, 0x50_0000}, 0x51_0003, 0x60_0c43, smmuv3.CBadCD},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &softRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
			require.NoError(t, r.ram.Add(guestmem.Slot{Mem: make([]byte, 16<<20)}))
			r.words(0x10_00c0, 0x40_000b) // STE: V, Config S1
			r.words(0x40_0000, c.cd[:]...)
			r.words(0x50_0000, c.level0)
			r.words(0x51_0000, 0x52_0003)
			r.words(0x52_0000, pte0|3)
			r.words(pte0, c.leaf)
			r.boot(soft.DefaultIDs(), c.policy)
			err := r.ep.ReadAt(make([]byte, 8), 0)
			if c.want == 0 {
				assert.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, soft.ErrFault)
			assert.Equal(t, c.want, r.event().Type())
		})
	}
}

// TestTTL1Of16KiBDependsOnTheGuestsDS shows that TTL = 1 of 16 KiB is reserved and behaves as 0 if
// the guest's IDR5.DS is 0, even if the host has DS (§4.4.1.1).
func TestTTL1Of16KiBDependsOnTheGuestsDS(t *testing.T) {
	for _, hostDS := range []uint32{0, 1} {
		r := &softRig{TB: t, ram: new(guestmem.Slots), ep: soft.NewEndpoint()}
		require.NoError(t, r.ram.Add(guestmem.Slot{Mem: make([]byte, 16<<20)}))
		ids := soft.DefaultIDs()
		ids.Set(smmuv3.VAX, 1)
		ids.Set(smmuv3.DS, hostDS)
		r.words(0x10_00c0, 0x40_000b)
		r.words(0x40_0000, 0x0001_6205_c000_0090, 0x50_0000) // T0SZ 16, TG0 16 KiB, ASID 1
		r.words(0x50_0000, 0x51_0003)
		r.words(0x51_0000, 0x52_0003)
		r.words(0x52_0000, pte0|3)
		r.words(pte0, 0x60_0c43)
		r.boot(ids, idr.Policy{smmuv3.DS: 0})

		require.NoError(t, r.ep.ReadAt(make([]byte, 8), 0))
		r.words(pte0, 0)
		// TLBI_NH_VA: ASID 1, SCALE 1, TG 16 KiB, TTL 1, Leaf.
		r.run(smmuv3.Command{0x12 | 1<<20 | 1<<48, 0b10<<10 | 0b01<<8 | 1}, smmuv3.Command{0x46})
		assert.ErrorIs(t, r.ep.ReadAt(make([]byte, 8), 0), soft.ErrFault, "host DS %d", hostDS)
	}
}
