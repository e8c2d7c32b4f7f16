package bridgetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// testClaim checks the rules of Events: a host belongs to one device at a time.
func testClaim(s *suite) {
	const iova = 0x12_3456_0000
	// fault makes a stream report F_TRANSLATION, and returns the stream.
	fault := func(r *rig) bridge.Stream {
		st := r.attach()
		r.bind(st, r.guest().space().stage())
		_ = r.device(0)(false, iova, make([]byte, 8))
		return st
	}
	s.runUnclaimed("SecondEventsIsErrInUse", func(r *rig) {
		r.claim(r.ids)
		var other eventLog
		r.fails(r.Host.Events(other.add), bridge.ErrInUse)
		fault(r)
		r.event(smmuv3.FTranslation)
		assert.Zero(r, other.total(), "the refused sink replaced the first")
	})
	s.runUnclaimed("NilReleases", func(r *rig) {
		require.NoError(r, r.Host.Events(nil), "a host without a sink")
		r.claim(r.ids)
		st := fault(r)
		r.event(smmuv3.FTranslation)
		require.NoError(r, st.Close())
		require.NoError(r, r.Host.Events(nil))
		require.NoError(r, r.Host.Events(nil), "twice")

		total := r.log.total()
		next := new(eventLog)
		require.NoError(r, r.Host.Events(next.add))
		require.NoError(r, r.Host.SetGuestIDs(r.ids))
		fault(r)
		next.wait(r, smmuv3.FTranslation)
		assert.Equal(r, total, r.log.total(), "an event reached the sink that was removed")
	})
	// After Events(nil) returns, the host never reports an earlier event.
	s.runUnclaimed("NoEventAfterRelease", func(r *rig) {
		r.claim(r.ids)
		st := r.attach()
		r.bind(st, r.guest().space().stage())
		defer r.repeatDMA(iova)()
		r.event(smmuv3.FTranslation)
		require.NoError(r, st.Close())
		require.NoError(r, r.Host.Events(nil))
		total := r.log.total()
		var next eventLog
		require.NoError(r, r.Host.Events(next.add))
		time.Sleep(20 * time.Millisecond)
		assert.Equal(r, total, r.log.total(), "an event reached the sink that was removed")
		assert.Zero(r, next.total(), "an event of the earlier device reached the next one")
	})
	s.runUnclaimed("PageRequests", func(r *rig) {
		host, ok := r.Host.(bridge.PageRequester)
		if !ok || !r.ids.Has(smmuv3.PRI) {
			r.Skip(SkipNoIDR0 + "PRI")
		}
		r.claim(r.ids)
		sink := func(smmuv3.PageRequest) {}
		require.NoError(r, host.PageRequests(nil), "a host without a sink")
		require.NoError(r, host.PageRequests(sink))
		r.fails(host.PageRequests(sink), bridge.ErrInUse)
		require.NoError(r, host.PageRequests(nil))
		require.NoError(r, host.PageRequests(sink))
	})
}

// repeatDMA makes the first endpoint write to an address until stop is called.
func (r *rig) repeatDMA(iova uint64) (stop func()) {
	over, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-over:
				return
			default:
				_ = r.DMA(r.Endpoints[0], true, iova, noise())
			}
		}
	}()
	return func() {
		close(over)
		<-stopped
	}
}

// testGuestIDs checks that a host behaves as an SMMU with the guest's ID registers.
func testGuestIDs(s *suite) {
	const iova = 0x12_3456_0000
	s.runUnclaimed("CapabilitiesStay", func(r *rig) {
		lowered := r.ids
		lowered.Set(smmuv3.SSIDSIZE, 0)
		lowered.Set(smmuv3.CD2L, 0)
		r.claim(lowered)
		caps, err := r.Host.Capabilities()
		require.NoError(r, err)
		assert.Equal(r, r.ids, caps.IDs)
	})

	// A feature that the guest's ID registers do not show does not exist. Structures that use it
	// are illegal or fault.
	for _, c := range []struct {
		name  string
		has   func(ids *smmuv3.IDRegs) bool
		lower func(ids *smmuv3.IDRegs)
		cd    func(cd *smmuv3.CD)
		want  smmuv3.EventType
	}{
		{
			"ASID16", func(ids *smmuv3.IDRegs) bool { return ids.Has(smmuv3.ASID16) },
			func(ids *smmuv3.IDRegs) { ids.Set(smmuv3.ASID16, 0) },
			func(cd *smmuv3.CD) { cd.SetASID(0x101) }, smmuv3.CBadCD,
		},
		{
			"HTTU", func(ids *smmuv3.IDRegs) bool { return ids.Has(smmuv3.HTTU) },
			func(ids *smmuv3.IDRegs) { ids.Set(smmuv3.HTTU, 0) },
			func(cd *smmuv3.CD) { cd.SetHA(true) }, smmuv3.CBadCD,
		},
		{
			"STT", func(ids *smmuv3.IDRegs) bool { return ids.Has(smmuv3.STT) },
			func(ids *smmuv3.IDRegs) { ids.Set(smmuv3.STT, 0) },
			func(cd *smmuv3.CD) { cd.SetTxSZ(0, 40) }, smmuv3.CBadCD, // 39 without IDR3.STT
		},
		{
			"GRAN64K", func(ids *smmuv3.IDRegs) bool { return ids.Has(smmuv3.GRAN64K) && ids.Has(smmuv3.GRAN4K) },
			func(ids *smmuv3.IDRegs) { ids.Set(smmuv3.GRAN64K, 0) },
			func(cd *smmuv3.CD) { cd.SetTGx(0, smmuv3.Granule64K) }, smmuv3.CBadCD,
		},
		{
			"TTENDIAN", func(ids *smmuv3.IDRegs) bool { return ids.Get(smmuv3.TTENDIAN) == smmuv3.TTENDIANMixed },
			func(ids *smmuv3.IDRegs) { ids.Set(smmuv3.TTENDIAN, smmuv3.TTENDIANLittle) },
			func(cd *smmuv3.CD) { cd.SetENDI(true) }, smmuv3.CBadCD,
		},
	} {
		s.runUnclaimed(c.name, func(r *rig) {
			if !r.Software {
				r.Skip(SkipHardware)
			}
			if !c.has(&r.ids) {
				r.Skip(SkipNoFeature)
			}
			lowered := r.ids
			c.lower(&lowered)
			r.claim(lowered)
			g := r.guest()
			sp, page := g.space(), g.page()
			sp.set(iova, page, smmuv3.LeafAttrs{})
			cd := sp.CD()
			st := r.attach()
			r.bind(st, sp.stageWith(cd))
			require.True(r, r.reaches(r.device(0), iova, page), "without the feature")
			c.cd(&cd)
			r.bind(st, sp.stageWith(cd))
			assert.False(r, r.reaches(r.device(0), iova, page), "with the feature")
			assert.Equal(r, sid, r.event(c.want).StreamID())
		})
	}
	// §3.4: an output address beyond the guest's OAS is F_ADDR_SIZE.
	s.runUnclaimed("OAS", func(r *rig) {
		if !r.Software {
			r.Skip(SkipHardware)
		}
		const oas40, beyond = 2, 1 << 41
		if r.ids.OutputBits() <= 41 {
			r.Skip(SkipNoFeature)
		}
		lowered := r.ids
		lowered.Set(smmuv3.OAS, oas40)
		r.claim(lowered)
		sp := r.guest().space()
		sp.set(iova, beyond, smmuv3.LeafAttrs{})
		r.bind(r.attach(), sp.stage())
		_ = r.device(0)(false, iova, make([]byte, 8))
		assert.EqualValues(r, iova, r.event(smmuv3.FAddrSize).InputAddr())
	})

	// §4.4.1.1: hints that the guest's ID registers do not show are RES0 and do not narrow an
	// invalidation.
	for _, c := range []struct {
		name  string
		has   smmuv3.IDField
		block bool // maps a block of level 2
		cmd   func(g *guest, sp *space) smmuv3.Command
	}{
		{"TTLWithoutRIL", smmuv3.RIL, true, func(g *guest, sp *space) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, sp.ASID, iova, true).WithRange(g.granule, 0, 0, 3)
		}},
		{"RangeWithoutRIL", smmuv3.RIL, false, func(g *guest, sp *space) smmuv3.Command {
			return smmuv3.NewTLBINHVA(0, sp.ASID, iova, true).WithRange(g.granule, 0, 1, 0)
		}},
		{"TTL16KWithoutDS", smmuv3.DS, false, func(g *guest, sp *space) smmuv3.Command {
			// TTL = 01 is Reserved for 16 KiB without IDR5.DS, and behaves as 00.
			return smmuv3.NewTLBINHVA(0, sp.ASID, iova, true).WithRange(smmuv3.Granule16K, 0, 1, 1)
		}},
	} {
		s.runUnclaimed(c.name, func(r *rig) {
			if !r.ids.Has(c.has) || c.has == smmuv3.DS && !r.ids.Has(smmuv3.GRAN16K) {
				r.Skip(SkipNoFeature)
			}
			lowered := r.ids
			lowered.Set(c.has, 0)
			if c.has == smmuv3.RIL {
				// v3.2 and later require IDR3.RIL.
				lowered.Set(smmuv3.ArchMinor, min(lowered.Get(smmuv3.ArchMinor), 1))
			}
			r.claim(lowered)
			g := r.guest()
			if c.has == smmuv3.DS {
				g.granule = smmuv3.Granule16K
			}
			level := lastLevel
			if c.block {
				level = lastLevel - 1
			}
			g.invalidates(level, iova, func(sp *space) smmuv3.Command { return c.cmd(g, sp) })
		})
	}
}

// invalidates checks that a command invalidates the translation of an IOVA by a leaf at the level.
func (g *guest) invalidates(level int, iova uint64, cmd func(*space) smmuv3.Command) {
	g.Helper()
	size := uint64(1) << g.granule.LevelShift(level)
	if size > RAMSize/2 {
		g.Skip(SkipNoRoom)
	}
	sp, d, base := g.space(), g.device(0), iova&^(size-1)
	target := g.alloc(size)
	at := target + guestmem.GPA(iova-base)
	require.NoError(g, sp.SetEntry(base, level, smmuv3.LeafDesc(uint64(target), level, smmuv3.LeafAttrs{})))
	g.bind(g.attach(), sp.stage())
	require.True(g, g.reaches(d, iova, at))
	require.NoError(g, sp.SetEntry(base, level, 0))
	g.invalidate(cmd(sp))
	assert.False(g, g.reaches(d, iova, at), "the translation is invalidated")
}
