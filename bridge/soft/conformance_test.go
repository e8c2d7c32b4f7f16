package soft_test

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestConformance(t *testing.T) {
	wide := soft.DefaultIDs()
	wide.Set(smmuv3.OAS, 6)
	wide.Set(smmuv3.DS, 1)
	wide.Set(smmuv3.VAX, 1)
	for name, ids := range map[string]smmuv3.IDRegs{
		"Default": soft.DefaultIDs(), "StallsAndATS": withATS(), "Stage2": soft.Stage2IDs(), "52Bits": wide,
	} {
		t.Run(name, func(t *testing.T) { testConformance(t, ids) })
	}
}

func testConformance(t *testing.T, ids smmuv3.IDRegs) {
	move := func(d interface {
		ReadAt(p []byte, iova uint64) error
		WriteAt(p []byte, iova uint64) error
	}, write bool, iova uint64, p []byte) error {
		if write {
			return d.WriteAt(p, iova)
		}
		return d.ReadAt(p, iova)
	}
	bridgetest.Run(t, func(t *testing.T) bridgetest.Rig {
		const ram = 0x4000_0000
		var mem guestmem.Slots
		require.NoError(t, mem.Add(guestmem.Slot{GPA: ram, Mem: make([]byte, bridgetest.RAMSize)}))
		h, err := soft.New(soft.Config{Memory: &mem, IDs: ids, ATCTimeout: time.Hour})
		require.NoError(t, err)
		t.Cleanup(func() { _ = h.Close() })
		ep := soft.NewEndpoint()
		ep.AllowStalls(t.Context())
		ats := enableATS(ep)
		return bridgetest.Rig{
			Host: h, Memory: &mem, RAM: ram, Software: true,
			Endpoints: []bridge.Endpoint{ep, soft.NewEndpoint()},
			DMA: func(ep bridge.Endpoint, write bool, iova uint64, p []byte) error {
				return move(ep.(*soft.Endpoint), write, iova, p)
			},
			SubstreamDMA: func(ep bridge.Endpoint, s smmuv3.SubstreamID, write bool, iova uint64, p []byte) error {
				return move(ep.(*soft.Endpoint).With(soft.Attrs{Substream: s, HasSubstream: true}), write, iova, p)
			},
			ATS: func(bridge.Endpoint) bridgetest.ATS { return ats },
		}
	})
}

// enableATS gives an endpoint an ATC that caches nothing.
func enableATS(ep *soft.Endpoint) bridgetest.ATS {
	var mu sync.Mutex
	var told [][2]uint64
	var during func()
	answers := make(chan bridge.PageResponse, 4)
	ep.EnableATS(soft.ATS{
		Invalidate: func(r soft.ATCRange) {
			mu.Lock()
			told = append(told, [2]uint64{r.First, r.Last})
			f := during
			mu.Unlock()
			if f != nil {
				f()
			}
		},
		Respond: func(r bridge.PageResponse) { answers <- r },
	})
	return bridgetest.ATS{
		Translate: func(iova uint64, write bool) (addr guestmem.GPA, mayRead, mayWrite bool, err error) {
			t, err := ep.Translate(iova, write)
			return t.Addr + guestmem.GPA(iova-t.IOVA), t.Read, t.Write, err
		},
		DMA: func(write bool, addr guestmem.GPA, p []byte) error {
			if write {
				return ep.WriteTranslated(p, addr)
			}
			return ep.ReadTranslated(p, addr)
		},
		Invalidated: func() (all [][2]uint64) {
			mu.Lock()
			defer mu.Unlock()
			all, told = told, nil
			return all
		},
		OnInvalidate: func(f func()) {
			mu.Lock()
			defer mu.Unlock()
			during = f
		},
		RequestPage: ep.RequestPage,
		Response: func() (uint16, smmuv3.PRGResponse) {
			r := <-answers
			return r.PRGIndex, r.Response
		},
	}
}
