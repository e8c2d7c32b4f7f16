package record

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

var (
	_ bridge.PageRequester = (*Host)(nil)
	_ bridge.Staller       = (*Host)(nil)

	errTest = errors.New("told to")
)

func newHost(t *testing.T) *Host {
	h := New(bridge.Capabilities{IDs: smmuv3.IDRegs{AIDR: 4}})
	caps, err := h.Capabilities()
	require.NoError(t, err)
	assert.Equal(t, uint32(4), caps.IDs.AIDR)
	return h
}

// TestCallsAreRemembered: with their arguments and answers, in order, each on one line.
func TestCallsAreRemembered(t *testing.T) {
	h := newHost(t)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
	cmds := []smmuv3.Command{{0x10}, {0x30}}
	require.NoError(t, h.Invalidate(cmds))
	cmds[0] = smmuv3.Command{} // the caller's again
	require.NoError(t, h.Respond(bridge.PageResponse{StreamID: 3, SubstreamID: 9, SSV: true, PRGIndex: 5, Response: smmuv3.PRGSuccess}))
	require.NoError(t, h.Resume(3, 7, bridge.TerminateRAZWI))
	require.NoError(t, h.TerminateStalled(3))
	require.NoError(t, s.Close())
	require.NoError(t, h.Close())
	assert.ErrorIs(t, h.Close(), bridge.ErrClosed)

	var lines []string
	for _, c := range h.Calls() {
		lines = append(lines, c.String())
	}
	assert.Equal(t, []string{
		"attach 0x3", "bind 0x3: bypass", "invalidate TLBI_NH_ALL TLBI_NSNH_ALL", "respond 0x3 group 5: success",
		"resume 0x3 STAG 0x7: RAZ/WI", "terminate stalled 0x3", "close stream 0x3", "close host", "close host -> closed",
	}, lines)
	assert.Equal(t, bridge.PageResponse{StreamID: 3, SubstreamID: 9, SSV: true, PRGIndex: 5, Response: smmuv3.PRGSuccess}, h.Calls()[3].Response)
	assert.Len(t, h.Forget(), 9)
	assert.Empty(t, h.Calls())
}

// TestRulesOfPackageBridge: what a host refuses by itself.
func TestRulesOfPackageBridge(t *testing.T) {
	h := newHost(t)
	_, err := h.Attach(3, nil)
	assert.ErrorIs(t, err, bridge.ErrEndpoint)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	stage, ok := h.Stage(3)
	assert.True(t, ok)
	assert.Equal(t, bridge.GuestStage{}, stage, "it aborts until the first Bind")
	_, err = h.Attach(3, "nic")
	assert.ErrorIs(t, err, bridge.ErrInUse, "the StreamID")
	_, err = h.Attach(4, "disk")
	assert.ErrorIs(t, err, bridge.ErrInUse, "the endpoint")

	require.NoError(t, s.Close())
	_, ok = h.Stage(3)
	assert.False(t, ok)
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, s.Bind(bridge.GuestStage{}), bridge.ErrClosed)
	again, err := h.Attach(3, "disk")
	require.NoError(t, err)
	assert.ErrorIs(t, s.Bind(bridge.GuestStage{}), bridge.ErrClosed, "another stream of that name is not this one")

	require.NoError(t, h.Close())
	for name, err := range map[string]error{
		"Bind": again.Bind(bridge.GuestStage{}), "Invalidate": h.Invalidate(nil), "Resume": h.Resume(3, 1, bridge.Retry),
		"Respond": h.Respond(bridge.PageResponse{StreamID: 3, SubstreamID: 0, SSV: false, PRGIndex: 1, Response: smmuv3.PRGFailure}), "TerminateStalled": h.TerminateStalled(3),
	} {
		assert.ErrorIs(t, err, bridge.ErrClosed, name)
	}
	_, err = h.Attach(5, "late")
	assert.ErrorIs(t, err, bridge.ErrClosed)
}

// TestFailWith: a call that is told to fail does, has no other effect, and is remembered
// with its error.
func TestFailWith(t *testing.T) {
	h := newHost(t)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	h.Events(func(smmuv3.Event) {})
	h.Emit(smmuv3.Event{0x10 | 3<<32, 1<<31 | 7})
	h.FailWith(func(Call) error { return errTest })
	for _, err := range []error{
		s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}), h.Invalidate(nil), h.Resume(3, 7, bridge.Retry),
		h.TerminateStalled(3), s.Close(), h.Close(),
	} {
		assert.Equal(t, errTest, err)
	}
	_, err = h.Attach(4, "nic")
	assert.Equal(t, errTest, err)
	stage, ok := h.Stage(3)
	assert.True(t, ok && stage == bridge.GuestStage{} && h.Stalled(3, 7))
	for _, c := range h.Calls()[1:] {
		assert.Equal(t, errTest, c.Err, c)
	}
	h.FailWith(nil)
	assert.NoError(t, s.Close())
}

// TestFaults: what is emitted reaches the sink, once there is one; a transaction that
// stalls is there until it is resumed, ended, or its stream goes.
func TestFaults(t *testing.T) {
	h := newHost(t)
	stall := func(stag uint64) smmuv3.Event { return smmuv3.Event{0x10 | 3<<32, 1<<31 | stag} }
	h.Emit(stall(9))
	h.Request(smmuv3.PageRequest{3})
	var events []smmuv3.Event
	var requests []smmuv3.PageRequest
	h.Events(func(ev smmuv3.Event) { events = append(events, ev) })
	h.PageRequests(func(r smmuv3.PageRequest) { requests = append(requests, r) })
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	for name, end := range map[string]func() error{
		"resume":    func() error { return h.Resume(3, 1, bridge.Retry) },
		"terminate": func() error { return h.TerminateStalled(3) },
		"close":     func() error { return s.Close() },
	} {
		h.Emit(stall(1))
		assert.True(t, h.Stalled(3, 1), name)
		assert.False(t, h.Stalled(4, 1), name)
		if name == "resume" {
			require.NoError(t, h.Resume(3, 2, bridge.Retry)) // another
			assert.True(t, h.Stalled(3, 1))
		}
		require.NoError(t, end())
		assert.False(t, h.Stalled(3, 1), name)
	}
	h.Request(smmuv3.PageRequest{3, 5})
	assert.Len(t, events, 3)
	assert.Equal(t, []smmuv3.PageRequest{{3, 5}}, requests)
}
