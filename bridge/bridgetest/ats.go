package bridgetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATS is what a device with an ATC does (IHI 0070 §3.9.1), without SubstreamIDs.
type ATS struct {
	// Translate asks for the translation of a page, and says where that is and what is
	// granted. The device need not keep it.
	Translate func(iova uint64, write bool) (addr guestmem.GPA, mayRead, mayWrite bool, err error)
	// DMA is Rig.DMA at a translated address.
	DMA func(write bool, addr guestmem.GPA, p []byte) error
	// Invalidated returns the ranges that the device has been told to drop since the
	// last call, each by its first address and its last.
	Invalidated func() [][2]uint64
	// RequestPage sends a page request, and Response waits for the answer to a group.
	// They are for hosts with IDR0.PRI.
	RequestPage func(smmuv3.PageRequest) error
	Response    func() (group uint16, code smmuv3.PRGResponse)
}

// withATS is the first device with its ATS, if there is such a thing.
func (r *rig) withATS() ATS {
	r.Helper()
	if !r.ids.Has(smmuv3.ATS) || r.ATS == nil {
		r.Skip("the host has no IDR0.ATS, or the devices have none")
	}
	return r.ATS(r.Endpoints[0])
}

// direct is DMA that goes past stage 1, by translated addresses.
func (a ATS) direct() dma {
	return func(write bool, addr uint64, p []byte) error { return a.DMA(write, guestmem.GPA(addr), p) }
}

// testATS has a device ask for translations, use them, and lose them.
func testATS(s *suite) {
	const iova = 0x35_7913_0000
	s.run("Granted", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		sp, page, readOnly := g.space(), g.page(), g.page()
		size := uint64(1) << g.granule
		sp.set(iova, page, smmuv3.LeafAttrs{})
		sp.set(iova+size, readOnly, smmuv3.LeafAttrs{ReadOnly: true})
		sp.set(iova+2*size, readOnly, smmuv3.LeafAttrs{Privileged: true})
		r.bind(r.attach(), sp.stageATS())

		addr, mayRead, mayWrite, err := ats.Translate(iova, true)
		require.NoError(r, err)
		assert.True(r, mayRead && mayWrite)
		require.Equal(r, page, addr)
		assert.True(r, r.reaches(ats.direct(), uint64(addr), page))

		addr, mayRead, mayWrite, err = ats.Translate(iova+size, true)
		require.NoError(r, err)
		assert.True(r, mayRead && !mayWrite)
		assert.Equal(r, readOnly, addr)
		for _, at := range []uint64{iova + 2*size, iova + 3*size} {
			_, mayRead, mayWrite, err = ats.Translate(at, true)
			require.NoError(r, err, "what would fault is answered with success, and nothing granted")
			assert.False(r, mayRead || mayWrite)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		assert.Empty(r, r.events)
	})
	s.run("Forbidden", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		sp, page := g.space(), g.page()
		sp.set(iova, page, smmuv3.LeafAttrs{})
		stage := sp.stageATS()
		stage.EATS = smmuv3.EATSNone
		st := r.attach()
		for name, stage := range map[string]bridge.GuestStage{"EATS 00": stage, "bypass": bypass, "disabled": {Disposition: bridge.Bypass, Disabled: true}} {
			r.bind(st, stage)
			_, _, _, err := ats.Translate(iova, true)
			assert.Error(r, err, name)
			assert.Equal(r, sid, r.event(smmuv3.FBadATSTReq).StreamID(), name)
			assert.False(r, r.reaches(ats.direct(), uint64(page), page), name)
			e := r.event(smmuv3.FTranslForbidden)
			assert.Equal(r, sid, e.StreamID(), name)
			assert.EqualValues(r, page, e.InputAddr(), name)
		}
	})
	s.run("Withdrawn", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		sp, before, after := g.space(), g.page(), g.page()
		sp.set(iova, before, smmuv3.LeafAttrs{})
		st := r.attach()
		r.bind(st, sp.stageATS())
		addr, _, _, err := ats.Translate(iova, true)
		require.NoError(r, err)
		require.Equal(r, before, addr)
		ats.Invalidated()

		sp.set(iova, after, smmuv3.LeafAttrs{})
		r.invalidate(command(smmuv3.OpTLBINHVA, uint64(sp.asid)<<48, iova|1))
		r.invalidate(command(smmuv3.OpATCInv, uint64(sid)<<32, iova|2)) // 16 KiB
		assert.Equal(r, [][2]uint64{{iova, iova + 0x3fff}}, ats.Invalidated(), "when Invalidate returns, it has been")
		addr, _, _, err = ats.Translate(iova, true)
		require.NoError(r, err)
		assert.Equal(r, after, addr)

		all := smmuv3.NewATCInvAll(sid)
		r.invalidate(all[0], command(smmuv3.OpATCInv, uint64(sid+1)<<32, 0))
		assert.Equal(r, [][2]uint64{{0, ^uint64(0)}}, ats.Invalidated(), "and that of another stream has not")

		require.NoError(r, st.Close())
		assert.False(r, r.reaches(ats.direct(), uint64(after), after))
	})
	s.run("PageRequests", func(r *rig) {
		ats := r.withATS()
		if !r.ids.Has(smmuv3.PRI) {
			r.Skip("the host has no IDR0.PRI")
		}
		host, ok := r.Host.(bridge.PageRequester)
		require.True(r, ok, "a host with PRI is a PageRequester")
		requests := make(chan smmuv3.PageRequest, 4)
		host.PageRequests(func(q smmuv3.PageRequest) { requests <- q })
		r.bind(r.attach(), r.guest().space().stageATS())

		var want smmuv3.PageRequest
		want.SetAddr(iova)
		want.SetR(true)
		want.SetPRGIndex(5)
		last := want
		last.SetW(true)
		last.SetLast(true)
		for _, q := range []smmuv3.PageRequest{want, last} {
			require.NoError(r, ats.RequestPage(q))
			q.SetStreamID(sid)
			select {
			case got := <-requests:
				assert.Equal(r, q, got.Defined())
			case <-time.After(2 * time.Minute):
				require.Fail(r, "the request has not come")
			}
		}
		require.NoError(r, host.Respond(bridge.PageResponse{StreamID: sid + 1, PRGIndex: 6, Response: smmuv3.PRGFailure}), "to nobody")
		require.NoError(r, host.Respond(bridge.PageResponse{StreamID: sid, PRGIndex: 5, Response: smmuv3.PRGSuccess}))
		group, code := ats.Response()
		assert.EqualValues(r, 5, group)
		assert.Equal(r, smmuv3.PRGSuccess, code)
	})
}

// stageATS is stage, of an endpoint that may use ATS.
func (s *space) stageATS() bridge.GuestStage {
	g := s.stage()
	g.EATS = smmuv3.EATSFull
	return g
}
