package bridgetest

import (
	"bytes"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stalled is a device's read that waits for the guest.
type stalled struct {
	*rig
	bridge.Staller
	stream bridge.Stream
	space  *space
	page   guestmem.GPA // where the guest would have had it go
	want   []byte       // what is there
	event  smmuv3.Event
	over   chan error // what came of it
	got    []byte
}

const stalledIOVA = 0x21_4365_0000

// stall has a read stall at an address that nothing is mapped at.
func (r *rig) stall() *stalled {
	r.Helper()
	if r.ids.Get(smmuv3.StallModel) != smmuv3.StallBoth {
		r.Skip("the host's IDR0.STALL_MODEL is not 0b00")
	}
	staller, ok := r.Host.(bridge.Staller)
	require.True(r, ok, "a host with stalls is a Staller")
	g := r.guest()
	s := &stalled{rig: r, Staller: staller, space: g.space(), page: g.page(), want: noise(), over: make(chan error, 1), got: make([]byte, probe)}
	require.NoError(r, r.Memory.WriteAt(s.want, s.page))
	stage := s.space.stage()
	cd := s.space.cd()
	cd.SetS(true)
	g.store(stage.S1ContextPtr, cd[:]...)
	s.stream = r.attach()
	r.bind(s.stream, stage)

	dma := r.device(0)
	go func() { s.over <- dma(false, stalledIOVA, s.got) }()
	s.event = r.event(smmuv3.FTranslation)
	assert.True(r, s.event.Stall(), "%v", s.event)
	assert.Equal(r, sid, s.event.StreamID())
	assert.EqualValues(r, stalledIOVA, s.event.InputAddr())
	s.waits()
	return s
}

// waits asserts that the read is not over.
func (s *stalled) waits() {
	s.Helper()
	select {
	case err := <-s.over:
		require.Fail(s, "the transaction does not wait", "it came to %v", err)
	default:
	}
}

// aborted asserts that the read has come, or comes, to nothing.
func (s *stalled) aborted() {
	s.Helper()
	err := <-s.over
	assert.False(s, err == nil && bytes.Equal(s.want, s.got), "it was to be aborted")
}

// testStalls has transactions stall, and be resumed and ended.
func testStalls(s *suite) {
	s.run("Retry", func(r *rig) {
		st := r.stall()
		st.space.set(stalledIOVA, st.page, smmuv3.LeafAttrs{})
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.Retry))
		require.NoError(r, <-st.over)
		assert.Equal(r, st.want, st.got)
	})
	s.run("RetryFaults", func(r *rig) {
		st := r.stall()
		for range 3 {
			require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.Retry))
			st.event = r.event(smmuv3.FTranslation)
			require.True(r, st.event.Stall(), "it is a new transaction")
			st.waits()
		}
		require.NoError(r, st.TerminateStalled(sid))
		st.aborted()
	})
	s.run("Abort", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.TerminateAbort))
		st.aborted()
	})
	s.run("RAZWI", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.TerminateRAZWI))
		if r.ids.Has(smmuv3.TermModel) {
			st.aborted()
			return
		}
		require.NoError(r, <-st.over)
		assert.Equal(r, make([]byte, probe), st.got)
	})
	s.run("OfAnother", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.Resume(sid, st.event.STAG()+1, bridge.TerminateAbort))
		require.NoError(r, st.Resume(sid+1, st.event.STAG(), bridge.TerminateAbort))
		require.NoError(r, st.TerminateStalled(sid+1))
		st.waits()
		require.NoError(r, st.TerminateStalled(sid))
		st.aborted()
	})
	s.run("Withdrawals", func(r *rig) {
		st := r.stall()
		r.invalidate(command(smmuv3.OpTLBINHAll, 0, 0), command(smmuv3.OpCfgiCDAll, uint64(sid)<<32, 0))
		r.bind(st.stream, abort)
		st.waits()
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.Retry))
		st.aborted()
	})
	s.run("StreamClose", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.stream.Close())
		st.aborted()
	})
	s.run("HostClose", func(r *rig) {
		st := r.stall()
		require.NoError(r, r.Host.Close())
		st.aborted()
	})
}
