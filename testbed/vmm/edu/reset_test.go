package edu

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// snapshot returns the configuration space and the registers.
func snapshot(r *rig) (all []uint64) {
	for off := uint64(0); off < 0x140; off += 4 {
		all = append(all, r.config(off, 4))
	}
	r.place()
	for off := uint64(0); off < 0x1100; off += 4 {
		all = append(all, r.window.Load(off, 4))
	}
	for off := uint64(0); off < 0x2000; off += 4 {
		all = append(all, r.window.Load(0x20_0000+off, 4))
	}
	return all
}

func TestFunctionLevelResetForgetsAll(t *testing.T) {
	r := newRig(t, all)
	r.setConfig(0x58, 2, 0x8000)
	fresh := snapshot(r)

	r.enableAll()
	r.mapPage(dataAt)
	e := r.STE(sid)
	e.SetEATS(smmuv3.EATSFull)
	require.NoError(t, r.SetSTE(sid, e))
	r.store(0x1010, byATS)
	require.Equal(t, regs.OK, r.dma(true, iova, 8).Code())
	require.NoError(t, r.Run(smmuv3.NewATCInv(sid, 0x7000_0000, 0)))
	require.Equal(t, regs.OK, r.run(request(5, read|last), 0).Code())
	require.NoError(t, r.Respond(smmuv3.NewPageRequest(sid, 6, 0, smmuv3.PageAccess{}, true), smmuv3.PRGFailure))
	require.Equal(t, regs.OK, r.run(1, iova).Code())
	r.store(0x1028, 64)
	r.window.Store(0x04, 4, 1)
	r.window.Store(0x08, 4, 5)
	r.window.Store(0x20, 4, 0x80)
	r.window.Store(0x60, 4, 1)
	r.setConfig(0x92, 2, 0xc000)
	r.window.Store(0x60, 4, 0x100)
	r.store(0x20_0008, 0x99)
	r.store(0x1030, 1)
	for _, set := range [][3]uint64{{0x3c, 1, 9}, {0x44, 4, 0x1000}, {0x4c, 2, 7}, {0x42, 2, 1}, {0x58, 2, 0x2000}} {
		r.setConfig(set[0], int(set[1]), set[2])
	}
	require.NotEqual(t, fresh, snapshot(r))

	r.setConfig(0x58, 2, 0x8000)
	assert.EqualValues(t, 0, r.config(0x04, 2), "command")
	assert.Equal(t, fresh, snapshot(r))
	assert.False(t, r.intx())
}

func TestNoResetWithoutItsCapability(t *testing.T) {
	r := newRig(t, Features{PASIDBits: 20})
	r.window.Store(0x04, 4, 1)
	r.setConfig(0x58, 2, 0x8000)
	assert.EqualValues(t, ^uint32(1), r.window.Load(0x04, 4))
}

// A reset, and Close, end what waits: for a page, for the SMMU to resume a transaction, for the end
// of a Pause.
func TestResetEndsWhatWaits(t *testing.T) {
	for _, tt := range []struct {
		name  string
		start func(r *rig)
	}{
		{"for a page", func(r *rig) {
			r.store(0x1010, byATS|askForPage)
			r.begin(true, iova+0x1000, 8)
		}},
		{"for the end of a pause", func(r *rig) {
			require.NoError(r.t, r.f.Pause(r.t.Context()))
			r.begin(true, iova, 8)
		}},
		{"with a message", func(r *rig) {
			require.NoError(r.t, r.f.Pause(r.t.Context()))
			r.setConfig(0x42, 2, 1)
			r.window.Store(0x60, 4, 1)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newATSRig(t)
				tt.start(r)
				start := time.Now()
				r.setConfig(0x58, 2, 0x8000)
				r.place()
				assert.Zero(t, r.load(0x98))
				assert.Zero(t, r.load(0x1008))
				r.f.Resume()
				tt.start(r) // Close, too
				assert.Less(t, time.Since(start), time.Second)
			})
		})
	}
}

// newStallRig returns a function whose faults stall, and its address space.
func newStallRig(t testing.TB) (*rig, *vsmmutest.Stage1) {
	t.Helper()
	r := newRig(t, Features{Stalls: true, FLR: true})
	s, err := r.NewStage1()
	require.NoError(t, err)
	table, err := vsmmutest.NewCDTable(r.RAM, smmuv3.S1FmtLinear, 0)
	require.NoError(t, err)
	cd := s.CD()
	cd.SetS(true)
	require.NoError(t, table.Set(0, cd))
	require.NoError(t, r.SetSTE(sid, table.STE()))
	return r, s
}

func TestStalledDMAWaitsForTheGuest(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  smmuv3.ResumeAction
		want regs.Outcome
	}{
		{"retry", smmuv3.ResumeRetry, regs.NewOutcome(regs.OK, 8)},
		{"abort", smmuv3.ResumeAbort, regs.NewOutcome(regs.Aborted, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, s := newStallRig(t)
			r.fill()
			r.begin(true, iova, 8)
			e, err := r.WaitEvent()
			require.NoError(t, err)
			assert.True(t, e.Stall())
			assert.EqualValues(t, 3, r.load(0x98), "it runs")
			require.NoError(t, s.Map(iova, dataAt, 4096, smmuv3.LeafAttrs{}))
			require.NoError(t, r.Resume(e, tt.how))
			assert.Equal(t, tt.want, r.end())
		})
	}
}

func TestResetEndsAStalledDMA(t *testing.T) {
	r, _ := newStallRig(t)
	r.begin(true, iova, 8)
	_, err := r.WaitEvent()
	require.NoError(t, err)
	r.setConfig(0x58, 2, 0x8000)
	r.place()
	assert.Zero(t, r.load(0x98))

	r.begin(true, iova+0x10_0000, 8)
	e, err := r.WaitEvent()
	require.NoError(t, err)
	assert.True(t, e.Stall(), "DMA stalls again after the reset")
}

// Pause waits for in-flight DMA, holds later DMA, and gives up with its context.
func TestPauseHoldsDMA(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.fill()
	require.NoError(t, r.f.Pause(t.Context()))
	r.begin(true, iova, 8)
	assert.EqualValues(t, 3, r.load(0x98))
	assert.NotEqual(t, pattern, r.word(dataAt))
	r.f.Resume()
	assert.Equal(t, regs.OK, r.end().Code())
	assert.Equal(t, pattern, r.word(dataAt))
}

func TestPauseWaitsForInFlightDMA(t *testing.T) {
	r, _ := newStallRig(t)
	r.begin(true, iova, 8)
	e, err := r.WaitEvent()
	require.NoError(t, err)
	paused := make(chan error)
	go func() { paused <- r.f.Pause(t.Context()) }()
	r.until(func() bool {
		r.f.gate.mu.Lock()
		defer r.f.gate.mu.Unlock()
		return r.f.gate.idle != nil
	})
	select {
	case <-paused:
		assert.Fail(t, "a transaction is in flight")
	default:
	}
	require.NoError(t, r.Resume(e, smmuv3.ResumeAbort))
	assert.NoError(t, <-paused)
	r.f.Resume()
	assert.Equal(t, regs.Aborted, r.end().Code())
}

func TestPauseEndsWithItsContextIfDMAIsStalled(t *testing.T) {
	r, s := newStallRig(t)
	r.begin(true, iova, 8)
	e, err := r.WaitEvent()
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.ErrorIs(t, r.f.Pause(ctx), context.Canceled)
	require.NoError(t, r.Resume(e, smmuv3.ResumeAbort))
	r.end()
	require.NoError(t, s.Map(iova, dataAt, 4096, smmuv3.LeafAttrs{}))
	assert.Equal(t, regs.OK, r.dma(true, iova, 8).Code(), "the function was not paused")
	require.NoError(t, r.f.Pause(t.Context()))
	r.f.Resume()
}
