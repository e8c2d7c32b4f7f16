package bridgetest

import (
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// testStage2 tests hosts that execute the guest's own stage 2.
func testStage2(s *suite) {
	const ipa, vmid = 0x12_3457_0000, 5
	run := func(name string, f func(r *rig, g *guest)) {
		s.run(name, func(r *rig) {
			if !r.ids.Has(smmuv3.S2P) {
				r.Skip(SkipNoIDR0 + "S2P")
			}
			f(r, r.guest())
		})
	}
	run("Alone", func(r *rig, g *guest) {
		t, d, st := g.stage2(vmid), r.device(0), r.attach()
		pages := []guestmem.GPA{g.page(), g.page(), g.page()}
		size := uint64(1) << g.granule
		t.set(ipa, pages[0], vsmmutest.ReadWrite)
		t.set(ipa+size, pages[1], vsmmutest.Read)
		t.set(ipa+2*size, pages[2], vsmmutest.Write)
		r.bind(st, t.alone())
		assert.True(r, r.reaches(d, ipa, pages[0]))
		assert.True(r, r.reads(d, ipa+size, pages[1]))
		assert.False(r, r.writes(d, ipa+size, pages[1]))
		assert.False(r, r.reads(d, ipa+2*size, pages[2]))
		assert.True(r, r.writes(d, ipa+2*size, pages[2]))
		assert.False(r, r.reaches(d, uint64(pages[0]), pages[0]), "an IPA that is not mapped")
	})
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
	}{
		{"TLBI_S2_IPA", smmuv3.NewTLBIS2IPA(vmid, ipa, false)},
		{"TLBI_S2_IPA_Leaf", smmuv3.NewTLBIS2IPA(vmid, ipa, true)},
		{"TLBI_S12_VMALL", smmuv3.NewTLBIS12VMAll(vmid)},
		{"TLBI_NSNH_ALL", smmuv3.NewTLBINSNHAll()},
	} {
		run(c.name, func(r *rig, g *guest) {
			t, d, st := g.stage2(vmid), r.device(0), r.attach()
			before, after := g.page(), g.page()
			t.set(ipa, before, vsmmutest.ReadWrite)
			r.bind(st, t.alone())
			for range 3 {
				require.True(r, r.reaches(d, ipa, before))
				t.unset(ipa)
				r.invalidate(c.cmd)
				assert.False(r, r.reaches(d, ipa, before), "unmapped")
				t.set(ipa, after, vsmmutest.ReadWrite)
				r.invalidate(c.cmd)
				assert.True(r, r.reaches(d, ipa, after))
				assert.False(r, r.reaches(d, ipa, before), "moved")
				before, after = after, before
			}
		})
	}
	run("Faults", func(r *rig, g *guest) {
		t, st := g.stage2(vmid), r.attach()
		r.bind(st, t.alone())
		_ = r.device(0)(true, ipa+0x678, make([]byte, 8))
		e := r.event(smmuv3.FTranslation)
		assert.Equal(r, sid, e.StreamID())
		assert.EqualValues(r, ipa+0x678, e.InputAddr())
		assert.EqualValues(r, ipa, e.IPA())
		assert.Equal(r, smmuv3.ClassIN, e.Class())
		assert.True(r, e.S2() && !e.RnW() && !e.Stall(), "%v", e)
	})

	// Stage 2 translates the output of stage 1, and the addresses of the CD and of the tables.
	const iova = 0x7_6543_0000
	nested := func(g *guest) (t *stage2, one *space, page guestmem.GPA, stage bridge.GuestStage) {
		t, one = g.stage2(vmid), g.space()
		one.set(iova, ipa, smmuv3.LeafAttrs{})
		stage = one.stage()
		page = g.page()
		t.identity()
		t.set(ipa, page, vsmmutest.ReadWrite)
		return t, one, page, t.nested(stage)
	}
	run("Nested", func(r *rig, g *guest) {
		t, one, page, stage := nested(g)
		d, st := r.device(0), r.attach()
		r.bind(st, stage)
		require.True(r, r.reaches(d, iova, page))
		assert.False(r, r.reaches(d, ipa, page), "an IPA is not an IOVA")

		// Software unmaps a page of stage 2 with both commands (§4.4.3.1).
		other := g.page()
		t.set(ipa, other, vsmmutest.ReadWrite)
		r.invalidate(smmuv3.NewTLBIS2IPA(vmid, ipa, false), smmuv3.NewTLBINHAll(vmid))
		assert.True(r, r.reaches(d, iova, other))
		assert.False(r, r.reaches(d, iova, page))
		one.unset(iova)
		r.invalidate(smmuv3.NewTLBINHVA(vmid, one.ASID, iova, true))
		assert.False(r, r.reaches(d, iova, other))
	})
	run("NestedFaults", func(r *rig, g *guest) {
		t, one, _, stage := nested(g)
		d, st := r.device(0), r.attach()
		granule := uint64(1)<<g.granule - 1
		for _, c := range []struct {
			class smmuv3.Class
			ipa   uint64
		}{
			{smmuv3.ClassIN, ipa}, {smmuv3.ClassTT, uint64(one.leaf(iova))}, {smmuv3.ClassCD, uint64(one.cdAt)},
		} {
			at := c.ipa &^ granule
			saved := g.load(t.leaf(at))
			t.unset(at)
			r.bind(st, stage)
			r.invalidate(smmuv3.NewTLBIS12VMAll(vmid), smmuv3.NewCfgiCDAll(sid))
			r.log.clear()
			_ = d(false, iova, make([]byte, 8))
			e := r.event(smmuv3.FTranslation)
			assert.Equal(r, c.class, e.Class())
			assert.Equal(r, c.ipa&^0xfff, e.IPA())
			assert.True(r, e.S2(), "%v", e)
			g.store(t.leaf(at), saved)
		}
	})
	for name, c := range map[string]struct {
		nested bool
		cmds   []smmuv3.Command
	}{
		"InFlight":       {false, []smmuv3.Command{smmuv3.NewTLBIS2IPA(vmid, ipa, true)}},
		"InFlightNested": {true, []smmuv3.Command{smmuv3.NewTLBIS2IPA(vmid, ipa, true), smmuv3.NewTLBINHAll(vmid)}},
	} {
		run(name, func(r *rig, _ *guest) {
			r.inFlight(ipa, func(g *guest, page guestmem.GPA, st bridge.Stream) (func(), func()) {
				t := g.stage2(vmid)
				stage := t.alone()
				if c.nested {
					one := g.space()
					one.set(ipa, ipa, smmuv3.LeafAttrs{})
					stage = t.nested(one.stage())
					t.identity()
				}
				t.set(ipa, page, vsmmutest.ReadWrite)
				return func() { r.bind(st, stage) }, func() {
					t.unset(ipa)
					r.invalidate(c.cmds...)
				}
			}, func(st bridge.Stream) {
				require.NoError(r, st.Close())
				r.invalidate(smmuv3.NewTLBIS12VMAll(vmid))
			})
		})
	}
	run("VMIDs", func(r *rig, g *guest) {
		if len(r.Endpoints) < 2 {
			r.Skip("the rig has one endpoint")
		}
		var all [2]*stage2
		var pages [2]guestmem.GPA
		for i := range all {
			all[i], pages[i] = g.stage2(smmuv3.VMID(vmid+i)), g.page()
			all[i].set(ipa, pages[i], vsmmutest.ReadWrite)
			st, err := r.Host.Attach(sid+smmuv3.StreamID(i), r.Endpoints[i])
			require.NoError(r, err)
			r.bind(st, all[i].alone())
		}
		for i := range all {
			assert.True(r, r.reaches(r.device(i), ipa, pages[i]))
			assert.False(r, r.reaches(r.device(i), ipa, pages[1-i]))
		}
		all[0].unset(ipa)
		r.invalidate(smmuv3.NewTLBIS12VMAll(all[0].VMID))
		assert.False(r, r.reaches(r.device(0), ipa, pages[0]))
		assert.True(r, r.reaches(r.device(1), ipa, pages[1]))
	})
}
