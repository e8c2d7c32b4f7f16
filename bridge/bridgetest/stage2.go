package bridgetest

import (
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stage2 is a stage 2 of the guest's own: tables like those of stage 1, with leaves
// that say something else.
type stage2 struct {
	*space
	vmid smmuv3.VMID
	s2   smmuv3.Stage2
}

// stage2 begins a stage 2 with a VMID.
func (g *guest) stage2(vmid smmuv3.VMID) *stage2 {
	t := &stage2{space: g.space(), vmid: vmid}
	t.s2 = smmuv3.Stage2{
		TTB: uint64(t.root), T0SZ: 64 - inputBits, PS: uint8(min(g.ids.Get(smmuv3.OAS), 5)), AA64: true, R: true,
		IR0: writeBack, OR0: writeBack, SH0: innerShareable,
		TG: map[smmuv3.Granule]uint8{smmuv3.Granule4K: 0b00, smmuv3.Granule64K: 0b01, smmuv3.Granule16K: 0b10}[g.granule],
	}
	start := g.granule.StartLevel(inputBits)
	for t.s2.SL0 = range uint8(4) {
		if level, ok := t.s2.StartLevel(&g.ids); ok && level == start {
			return t
		}
	}
	g.Skip("the host has no such stage 2")
	return nil
}

const (
	s2Read  = 1 << 6
	s2Write = 1 << 7
)

// set has a page of IPAs translated, with S2AP as given.
func (t *stage2) set(ipa uint64, pa guestmem.GPA, s2ap uint64) {
	// A page, MemAttr: normal, write-back; SH: inner; AF.
	t.g.store(t.leaf(ipa), uint64(pa)|0b11|0b1111<<2|s2ap|0b11<<8|1<<10)
}

// identity has all that the guest has been given so far where it is.
func (t *stage2) identity() {
	size := guestmem.GPA(1) << t.g.granule
	for at, end := t.g.RAM, t.g.next; at < end; at += size {
		t.set(uint64(at), at, s2Read|s2Write)
	}
}

// alone is the stage of a stream that stage 2 alone translates for.
func (t *stage2) alone() bridge.GuestStage {
	return bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: t.vmid, S2: t.s2}
}

// nested is a stage of stage 1 nested on this one.
func (t *stage2) nested(g bridge.GuestStage) bridge.GuestStage {
	g.Disposition, g.S2VMID, g.S2 = bridge.TranslateNested, t.vmid, t.s2
	return g
}

func onVMID(op smmuv3.Opcode, vmid smmuv3.VMID, dw1 uint64) smmuv3.Command {
	return command(op, uint64(vmid)<<32, dw1)
}

// testStage2 is for hosts that carry out a stage 2 of the guest's own.
func testStage2(s *suite) {
	const ipa, vmid = 0x12_3457_0000, 5
	run := func(name string, f func(r *rig, g *guest)) {
		s.run(name, func(r *rig) {
			if !r.ids.Has(smmuv3.S2P) {
				r.Skip("the host has no IDR0.S2P")
			}
			f(r, r.guest())
		})
	}
	run("Alone", func(r *rig, g *guest) {
		t, d, st := g.stage2(vmid), r.device(0), r.attach()
		pages := []guestmem.GPA{g.page(), g.page(), g.page()}
		size := uint64(1) << g.granule
		t.set(ipa, pages[0], s2Read|s2Write)
		t.set(ipa+size, pages[1], s2Read)
		t.set(ipa+2*size, pages[2], s2Write)
		r.bind(st, t.alone())
		assert.True(r, r.reaches(d, ipa, pages[0]))
		assert.True(r, r.reads(d, ipa+size, pages[1]))
		assert.False(r, r.writes(d, ipa+size, pages[1]))
		assert.False(r, r.reads(d, ipa+2*size, pages[2]))
		assert.True(r, r.writes(d, ipa+2*size, pages[2]))
		assert.False(r, r.reaches(d, uint64(pages[0]), pages[0]), "nothing is mapped there")
	})
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
	}{
		{"TLBI_S2_IPA", onVMID(smmuv3.OpTLBIS2IPA, vmid, ipa)},
		{"TLBI_S2_IPA_Leaf", onVMID(smmuv3.OpTLBIS2IPA, vmid, ipa|1)},
		{"TLBI_S12_VMALL", onVMID(smmuv3.OpTLBIS12VMAll, vmid, 0)},
		{"TLBI_NSNH_ALL", command(smmuv3.OpTLBINSNHAll, 0, 0)},
	} {
		run(c.name, func(r *rig, g *guest) {
			t, d, st := g.stage2(vmid), r.device(0), r.attach()
			before, after := g.page(), g.page()
			t.set(ipa, before, s2Read|s2Write)
			r.bind(st, t.alone())
			for range 3 {
				require.True(r, r.reaches(d, ipa, before))
				t.unset(ipa)
				r.invalidate(c.cmd)
				assert.False(r, r.reaches(d, ipa, before), "withdrawn")
				t.set(ipa, after, s2Read|s2Write)
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

	// The page that stage 1 translates to is found through stage 2, and so are the CD
	// and the tables.
	const iova = 0x7_6543_0000
	nested := func(g *guest) (t *stage2, one *space, page guestmem.GPA, stage bridge.GuestStage) {
		t, one = g.stage2(vmid), g.space()
		one.set(iova, ipa, smmuv3.LeafAttrs{})
		stage = one.stage()
		page = g.page()
		t.identity()
		t.set(ipa, page, s2Read|s2Write)
		return t, one, page, t.nested(stage)
	}
	run("Nested", func(r *rig, g *guest) {
		t, one, page, stage := nested(g)
		d, st := r.device(0), r.attach()
		r.bind(st, stage)
		require.True(r, r.reaches(d, iova, page))
		assert.False(r, r.reaches(d, ipa, page), "an IPA is no address of stage 1")

		// Software withdraws a page of stage 2 with both commands (§4.4.3.1).
		other := g.page()
		t.set(ipa, other, s2Read|s2Write)
		r.invalidate(onVMID(smmuv3.OpTLBIS2IPA, vmid, ipa), onVMID(smmuv3.OpTLBINHAll, vmid, 0))
		assert.True(r, r.reaches(d, iova, other))
		assert.False(r, r.reaches(d, iova, page))
		one.unset(iova)
		r.invalidate(smmuv3.Command{uint64(smmuv3.OpTLBINHVA) | vmid<<32 | uint64(one.asid)<<48, iova | 1})
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
			leaf := g.load(t.leaf(at))
			t.unset(at)
			r.bind(st, stage)
			r.invalidate(onVMID(smmuv3.OpTLBIS12VMAll, vmid, 0), command(smmuv3.OpCfgiCDAll, uint64(sid)<<32, 0))
			r.clear()
			_ = d(false, iova, make([]byte, 8))
			e := r.event(smmuv3.FTranslation)
			assert.Equal(r, c.class, e.Class())
			assert.Equal(r, c.ipa&^0xfff, e.IPA())
			assert.True(r, e.S2(), "%v", e)
			g.store(t.leaf(at), leaf)
		}
	})
	for name, c := range map[string]struct {
		nested bool
		cmds   []smmuv3.Command
	}{
		"UnderWay":       {false, []smmuv3.Command{onVMID(smmuv3.OpTLBIS2IPA, vmid, ipa|1)}},
		"UnderWayNested": {true, []smmuv3.Command{onVMID(smmuv3.OpTLBIS2IPA, vmid, ipa|1), onVMID(smmuv3.OpTLBINHAll, vmid, 0)}},
	} {
		run(name, func(r *rig, _ *guest) {
			r.underWay(ipa, func(g *guest, page guestmem.GPA, st bridge.Stream) (func(), func()) {
				t := g.stage2(vmid)
				stage := t.alone()
				if c.nested {
					one := g.space()
					one.set(ipa, ipa, smmuv3.LeafAttrs{})
					stage = t.nested(one.stage())
					t.identity()
				}
				t.set(ipa, page, s2Read|s2Write)
				return func() { r.bind(st, stage) }, func() {
					t.unset(ipa)
					r.invalidate(c.cmds...)
				}
			}, func(st bridge.Stream) {
				require.NoError(r, st.Close())
				r.invalidate(onVMID(smmuv3.OpTLBIS12VMAll, vmid, 0))
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
			all[i].set(ipa, pages[i], s2Read|s2Write)
			st, err := r.Host.Attach(sid+smmuv3.StreamID(i), r.Endpoints[i])
			require.NoError(r, err)
			r.bind(st, all[i].alone())
		}
		for i := range all {
			assert.True(r, r.reaches(r.device(i), ipa, pages[i]))
			assert.False(r, r.reaches(r.device(i), ipa, pages[1-i]))
		}
		all[0].unset(ipa)
		r.invalidate(onVMID(smmuv3.OpTLBIS12VMAll, all[0].vmid, 0))
		assert.False(r, r.reaches(r.device(0), ipa, pages[0]))
		assert.True(r, r.reaches(r.device(1), ipa, pages[1]))
	})
}
