package bridgetest

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

var (
	abort  = bridge.GuestStage{Disposition: bridge.Abort}
	bypass = bridge.GuestStage{Disposition: bridge.Bypass}
)

func testCapabilities(s *suite) {
	s.run("StageOneOfAArch64", func(r *rig) {
		again, err := r.Host.Capabilities()
		require.NoError(r, err)
		assert.Equal(r, r.ids, again.IDs, "capabilities are constant")
		assert.NotZero(r, r.ids.Get(smmuv3.TTF)&smmuv3.TTFAArch64)
		assert.False(r, r.ids.Has(smmuv3.BTM), "a guest's broadcast invalidations do not reach the host's SMMU")
	})
}

// testStates moves from each state of the bind_guest_stage thread to each other state.
func testStates(s *suite) {
	const iova = 0x12_3456_0000
	s.run("AttachAborts", func(r *rig) {
		g := r.guest()
		page := g.page()
		r.attach()
		assert.False(r, r.reaches(r.device(0), uint64(page), page))
	})

	// TranslateOther has its own tables and ASID.
	kinds := []string{"Abort", "AbortWithCause", "Disabled", "Bypass", "Translate", "TranslateOther"}
	for _, from := range kinds {
		for _, to := range kinds {
			s.run(from+"To"+to, func(r *rig) {
				g := r.guest()
				pages := map[string]guestmem.GPA{"Translate": g.page(), "TranslateOther": g.page()}
				stages := map[string]bridge.GuestStage{
					"Abort": abort, "Bypass": bypass,
					"AbortWithCause": {Disposition: bridge.Abort, Cause: smmuv3.CBadSTE},
					"Disabled":       {Disposition: bridge.Bypass, Disabled: true},
				}
				for kind, page := range pages {
					sp := g.space()
					sp.set(iova, page, smmuv3.LeafAttrs{})
					stages[kind] = sp.stage()
				}
				direct := g.page()

				d, st := r.device(0), r.attach()
				for _, kind := range []string{from, to, to} {
					r.bind(st, stages[kind])
					passes := kind == "Bypass" || kind == "Disabled"
					assert.Equal(r, passes, r.reaches(d, uint64(direct), direct), "%s, untranslated", kind)
					for other, page := range pages {
						assert.Equal(r, kind == other, r.reaches(d, iova, page), "%s, translated by %s", kind, other)
					}
				}
			})
		}
	}
}

// testIdentity checks that a stream has one StreamID and one endpoint.
func testIdentity(s *suite) {
	s.run("EndpointInUse", func(r *rig) {
		r.attach()
		_, err := r.Host.Attach(sid+1, r.Endpoints[0])
		r.fails(err, bridge.ErrInUse)
	})
	s.run("StreamIDInUse", func(r *rig) {
		if len(r.Endpoints) < 2 {
			r.Skip("the rig has one endpoint")
		}
		r.attach()
		_, err := r.Host.Attach(sid, r.Endpoints[1])
		r.fails(err, bridge.ErrInUse)
		_, err = r.Host.Attach(sid+1, r.Endpoints[1])
		assert.NoError(r, err, "the endpoint is free after a refused Attach")
	})
	s.run("NotAnEndpoint", func(r *rig) {
		for _, ep := range []bridge.Endpoint{nil, struct{}{}} {
			_, err := r.Host.Attach(sid, ep)
			r.fails(err, bridge.ErrEndpoint)
		}
		r.attach()
	})
}

// testRejected binds stages that the host does not support.
func testRejected(s *suite) {
	s.run("PreviousStageStays", func(r *rig) {
		g := r.guest()
		page := g.page()
		st := r.attach()
		r.bind(st, bypass)

		wide := stageOf(g.alloc(smmuv3.CDSize))
		wide.S1CDMax = uint8(r.ids.Get(smmuv3.SSIDSIZE)) + 1
		r.fails(st.Bind(wide), bridge.ErrRejected)
		far := stageOf(guestmem.GPA(1) << 55)
		r.fails(st.Bind(far), bridge.ErrRejected)
		if r.ids.Has(smmuv3.SSIDSIZE) && !r.ids.Has(smmuv3.CD2L) {
			two := stageOf(g.alloc(smmuv3.CDSize))
			two.S1CDMax, two.S1Fmt = 1, smmuv3.S1Fmt64K
			r.fails(st.Bind(two), bridge.ErrRejected)
		}
		if !r.ids.Has(smmuv3.S2P) {
			s2 := bridge.GuestStage{
				Disposition: bridge.TranslateS2, S2: smmuv3.Stage2{T0SZ: 24, SL0: 1, PS: 5, AA64: true, R: true},
			}
			r.fails(st.Bind(s2), bridge.ErrRejected)
			nested := stageOf(g.alloc(smmuv3.CDSize))
			nested.Disposition, nested.S2 = bridge.TranslateNested, s2.S2
			r.fails(st.Bind(nested), bridge.ErrRejected)
		}
		assert.True(r, r.reaches(r.device(0), uint64(page), page))
	})
}

// testGranules translates by each granule, at both ends of pages and of the address space.
func testGranules(s *suite) {
	for _, granule := range granules {
		s.run(fmt.Sprintf("%dKiB", 1<<granule/1024), func(r *rig) {
			if !r.ids.HasGranule(granule) {
				r.Skip(SkipNoFeature)
			}
			g := r.guest()
			g.granule = granule
			size := uint64(1) << granule
			sp, d, st := g.space(), r.device(0), r.attach()
			pages := map[uint64]guestmem.GPA{}
			for _, iova := range []uint64{0, size, 7 << 32, 1<<inputBits - size} {
				pages[iova] = g.page()
				sp.set(iova, pages[iova], smmuv3.LeafAttrs{})
			}
			r.bind(st, sp.stage())
			for iova, page := range pages {
				assert.True(r, r.reaches(d, iova, page), "first of %#x", iova)
				last := size - probe
				assert.True(r, r.reaches(d, iova+last, page+guestmem.GPA(last)), "last of %#x", iova)
			}
			for _, iova := range []uint64{2 * size, 1 << inputBits, 1<<inputBits - 2*size} {
				assert.False(r, r.reaches(d, iova, pages[0]), "%#x is not mapped", iova)
			}
		})
	}
}

func testPermissions(s *suite) {
	s.run("ReadOnly", func(r *rig) {
		g := r.guest()
		sp, page, d, st := g.space(), g.page(), r.device(0), r.attach()
		sp.set(0, page, smmuv3.LeafAttrs{ReadOnly: true})
		r.bind(st, sp.stage())
		assert.True(r, r.reads(d, 0, page))
		assert.False(r, r.writes(d, 0, page))
	})
	s.run("Privileged", func(r *rig) {
		g := r.guest()
		sp, page, d, st := g.space(), g.page(), r.device(0), r.attach()
		sp.set(0, page, smmuv3.LeafAttrs{Privileged: true})
		r.bind(st, sp.stage())
		assert.False(r, r.reaches(d, 0, page))
	})
}

// testInvalidate changes the mapping of a page, or a CD. After each command that covers the page or
// the CD, DMA uses the new structure only.
func testInvalidate(s *suite) {
	s.run("EmptyBatch", func(r *rig) {
		r.invalidate()
		r.attach()
		r.invalidate()
	})

	const (
		plain  = iota
		ranged // the command has a range or a level
		global // the page is global: it is valid for all ASIDs
	)
	for _, c := range []struct {
		name string
		kind int
		cmd  func(asid smmuv3.ASID, iova uint64, g smmuv3.Granule) smmuv3.Command
	}{
		{"TLBI_NH_ALL", plain, func(smmuv3.ASID, uint64, smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHAll(0)
		}},
		{"TLBI_NSNH_ALL", plain, func(smmuv3.ASID, uint64, smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINSNHAll()
		}},
		{"TLBI_NH_ASID", plain, func(a smmuv3.ASID, _ uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHASID(0, a)
		}},
		{"TLBI_NH_VA", plain, func(a smmuv3.ASID, iova uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, a, iova, false)
		}},
		{"TLBI_NH_VA_Leaf", plain, func(a smmuv3.ASID, iova uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, a, iova, true)
		}},
		{"TLBI_NH_VAA", plain, func(_ smmuv3.ASID, iova uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVAA(0, iova, false)
		}},
		{"TLBI_NH_VA_Range", ranged, func(a smmuv3.ASID, iova uint64, g smmuv3.Granule) smmuv3.Command {
			// Two pages; the second is mapped.
			return smmuv3.NewTLBINHVA(0, a, iova-1<<g, true).WithRange(g, 1, 0, 0)
		}},
		{"TLBI_NH_VA_Level", ranged, func(a smmuv3.ASID, iova uint64, g smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, a, iova, true).WithRange(g, 0, 0, 3)
		}},
		{"TLBI_NH_VA_LongRange", ranged, func(a smmuv3.ASID, iova uint64, g smmuv3.Granule) smmuv3.Command {
			// 256 pages; the 201st is mapped.
			return smmuv3.NewTLBINHVA(0, a, iova-200<<g, true).WithRange(g, 31, 3, 0)
		}},
		{"TLBI_NH_VAA_Range", ranged, func(_ smmuv3.ASID, iova uint64, g smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVAA(0, iova-1<<g, true).WithRange(g, 1, 0, 0)
		}},
		{"TLBI_NH_ALL_Global", global, func(smmuv3.ASID, uint64, smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHAll(0)
		}},
		{"TLBI_NH_VA_Global", global, func(a smmuv3.ASID, iova uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, a, iova, false)
		}},
		{"TLBI_NH_VAA_Global", global, func(_ smmuv3.ASID, iova uint64, _ smmuv3.Granule) smmuv3.Command {
			return smmuv3.NewTLBINHVAA(0, iova, false)
		}},
	} {
		s.run(c.name, func(r *rig) {
			if c.kind == ranged && !r.ids.Has(smmuv3.RIL) {
				r.Skip(SkipNoIDR3 + "RIL")
			}
			const iova = 0x12_3457_0000
			attrs := smmuv3.LeafAttrs{Global: c.kind == global}
			g := r.guest()
			sp, d, st := g.space(), r.device(0), r.attach()
			before, after := g.page(), g.page()
			sp.set(iova, before, attrs)
			r.bind(st, sp.stage())
			cmd := c.cmd(sp.ASID, iova, g.granule)
			for range 3 {
				require.True(r, r.reaches(d, iova, before))

				sp.unset(iova)
				r.invalidate(cmd)
				assert.False(r, r.reaches(d, iova, before), "unmapped")

				sp.set(iova, after, attrs)
				r.invalidate(cmd)
				assert.True(r, r.reaches(d, iova, after))
				assert.False(r, r.reaches(d, iova, before), "moved")
				before, after = after, before
			}
		})
	}

	for name, cmd := range map[string]smmuv3.Command{
		"CFGI_CD":     smmuv3.NewCfgiCD(sid, 0, true),
		"CFGI_CD_ALL": smmuv3.NewCfgiCDAll(sid),
	} {
		s.run(name, func(r *rig) {
			const iova = 0x5000_0000
			g := r.guest()
			one, other, d, st := g.space(), g.space(), r.device(0), r.attach()
			pages := []guestmem.GPA{g.page(), g.page()}
			one.set(iova, pages[0], smmuv3.LeafAttrs{})
			other.set(iova, pages[1], smmuv3.LeafAttrs{})
			stage := one.stage()
			r.bind(st, stage)
			require.True(r, r.reaches(d, iova, pages[0]))

			cd := other.CD()
			g.store(stage.S1ContextPtr, cd[:]...)
			r.invalidate(cmd)
			assert.True(r, r.reaches(d, iova, pages[1]), "the new CD")

			g.store(stage.S1ContextPtr, 0)
			r.invalidate(cmd)
			assert.False(r, r.reaches(d, iova, pages[1]), "an invalid CD")
		})
	}

	// §4.4.1.1 lets an SMMU use TTL with Leaf = 0. Linux 5.8 to 6.4 then gives the level of the
	// tables that it frees, but also relies on the invalidation of blocks beside them.
	s.run("TLBI_NH_VA_LevelWithoutLeaf", func(r *rig) {
		switch {
		case !r.Software:
			r.Skip(SkipHardware)
		case !r.ids.Has(smmuv3.RIL):
			r.Skip(SkipNoIDR3 + "RIL")
		}
		g := r.guest()
		g.invalidates(lastLevel-1, 0x12_3456_0000, func(sp *space) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, sp.ASID, 0x12_3456_0000, false).WithRange(g.granule, 0, 0, lastLevel)
		})
	})

	s.run("Batch", func(r *rig) {
		g := r.guest()
		sp, d, st := g.space(), r.device(0), r.attach()
		const n = 100 // more than one iommufd request holds
		size := uint64(1) << g.granule
		page := g.page()
		var cmds []smmuv3.Command
		for i := range uint64(n) {
			sp.set(i*size, page, smmuv3.LeafAttrs{})
			cmds = append(cmds, smmuv3.NewTLBINHVA(0, sp.ASID, i*size, true))
		}
		r.bind(st, sp.stage())
		for i := range uint64(n) {
			require.True(r, r.reads(d, i*size, page))
			sp.unset(i * size)
		}
		r.invalidate(cmds...)
		for i := range uint64(n) {
			assert.False(r, r.reads(d, i*size, page), "page %d is unmapped", i)
		}
	})
}

// testInFlight unmaps a page while a device writes to it continuously. After the call the device no
// longer writes to the page.
func testInFlight(s *suite) {
	const iova = 0x7000_0000
	for name, take := range map[string]func(r *rig, sp *space, st bridge.Stream){
		"Invalidate": func(r *rig, sp *space, _ bridge.Stream) {
			sp.unset(iova)
			r.invalidate(smmuv3.NewTLBINHVA(0, sp.ASID, iova, true))
		},
		"InvalidateCD": func(r *rig, sp *space, _ bridge.Stream) {
			r.store(sp.cdAt, 0)
			r.invalidate(smmuv3.NewCfgiCD(sid, 0, true))
		},
		"Bind":  func(r *rig, _ *space, st bridge.Stream) { r.bind(st, abort) },
		"Close": func(r *rig, _ *space, st bridge.Stream) { require.NoError(r, st.Close()) },
	} {
		s.run(name, func(r *rig) {
			r.inFlight(iova, func(g *guest, page guestmem.GPA, st bridge.Stream) (func(), func()) {
				sp := g.space()
				sp.set(iova, page, smmuv3.LeafAttrs{})
				return func() { r.bind(st, sp.stage()) }, func() { take(r, sp, st) }
			}, func(st bridge.Stream) {
				if name != "Close" {
					require.NoError(r, st.Close())
				}
				r.invalidate(smmuv3.NewTLBINHAll(0))
			})
		})
	}
}

// inFlight makes a device write to an address continuously while the guest repeatedly maps and
// unmaps a page there. begin returns the functions that map and unmap. end cleans up after each
// round.
func (r *rig) inFlight(iova uint64,
	begin func(*guest, guestmem.GPA, bridge.Stream) (bind, take func()), end func(bridge.Stream),
) {
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	var wrote atomic.Uint64
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				_ = r.DMA(r.Endpoints[0], true, iova, noise())
				wrote.Add(1)
			}
		}
	})
	// more waits for DMA that began after the call.
	more := func() {
		for n := wrote.Load() + 3; wrote.Load() < n; {
			time.Sleep(time.Millisecond)
		}
	}
	for range 20 {
		g := r.guest()
		page, st := g.page(), r.attach()
		bind, take := begin(g, page, st)
		bind()
		more()
		require.NotZero(r, r.load(page), "no DMA reaches the page")

		take()
		want, got := make([]byte, probe), make([]byte, probe)
		require.NoError(r, r.Memory.ReadAt(want, page))
		more()
		require.NoError(r, r.Memory.ReadAt(got, page))
		require.Equal(r, want, got, "DMA reaches the page after the call")
		end(st)
	}
}

// testTables binds every CD table layout that the host supports, with every S1DSS. It checks where
// DMA without a SubstreamID goes (§5.2).
func testTables(s *suite) {
	const iova = 0x9000_0000
	for _, f := range []smmuv3.S1Fmt{smmuv3.S1FmtLinear, smmuv3.S1Fmt4K, smmuv3.S1Fmt64K} {
		s.run(fmt.Sprint(f), func(r *rig) {
			if f != smmuv3.S1FmtLinear && !r.ids.Has(smmuv3.CD2L) {
				r.Skip(SkipNoIDR0 + "CD2L")
			}
			d, st := r.device(0), r.attach()
			for n := range r.ids.Get(smmuv3.SSIDSIZE) + 1 {
				for _, dss := range []smmuv3.S1DSS{smmuv3.S1DSSTerminate, smmuv3.S1DSSBypass, smmuv3.S1DSSSubstream0} {
					name := fmt.Sprintf("S1CDMax %d S1DSS %v", n, dss)
					if n == 0 && dss != smmuv3.S1DSSTerminate {
						continue // S1DSS is IGNORED with one CD, and zero in a GuestStage
					}
					t := r.guest().table(f, uint8(n), dss)
					page, direct := t.g.page(), t.g.page()
					sp := t.g.space()
					sp.set(iova, page, smmuv3.LeafAttrs{})
					t.put(0, sp)
					r.bind(st, t.stage)
					assert.Equal(r, n == 0 || dss == smmuv3.S1DSSSubstream0, r.reaches(d, iova, page), name)
					assert.Equal(r, n != 0 && dss == smmuv3.S1DSSBypass, r.reaches(d, uint64(direct), direct), name)

					// The next round uses the same memory and the same ASID.
					r.bind(st, abort)
					r.invalidate(smmuv3.NewTLBINHAll(0), smmuv3.NewCfgiCDAll(sid))
				}
			}
		})
		s.run(fmt.Sprint(f)+"/Substreams", func(r *rig) {
			switch {
			case r.SubstreamDMA == nil:
				r.Skip(SkipNoSubstreams)
			case f != smmuv3.S1FmtLinear && !r.ids.Has(smmuv3.CD2L) || !r.ids.Has(smmuv3.SSIDSIZE):
				r.Skip(SkipNoFeature)
			}
			st := r.attach()
			for n := uint8(1); uint32(n) <= r.ids.Get(smmuv3.SSIDSIZE); n++ {
				t := r.guest().table(f, n, smmuv3.S1DSSTerminate)
				// The first and the last CD; of a linear table, the last that is in memory.
				last := smmuv3.SubstreamID(1)<<n - 1
				if f == smmuv3.S1FmtLinear {
					last = min(last, linearCDs-1)
				}
				spaces := map[smmuv3.SubstreamID]guestmem.GPA{}
				for _, ssid := range []smmuv3.SubstreamID{0, last} {
					sp := t.g.space()
					spaces[ssid] = t.g.page()
					sp.set(iova, spaces[ssid], smmuv3.LeafAttrs{})
					t.put(ssid, sp)
				}
				r.bind(st, t.stage)
				for ssid, page := range spaces {
					for other := range spaces {
						d := func(write bool, iova uint64, p []byte) error {
							return r.SubstreamDMA(r.Endpoints[0], other, write, iova, p)
						}
						assert.Equal(r, ssid == other, r.reaches(d, iova, page), "S1CDMax %d SubstreamID %d", n, other)
					}
				}
				beyond := func(write bool, iova uint64, p []byte) error {
					return r.SubstreamDMA(r.Endpoints[0], smmuv3.SubstreamID(1)<<n, write, iova, p)
				}
				assert.False(r, r.reaches(beyond, iova, spaces[last]), "S1CDMax %d, beyond the table", n)
				r.bind(st, abort)
				r.invalidate(smmuv3.NewTLBINHAll(0), smmuv3.NewCfgiCDAll(sid))
			}
		})
	}
}

// table is a CD table. Part of it may extend beyond memory: a host reads only the CDs of
// SubstreamIDs that transactions use.
type table struct {
	g     *guest
	cds   *vsmmutest.CDTable
	stage bridge.GuestStage
}

// tableSize is the size of the part of a table that is in memory. It holds the longest level 1
// table, for 2^20 CDs in leaves of 64, or linearCDs CDs of a linear table.
const (
	tableSize = 1 << 20 / 64 * smmuv3.L1CDSize
	linearCDs = tableSize / smmuv3.CDSize
)

// table places a table at the start of memory, which is aligned for any table. The guest has not
// allocated anything yet.
func (g *guest) table(f smmuv3.S1Fmt, n uint8, dss smmuv3.S1DSS) *table {
	g.Helper()
	ptr := g.alloc(tableSize)
	require.Equal(g, g.Rig.RAM, ptr)
	cds, err := vsmmutest.PlaceCDTable(g.ram, ptr, f, n)
	require.NoError(g, err)
	t := &table{g: g, cds: cds, stage: stageOf(ptr)}
	if n != 0 {
		t.stage.S1CDMax, t.stage.S1Fmt, t.stage.S1DSS = n, f, dss
	}
	return t
}

// put writes a SubstreamID's CD.
func (t *table) put(s smmuv3.SubstreamID, sp *space) {
	t.g.Helper()
	require.NoError(t.g, t.cds.Set(s, sp.CD()))
}

// testFaults checks the fields of events.
func testFaults(s *suite) {
	const iova = 0x12_3456_0000
	s.run("Translation", func(r *rig) {
		g := r.guest()
		sp, page, d, st := g.space(), g.page(), r.device(0), r.attach()
		sp.set(iova, page, smmuv3.LeafAttrs{})
		r.bind(st, sp.stage())
		require.True(r, r.reaches(d, iova, page))

		at := iova + uint64(1)<<g.granule
		for _, write := range []bool{false, true} {
			r.log.clear()
			_ = d(write, at, make([]byte, 8))
			e := r.event(smmuv3.FTranslation)
			assert.Equal(r, sid, e.StreamID())
			assert.Equal(r, at, e.InputAddr())
			assert.Equal(r, !write, e.RnW())
			assert.Equal(r, smmuv3.ClassIN, e.Class())
			assert.False(r, e.S2() || e.Stall() || e.SSV(), "%v", e)
		}
	})
	s.run("Permission", func(r *rig) {
		g := r.guest()
		sp, page, d, st := g.space(), g.page(), r.device(0), r.attach()
		sp.set(iova, page, smmuv3.LeafAttrs{ReadOnly: true})
		r.bind(st, sp.stage())
		require.True(r, r.reads(d, iova, page))
		r.log.clear()
		_ = d(true, iova+8, make([]byte, 8))
		e := r.event(smmuv3.FPermission)
		assert.Equal(r, sid, e.StreamID())
		assert.EqualValues(r, iova+8, e.InputAddr())
		assert.False(r, e.RnW())
	})
	s.run("BadCD", func(r *rig) {
		g := r.guest()
		st := r.attach()
		r.bind(st, stageOf(g.alloc(smmuv3.CDSize)))
		_ = r.device(0)(false, iova, make([]byte, 8))
		assert.Equal(r, sid, r.event(smmuv3.CBadCD).StreamID())
	})
	// Events have the StreamID of the current Attach.
	s.run("OtherStreamID", func(r *rig) {
		g := r.guest()
		require.NoError(r, r.attach().Close())
		st, err := r.Host.Attach(sid+7, r.Endpoints[0])
		require.NoError(r, err)
		r.bind(st, g.space().stage())
		_ = r.device(0)(false, iova, make([]byte, 8))
		assert.Equal(r, sid+7, r.event(smmuv3.FTranslation).StreamID())
	})
}

// testTwoStreams checks that streams are independent.
func testTwoStreams(s *suite) {
	s.run("Independent", func(r *rig) {
		if len(r.Endpoints) < 2 {
			r.Skip("the rig has one endpoint")
		}
		const iova = 0x4000_0000
		g := r.guest()
		var streams [2]bridge.Stream
		var spaces [2]*space
		var pages [2]guestmem.GPA
		for i := range streams {
			st, err := r.Host.Attach(sid+smmuv3.StreamID(i), r.Endpoints[i])
			require.NoError(r, err)
			streams[i], spaces[i], pages[i] = st, g.space(), g.page()
			spaces[i].set(iova, pages[i], smmuv3.LeafAttrs{})
			r.bind(st, spaces[i].stage())
		}
		for i := range streams {
			assert.True(r, r.reaches(r.device(i), iova, pages[i]))
			assert.False(r, r.reaches(r.device(i), iova, pages[1-i]))
		}

		spaces[0].unset(iova)
		r.invalidate(smmuv3.NewTLBINHVA(0, spaces[0].ASID, iova, true))
		assert.False(r, r.reaches(r.device(0), iova, pages[0]))
		assert.True(r, r.reaches(r.device(1), iova, pages[1]))

		require.NoError(r, streams[1].Close())
		assert.False(r, r.reaches(r.device(1), iova, pages[1]))
		r.bind(streams[0], bypass)
		assert.True(r, r.reaches(r.device(0), uint64(pages[0]), pages[0]))
	})
}

// testClose checks the rules of Close: the first call closes, any later call returns ErrClosed.
func testClose(s *suite) {
	s.run("Stream", func(r *rig) {
		g := r.guest()
		page := g.page()
		d, st := r.device(0), r.attach()
		r.bind(st, bypass)
		require.True(r, r.reaches(d, uint64(page), page))
		require.NoError(r, st.Close())
		assert.False(r, r.reaches(d, uint64(page), page))
		r.fails(st.Bind(bypass), bridge.ErrClosed)
		r.fails(st.Close(), bridge.ErrClosed)

		// The endpoint and the StreamID can be attached again.
		again := r.attach()
		assert.False(r, r.reaches(d, uint64(page), page), "a new stream aborts")
		r.bind(again, bypass)
		assert.True(r, r.reaches(d, uint64(page), page))
		r.fails(st.Bind(abort), bridge.ErrClosed, "the first stream stays closed")
		r.fails(st.Close(), bridge.ErrClosed)
		assert.True(r, r.reaches(d, uint64(page), page), "the closed stream does not change the new one")
	})
	s.run("Host", func(r *rig) {
		g := r.guest()
		page := g.page()
		d, st := r.device(0), r.attach()
		r.bind(st, bypass)
		require.NoError(r, r.Host.Close())
		assert.False(r, r.reaches(d, uint64(page), page))
		r.fails(st.Bind(bypass), bridge.ErrClosed)
		r.fails(st.Close(), bridge.ErrClosed)
		_, err := r.Host.Attach(sid+1, r.Endpoints[0])
		r.fails(err, bridge.ErrClosed)
		r.fails(r.Host.Invalidate([]smmuv3.Command{smmuv3.NewTLBINHAll(0)}), bridge.ErrClosed)
		assert.ErrorIs(r, r.Host.Close(), bridge.ErrClosed)
		assert.NoError(r, r.Host.Events(nil), "a closed host can be released")
		r.fails(r.Host.Events(r.log.add), bridge.ErrClosed)
		r.fails(r.Host.SetGuestIDs(r.ids), bridge.ErrClosed)
		if host, ok := r.Host.(bridge.PageRequester); ok {
			r.fails(host.Respond(bridge.PageResponse{StreamID: sid}), bridge.ErrClosed)
		}
	})
	s.run("HostWithoutStreams", func(r *rig) {
		require.NoError(r, r.Host.Close())
		assert.ErrorIs(r, r.Host.Close(), bridge.ErrClosed)
	})
}
