package record

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

var errTest = errors.New("test failure")

func newHost(t *testing.T) *Host {
	h := New(bridge.Capabilities{IDs: smmuv3.IDRegs{AIDR: 4}})
	caps, err := h.Capabilities()
	require.NoError(t, err)
	assert.Equal(t, uint32(4), caps.IDs.AIDR)
	return h
}

// lines returns the calls as text.
func lines(calls []Call) (all []string) {
	for _, c := range calls {
		all = append(all, c.String())
	}
	return all
}

func dropEvent(smmuv3.Event)         {}
func dropRequest(smmuv3.PageRequest) {}

func TestCallsKeepsArgumentsResultsAndOrder(t *testing.T) {
	h := newHost(t)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))
	cmds := []smmuv3.Command{{0x10}, {0x30}}
	require.NoError(t, h.Invalidate(cmds))
	cmds[0] = smmuv3.Command{} // the host does not keep the slice
	response := bridge.PageResponse{StreamID: 3, SubstreamID: 9, SSV: true, PRGIndex: 5, Response: smmuv3.PRGSuccess}
	require.NoError(t, h.Respond(response))
	require.NoError(t, h.Resume(3, 7, bridge.TerminateRAZWI))
	require.NoError(t, h.TerminateStalled(3))
	require.NoError(t, s.Close())
	require.NoError(t, h.Close())
	assert.ErrorIs(t, h.Close(), bridge.ErrClosed)

	assert.Equal(t, []string{
		"attach 0x3", "bind 0x3: bypass", "invalidate TLBI_NH_ALL TLBI_NSNH_ALL",
		"respond stream 0x3 substream 0x9 group 5: success",
		"resume 0x3 STAG 0x7: RAZ/WI", "terminate stalled 0x3", "close stream 0x3", "close host", "close host -> host closed",
	}, lines(h.Calls()))
	assert.Equal(t, response, h.Calls()[3].Response)
	assert.Len(t, h.Forget(), 9)
	assert.Empty(t, h.Calls())
}

func TestClaimsKeepsTheCallsThatClaimTheHost(t *testing.T) {
	h := newHost(t)
	assert.False(t, h.Claimed())
	assert.Equal(t, uint32(4), h.GuestIDs().AIDR, "the capabilities, before SetGuestIDs")
	require.NoError(t, h.Events(nil), "a host without a sink")
	require.NoError(t, h.Events(dropEvent))
	assert.ErrorIs(t, h.Events(dropEvent), bridge.ErrInUse)
	assert.True(t, h.Claimed())
	require.NoError(t, h.SetGuestIDs(smmuv3.IDRegs{AIDR: 1}))
	assert.Equal(t, smmuv3.IDRegs{AIDR: 1}, h.GuestIDs())
	require.NoError(t, h.PageRequests(dropRequest))
	assert.ErrorIs(t, h.PageRequests(dropRequest), bridge.ErrInUse)
	require.NoError(t, h.PageRequests(nil))
	require.NoError(t, h.PageRequests(dropRequest))
	require.NoError(t, h.Events(nil))
	assert.False(t, h.Claimed())
	assert.Equal(t, uint32(4), h.GuestIDs().AIDR, "the next device sets its own ID registers")
	assert.Equal(t, []string{
		"capabilities", "events nil", "events", "events -> host in use", "set guest IDs",
		"page requests", "page requests -> page requests of the host in use",
		"page requests nil", "page requests", "events nil",
	}, lines(h.Claims()))
	assert.Equal(t, smmuv3.IDRegs{AIDR: 1}, h.Claims()[4].GuestIDs)
	assert.Empty(t, h.Calls())
}

// A refused sink does not replace the one that is set.
func TestSecondEventsDoesNotOverwrite(t *testing.T) {
	h := newHost(t)
	got := 0
	require.NoError(t, h.Events(func(smmuv3.Event) { got++ }))
	require.Error(t, h.Events(dropEvent))
	h.Emit(smmuv3.NewCBadSTE(3))
	assert.Equal(t, 1, got)
	require.NoError(t, h.Events(nil))
	h.Emit(smmuv3.NewCBadSTE(3))
	assert.Equal(t, 1, got)
}

func TestAttachRefuses(t *testing.T) {
	h := newHost(t)
	_, err := h.Attach(3, nil)
	assert.Equal(t, bridge.ErrEndpoint, err)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	stage, ok := h.Stage(3)
	assert.True(t, ok)
	assert.Equal(t, bridge.GuestStage{}, stage, "a stream aborts until the first Bind")
	_, err = h.Attach(3, "nic")
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.EqualError(t, err, "StreamID in use")
	_, err = h.Attach(4, "disk")
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.EqualError(t, err, "endpoint in use")
	for sid := range smmuv3.StreamID(2) {
		_, err = h.Attach(5+sid, []string{"cannot be compared"})
		assert.NoError(t, err)
	}

	require.NoError(t, s.Close())
	_, ok = h.Stage(3)
	assert.False(t, ok)
	assert.ErrorIs(t, s.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, s.Bind(bridge.GuestStage{}), bridge.ErrClosed)
	_, err = h.Attach(3, "disk")
	require.NoError(t, err)
	assert.ErrorIs(t, s.Bind(bridge.GuestStage{}), bridge.ErrClosed, "a new stream does not open the closed one")
}

func TestEveryMethodFailsAfterClose(t *testing.T) {
	h := newHost(t)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	require.NoError(t, h.Close())
	for name, err := range map[string]error{
		"Bind":             s.Bind(bridge.GuestStage{}),
		"Stream.Close":     s.Close(),
		"Close":            h.Close(),
		"Invalidate":       h.Invalidate(nil),
		"Events":           h.Events(dropEvent),
		"SetGuestIDs":      h.SetGuestIDs(smmuv3.IDRegs{}),
		"PageRequests":     h.PageRequests(dropRequest),
		"Respond":          h.Respond(bridge.PageResponse{StreamID: 3}),
		"Resume":           h.Resume(3, 1, bridge.Retry),
		"TerminateStalled": h.TerminateStalled(3),
	} {
		assert.ErrorIs(t, err, bridge.ErrClosed, name)
	}
	_, err = h.Attach(5, "late")
	assert.EqualError(t, err, "host closed")
	assert.EqualError(t, h.Close(), "record: close: host closed")
	assert.ErrorIs(t, err, bridge.ErrClosed)
	assert.NoError(t, h.Events(nil))
	assert.NoError(t, h.PageRequests(nil))
	_, err = h.Capabilities()
	assert.NoError(t, err)
}

// A call that FailWith fails has no other effect and is recorded with its error.
func TestFailWithFailsEveryCall(t *testing.T) {
	h := newHost(t)
	s, err := h.Attach(3, "disk")
	require.NoError(t, err)
	require.NoError(t, h.Events(dropEvent))
	require.NoError(t, h.PageRequests(dropRequest))
	h.Emit(smmuv3.Event{0x10 | 3<<32, 1<<31 | 7})
	for _, c := range []struct {
		op   Op
		call func() error
	}{
		{Capabilities, func() error { _, err := h.Capabilities(); return err }},
		{Events, func() error { return h.Events(nil) }},
		{SetGuestIDs, func() error { return h.SetGuestIDs(smmuv3.IDRegs{AIDR: 1}) }},
		{PageRequests, func() error { return h.PageRequests(nil) }},
		{Attach, func() error { _, err := h.Attach(4, "nic"); return err }},
		{Bind, func() error { return s.Bind(bridge.GuestStage{Disposition: bridge.Bypass}) }},
		{Invalidate, func() error { return h.Invalidate(nil) }},
		{Respond, func() error { return h.Respond(bridge.PageResponse{}) }},
		{Resume, func() error { return h.Resume(3, 7, bridge.Retry) }},
		{TerminateStalled, func() error { return h.TerminateStalled(3) }},
		{CloseStream, s.Close},
		{CloseHost, h.Close},
	} {
		t.Run(string(c.op), func(t *testing.T) {
			h.FailOp(c.op, errTest)
			assert.Equal(t, errTest, c.call())
			all := append(h.Claims(), h.Calls()...)
			assert.Contains(t, lines(all), lastOf(all, c.op).String())
			assert.Equal(t, errTest, lastOf(all, c.op).Err)
		})
	}
	h.FailWith(nil)
	stage, ok := h.Stage(3)
	assert.True(t, ok && stage == bridge.GuestStage{} && h.Stalled(3, 7) && h.Claimed())
	assert.Equal(t, uint32(4), h.GuestIDs().AIDR)
	_, ok = h.Stage(4)
	assert.False(t, ok)
	assert.NoError(t, s.Close())
}

// lastOf returns the last call of a method.
func lastOf(calls []Call, op Op) (last Call) {
	for _, c := range calls {
		if c.Op == op {
			last = c
		}
	}
	return last
}

func TestFailWithSeesTheArguments(t *testing.T) {
	h := newHost(t)
	h.FailWith(func(c Call) error {
		if c.Op == Attach && c.StreamID == 4 || c.Op == Events && c.Release {
			return errTest
		}
		return nil
	})
	_, err := h.Attach(3, "disk")
	assert.NoError(t, err)
	_, err = h.Attach(4, "nic")
	assert.Equal(t, errTest, err)
	assert.NoError(t, h.Events(dropEvent))
	assert.Equal(t, errTest, h.Events(nil))
	assert.True(t, h.Claimed())
}

// A stalled transaction lasts until it is resumed or terminated, or its stream is closed.
func TestStalledTransactions(t *testing.T) {
	h := newHost(t)
	stall := func(stag uint64) smmuv3.Event { return smmuv3.Event{0x10 | 3<<32, 1<<31 | stag} }
	h.Emit(stall(9)) // without a sink
	h.Request(smmuv3.PageRequest{3})
	var events []smmuv3.Event
	var requests []smmuv3.PageRequest
	require.NoError(t, h.Events(func(ev smmuv3.Event) { events = append(events, ev) }))
	require.NoError(t, h.PageRequests(func(r smmuv3.PageRequest) { requests = append(requests, r) }))
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
			require.NoError(t, h.Resume(3, 2, bridge.Retry), "another STAG")
			assert.True(t, h.Stalled(3, 1))
		}
		require.NoError(t, end())
		assert.False(t, h.Stalled(3, 1), name)
	}
	h.Request(smmuv3.PageRequest{3, 5})
	assert.Len(t, events, 3)
	assert.Equal(t, []smmuv3.PageRequest{{3, 5}}, requests)
}

// TestFailOpKnowsEachMethod shows that FailOp takes every method, and panics for any other.
func TestFailOpKnowsEachMethod(t *testing.T) {
	h := New(bridge.Capabilities{})
	for _, op := range ops {
		assert.NotPanics(t, func() { h.FailOp(op, errors.New("fails")) }, op)
	}
	assert.PanicsWithValue(t, `record: fail "bnd": no such method (use a constant such as record.Bind)`,
		func() { h.FailOp("bnd", errors.New("fails")) })
}
