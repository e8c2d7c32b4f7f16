package bridgetest

import (
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATS controls a device with an ATC (IHI 0070 §3.9.1). It has no SubstreamIDs.
type ATS struct {
	// Translate requests the translation of a page and returns the address and the granted access.
	// The device need not cache it.
	Translate func(iova uint64, write bool) (addr guestmem.GPA, mayRead, mayWrite bool, err error)
	// DMA is Rig.DMA at a translated address.
	DMA func(write bool, addr guestmem.GPA, p []byte) error
	// Invalidated returns the ranges that the device invalidated since the last call, each by its
	// first and its last address.
	Invalidated func() [][2]uint64
	// OnInvalidate sets a function that the device calls during each invalidation, before the
	// invalidation completes. OnInvalidate(nil) removes the function. The field is nil if the
	// hardware cannot call a function.
	OnInvalidate func(f func())
	// RequestPage sends a page request. Response waits for the response to a group. Both are for
	// hosts with IDR0.PRI.
	RequestPage func(smmuv3.PageRequest) error
	Response    func() (group uint16, code smmuv3.PRGResponse)
}

// withATS returns the first device's controls, or skips the test.
func (r *rig) withATS() ATS {
	r.Helper()
	if !r.ids.Has(smmuv3.ATS) || r.ATS == nil {
		r.Skip(SkipNoIDR0 + "ATS, or the devices have none")
	}
	return r.ATS(r.Endpoints[0])
}

// direct returns DMA at translated addresses, which bypasses stage 1.
func (a ATS) direct() dma {
	return func(write bool, addr uint64, p []byte) error { return a.DMA(write, guestmem.GPA(addr), p) }
}

// testATS tests translation requests, translated DMA, ATC invalidations and page requests.
func testATS(s *suite) {
	const iova = 0x35_7913_0000
	s.run("Granted", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		sp, page, readOnly := g.space(), g.page(), g.page()
		size := sp.PageSize()
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
			require.NoError(r, err, "a request that would fault succeeds and grants nothing")
			assert.False(r, mayRead || mayWrite)
		}
		assert.Zero(r, r.log.total(), "translation requests report no faults")
	})
	s.run("Forbidden", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		sp, page := g.space(), g.page()
		sp.set(iova, page, smmuv3.LeafAttrs{})
		stage := sp.stageATS()
		stage.EATS = smmuv3.EATSNone
		st := r.attach()
		for name, stage := range map[string]bridge.GuestStage{
			"EATS 00": stage, "bypass": bypass, "disabled": {Disposition: bridge.Bypass, Disabled: true},
		} {
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
	s.run("ATC_INV", func(r *rig) {
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
		r.invalidate(smmuv3.NewTLBINHVA(0, sp.ASID, iova, true))
		r.invalidate(smmuv3.NewATCInv(sid, iova, 2)) // 16 KiB
		assert.Equal(r, [][2]uint64{{iova, iova + 0x3fff}}, ats.Invalidated(), "complete when Invalidate returns")
		addr, _, _, err = ats.Translate(iova, true)
		require.NoError(r, err)
		assert.Equal(r, after, addr)

		all := smmuv3.NewATCInvAll(sid)
		r.invalidate(all[0])
		assert.Equal(r, [][2]uint64{{0, ^uint64(0)}}, ats.Invalidated())

		require.NoError(r, st.Close())
		assert.False(r, r.reaches(ats.direct(), uint64(after), after))
	})
	// §4.5.1: the device may request the translation again as soon as its ATC is invalidated. A
	// TLBI earlier in the same batch is complete by then, although no SYNC separates them.
	s.run("TLBIBeforeATC_INV", func(r *rig) {
		ats, g := r.withATS(), r.guest()
		if ats.OnInvalidate == nil {
			r.Skip(SkipNoCallback)
		}
		sp, before, after := g.space(), g.page(), g.page()
		sp.set(iova, before, smmuv3.LeafAttrs{})
		r.bind(r.attach(), sp.stageATS())
		_, _, _, err := ats.Translate(iova, true)
		require.NoError(r, err)
		sp.set(iova, after, smmuv3.LeafAttrs{})
		var addr guestmem.GPA
		ats.OnInvalidate(func() { addr, _, _, err = ats.Translate(iova, true) })
		defer ats.OnInvalidate(nil)
		r.invalidate(
			smmuv3.NewTLBINHVA(0, sp.ASID, iova, true), smmuv3.NewATCInv(sid, iova, 0),
			smmuv3.NewTLBINHVA(0, sp.ASID, iova, true),
		)
		require.NoError(r, err)
		assert.Equal(r, after, addr)
	})
	s.run("PageRequests", func(r *rig) {
		ats := r.withATS()
		if !r.ids.Has(smmuv3.PRI) {
			r.Skip(SkipNoIDR0 + "PRI")
		}
		host, ok := r.Host.(bridge.PageRequester)
		require.True(r, ok, "a host with PRI is a bridge.PageRequester")
		requests := make(chan smmuv3.PageRequest, 4)
		require.NoError(r, host.PageRequests(func(q smmuv3.PageRequest) { requests <- q }))
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
			case <-time.After(patience):
				require.Fail(r, "the host reports no page request")
			}
		}
		// A response to an unknown group has no effect.
		other := bridge.PageResponse{StreamID: sid + 1, PRGIndex: 5, Response: smmuv3.PRGFailure}
		require.NoError(r, host.Respond(other))
		require.NoError(r, host.Respond(bridge.PageResponse{StreamID: sid, PRGIndex: 5, Response: smmuv3.PRGSuccess}))
		group, code := ats.Response()
		assert.EqualValues(r, 5, group)
		assert.Equal(r, smmuv3.PRGSuccess, code)
	})
}
