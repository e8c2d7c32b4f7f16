package vsmmu

import (
	"encoding/json"
	"errors"
	"expvar"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestStatsCountCommands shows that each command is counted by its opcode, including a command that
// stops the queue, and that the error is counted.
func TestStatsCountCommands(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	before := r.Stats()
	r.run(tlbi(1), tlbi(2), smmuv3.Command{0x46}, smmuv3.Command{0xff})
	r.idle()
	s := r.Stats()
	for op, want := range map[smmuv3.Opcode]uint64{0x11: 2, 0x46: 1, 0xff: 1} {
		assert.Equal(t, want, s.Commands[op]-before.Commands[op], "%v", op)
	}
	assert.EqualValues(t, 1, s.CommandErrors[smmuv3.CERROR_ILL])
	assert.Zero(t, s.CommandErrors[smmuv3.CERROR_ABT])
	assert.Equal(t, before.Commands.Total()+4, s.Commands.Total())
}

// TestStatsHaveHostsAndStreams shows that each host has its calls and the failed ones, and each
// stream its stage and host.
func TestStatsHaveHostsAndStreams(t *testing.T) {
	r := newRig(t)
	second := newHost(r.IDs())
	require.NoError(t, r.Attach(3, r.host, "disk"))
	require.NoError(t, r.Attach(7, second, "nic"))
	refused := newHost(r.IDs())
	refused.FailOp(record.Attach, errAgain)
	require.ErrorIs(t, r.Attach(8, refused, "gpu"), errAgain, "the host is released")
	r.setup()
	second.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), smmuv3.Command{0x46})
	r.idle()
	s := r.Stats()
	require.Len(t, s.Hosts, 2)
	assert.Equal(t, "*record.Host", s.Hosts[0].Type)
	assert.Equal(t, 1, s.Hosts[0].Streams)
	assert.False(t, s.Hosts[0].OutOfSync)
	assert.True(t, s.Hosts[1].OutOfSync)
	assert.EqualValues(t, 1, s.Hosts[1].Calls[CallAttach])
	for _, c := range []HostCall{CallAttach, CallBind, CallDetach, CallInvalidate} {
		var calls, failed uint64
		for _, call := range second.Calls() {
			if call.Op == map[HostCall]record.Op{
				CallAttach: record.Attach, CallBind: record.Bind, CallDetach: record.CloseStream, CallInvalidate: record.Invalidate,
			}[c] {
				calls++
				if call.Err != nil {
					failed++
				}
			}
		}
		assert.Equal(t, calls, s.Hosts[1].Calls[c], "%v", c)
		assert.Equal(t, failed, s.Hosts[1].Errors[c], "%v", c)
	}
	require.Len(t, s.Streams, 2)
	assert.Equal(t, smmuv3.StreamID(3), s.Streams[0].StreamID)
	assert.Equal(t, 0, s.Streams[0].Host)
	assert.Equal(t, 1, s.Streams[1].Host)
	stage, _ := second.Stage(7)
	assert.Equal(t, stage, s.Streams[1].Stage)

	require.NoError(t, r.Close())
	closed := r.Stats()
	assert.Empty(t, closed.Streams)
	require.Len(t, closed.Hosts, 2, "the counts of a closed device remain")
	assert.EqualValues(t, 1, closed.Hosts[1].Calls[CallDetach])
}

// TestStatsCountAnswers shows that answers to page requests are counted, including automatic
// answers of the device.
func TestStatsCountAnswers(t *testing.T) {
	r := newRig(t, withPRI)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.host.FailOp(record.Respond, errors.New("fails"))
	r.host.Request(smmuv3.PageRequest{1<<62 | 3, 0}) // the PRI queue is disabled
	h := r.Stats().Hosts[0]
	assert.EqualValues(t, 1, h.Calls[CallRespond])
	assert.EqualValues(t, 1, h.Errors[CallRespond])
}

// TestStatsMarshal shows the JSON form, which expvar publishes: kinds by name, stages as text.
func TestStatsMarshal(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.run(tlbi(1), smmuv3.Command{0x46})
	r.idle()
	text := expvar.Func(func() any { return r.Stats() }).String()
	var s struct {
		Commands map[string]uint64
		Events   map[string]uint64
		Hosts    []struct {
			Type  string
			Calls map[string]uint64
		}
		Streams []map[string]any
	}
	require.NoError(t, json.Unmarshal([]byte(text), &s))
	assert.EqualValues(t, 1, s.Commands["TLBI_NH_ASID"])
	assert.Contains(t, s.Events, "recorded")
	assert.Equal(t, "*record.Host", s.Hosts[0].Type)
	assert.NotZero(t, s.Hosts[0].Calls["bind"])
	assert.EqualValues(t, 3, s.Streams[0]["stream_id"])
	assert.Contains(t, s.Streams[0], "stage")

	empty, err := json.Marshal((*Device)(nil).Stats())
	require.NoError(t, err)
	assert.Contains(t, string(empty), `"commands":{}`)
	assert.Equal(t, "HostCall(7)", HostCall(7).String())
}
