package bridgetest

import (
	"bytes"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stalled is a device's read that stalls until the guest resumes it.
type stalled struct {
	*rig
	bridge.Staller
	stream bridge.Stream
	space  *space
	page   guestmem.GPA // where the guest may map the address
	want   []byte       // the content of the page
	event  smmuv3.Event
	over   chan error // the outcome
	got    []byte
}

const stalledIOVA = 0x21_4365_0000

// stall makes a read stall at an address that is not mapped.
func (r *rig) stall() *stalled {
	r.Helper()
	if r.ids.Get(smmuv3.StallModel) != smmuv3.StallBoth {
		r.Skip(SkipNoStalls)
	}
	staller, ok := r.Host.(bridge.Staller)
	require.True(r, ok, "a host with stalls is a Staller")
	g := r.guest()
	s := &stalled{
		rig: r, Staller: staller, space: g.space(), page: g.page(),
		want: noise(), over: make(chan error, 1), got: make([]byte, probe),
	}
	require.NoError(r, r.Memory.WriteAt(s.want, s.page))
	cd := s.space.CD()
	cd.SetS(true)
	s.stream = r.attach()
	r.bind(s.stream, s.space.stageWith(cd))

	dma := r.device(0)
	go func() { s.over <- dma(false, stalledIOVA, s.got) }()
	s.event = r.event(smmuv3.FTranslation)
	assert.True(r, s.event.Stall(), "%v", s.event)
	assert.Equal(r, sid, s.event.StreamID())
	assert.EqualValues(r, stalledIOVA, s.event.InputAddr())
	s.waits()
	return s
}

// waits fails if the read is over.
func (s *stalled) waits() {
	s.Helper()
	select {
	case err := <-s.over:
		require.Fail(s, "the transaction does not stall", "it ended with %v", err)
	default:
	}
}

// aborted waits for the end of the read and fails unless it aborted.
func (s *stalled) aborted() {
	s.Helper()
	err := <-s.over
	assert.False(s, err == nil && bytes.Equal(s.want, s.got), "the read succeeded")
}

// testStalls tests bridge.Staller.
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
			require.True(r, st.event.Stall(), "the fault of the retry stalls")
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
	s.run("AnotherSTAGOrStream", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.Resume(sid, st.event.STAG()+1, bridge.TerminateAbort))
		require.NoError(r, st.Resume(sid+1, st.event.STAG(), bridge.TerminateAbort))
		require.NoError(r, st.TerminateStalled(sid+1))
		st.waits()
		require.NoError(r, st.TerminateStalled(sid))
		st.aborted()
	})
	s.run("InvalidationsLeaveStalls", func(r *rig) {
		st := r.stall()
		r.invalidate(smmuv3.NewTLBINHAll(0), smmuv3.NewCfgiCDAll(sid))
		r.bind(st.stream, abort)
		st.waits()
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.Retry))
		st.aborted()
	})
	s.run("StreamCloseAborts", func(r *rig) {
		st := r.stall()
		require.NoError(r, st.stream.Close())
		st.aborted()
		require.NoError(r, st.Resume(sid, st.event.STAG(), bridge.Retry), "a STAG of no stream")
	})
	s.run("HostCloseAborts", func(r *rig) {
		st := r.stall()
		require.NoError(r, r.Host.Close())
		st.aborted()
		r.fails(st.Resume(sid, st.event.STAG(), bridge.Retry), bridge.ErrClosed)
		r.fails(st.TerminateStalled(sid), bridge.ErrClosed)
	})
}
