package edu

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// request is the value of the command register for a page request of a group.
func request(group, bits uint64) uint64 { return 4 | bits | group<<16 }

const (
	write = 1 << 8
	last  = 1 << 9
	read  = 1 << 10
)

func (r *rig) pageRequest() smmuv3.PageRequest {
	r.t.Helper()
	q, err := r.WaitPageRequest()
	require.NoError(r.t, err)
	return q
}

// The function waits for one response to each group, for any number of requests in the group.
func TestResponsesAreByGroup(t *testing.T) {
	r := newATSRig(t)
	r.store(0x1010, pasid(0xabcde))
	require.Equal(t, regs.OK, r.run(request(5, read), 0x7000_1234).Code())
	require.Equal(t, regs.OK, r.run(request(5, read|write|last), 0x7000_2000).Code())
	r.store(0x1010, 0)
	require.Equal(t, regs.OK, r.run(request(6, write|last), 0x7000_3000).Code())
	assert.EqualValues(t, 2, r.load(0x10c0), "groups that wait")

	five, again, six := r.pageRequest(), r.pageRequest(), r.pageRequest()
	assert.EqualValues(t, sid, five.StreamID())
	assert.EqualValues(t, 0xabcde, five.SubstreamID())
	assert.EqualValues(t, 0x7000_1000, five.Addr())
	assert.Equal(t, []bool{true, false, false}, []bool{five.R(), five.W(), five.Last()})
	assert.Equal(t, []bool{true, true, true}, []bool{again.R(), again.W(), again.Last()})
	assert.False(t, six.SSV())

	require.NoError(t, r.Respond(six, smmuv3.PRGInvalid))
	assert.EqualValues(t, 1, r.load(0x10c0))
	require.NoError(t, r.Respond(again, smmuv3.PRGSuccess))
	assert.Zero(t, r.load(0x10c0))
	assert.EqualValues(t, 2, r.load(0x10c8), "responses")
	assert.EqualValues(t, uint64(1<<63|6<<16|0b01<<8), r.load(0x10d0))
	r.store(0x10d0, 0)
	assert.EqualValues(t, uint64(1<<63|0xabcde<<32|5<<16|0b10<<8|1), r.load(0x10d0))
	r.store(0x10d0, 0)
	assert.Zero(t, r.load(0x10d0))
	assert.EqualValues(t, 0x8000, r.config(0x126, 2), "status: no response was unexpected")
}

// The bits of the status register (PCI Express §10.5.2.3).
func TestStatusOfThePageRequestInterface(t *testing.T) {
	r := newATSRig(t)
	require.Equal(t, regs.OK, r.run(request(1, read|last), 0).Code())
	require.Equal(t, regs.OK, r.run(request(2, read|last), 0).Code())
	one, two := r.pageRequest(), r.pageRequest()
	r.setConfig(0x124, 2, 0)
	assert.EqualValues(t, 0x8000, r.config(0x126, 2), "disabled, with requests that wait")
	require.NoError(t, r.Respond(one, smmuv3.PRGSuccess))
	require.NoError(t, r.Respond(one, smmuv3.PRGSuccess))
	assert.EqualValues(t, 0x8002, r.config(0x126, 2), "a response to no group")
	require.NoError(t, r.Respond(two, smmuv3.PRGFailure))
	assert.EqualValues(t, 0x8103, r.config(0x126, 2), "a failure; stopped")

	r.setConfig(0x124, 2, 1)
	assert.Equal(t, regs.NotEnabled, r.run(request(3, read|last), 0).Code(), "after a failure")
	r.setConfig(0x126, 2, 3)
	assert.EqualValues(t, 0x8000, r.config(0x126, 2))
	assert.Equal(t, regs.OK, r.run(request(3, read|last), 0).Code())
	r.setConfig(0x124, 2, 2)
	assert.EqualValues(t, 0x8100, r.config(0x126, 2), "a reset of the interface forgets the groups")
}

func TestPageRequestGroupsAreBounded(t *testing.T) {
	r := newATSRig(t)
	r.setConfig(0x12c, 4, 2)
	assert.Equal(t, regs.OK, r.run(request(0, read|last), 0).Code())
	assert.Equal(t, regs.OK, r.run(request(1, read|last), 0).Code())
	assert.Equal(t, regs.PageRefused, r.run(request(2, read|last), 0).Code(), "the guest allocated two")
	assert.Equal(t, regs.OK, r.run(request(1, read|last), 0).Code(), "of a group that waits")
	r.store(0x1010, pasid(1))
	assert.Equal(t, regs.Invalid, r.run(request(1, read|last), 0).Code(), "a group has one PASID")
	r.store(0x1010, force)
	for group := range uint64(512) {
		r.run(request(group, read|last), 0)
	}
	assert.EqualValues(t, 32, r.load(0x10c0), "also of a broken device")
}

func TestLogsAreBounded(t *testing.T) {
	r := newATSRig(t)
	for group := range uint64(100) {
		q := smmuv3.NewPageRequest(sid, uint16(group), 0, smmuv3.PageAccess{Read: true}, true)
		require.NoError(t, r.Respond(q, smmuv3.PRGSuccess))
		require.NoError(t, r.Run(smmuv3.NewATCInv(sid, group<<12, 0)))
	}
	assert.EqualValues(t, 100, r.load(0x10c8))
	assert.GreaterOrEqual(t, r.load(0x1088), uint64(100))
	for log, want := range map[uint64]int{0x10a0: 64, 0x10d0: 64} {
		n := 0
		for ; r.load(log)>>63 != 0; n++ {
			r.store(log, 0)
		}
		assert.Equal(t, want, n)
	}
}

// A DMA that ATS does not grant asks for the page, and is repeated if the guest has it.
func TestDMAAsksForItsPage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		answer smmuv3.PRGResponse
		mapped bool
		want   regs.Outcome
	}{
		{"mapped", smmuv3.PRGSuccess, true, regs.NewOutcome(regs.OK, 8)},
		{"success without a page", smmuv3.PRGSuccess, false, regs.NewOutcome(regs.NotGranted, 0)},
		{"invalid", smmuv3.PRGInvalid, false, regs.NewOutcome(regs.PageRefused, 0)},
		{"failure", smmuv3.PRGFailure, false, regs.NewOutcome(regs.PageRefused, 0)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newATSRig(t)
			r.fill()
			r.store(0x1010, byATS|askForPage)
			r.begin(true, iova+0x1008, 8)
			q := r.pageRequest()
			assert.EqualValues(t, iova+0x1000, q.Addr())
			assert.True(t, q.W())
			assert.True(t, q.Last())
			if tt.mapped {
				require.NoError(t, r.MapStage1(sid, iova+0x1000, dataAt+0x1000, 4096))
			}
			require.NoError(t, r.Respond(q, tt.answer))
			assert.Equal(t, tt.want, r.end())
			if tt.mapped {
				assert.Equal(t, pattern, r.word(dataAt+0x1008))
			}
		})
	}
}

func TestDMAWaitsForAResponseUntilItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newATSRigWith(t, Config{Features: all, PageTimeout: 7 * time.Second})
		r.store(0x1010, byATS|askForPage)
		start := time.Now()
		r.begin(true, iova+0x1000, 8)
		assert.EqualValues(t, 3, r.load(0x98), "the store did not wait for it")
		time.Sleep(8 * time.Second)
		assert.Equal(t, regs.NewOutcome(regs.NoResponse, 0), r.end())
		assert.Equal(t, 8*time.Second, time.Since(start).Round(100*time.Millisecond))
		assert.Zero(t, r.load(0x10c0))
		require.NoError(t, r.Respond(r.pageRequest(), smmuv3.PRGSuccess))
		assert.EqualValues(t, 0x8002, r.config(0x126, 2), "a late response is unexpected")
	})
}

func TestStopMarkerGetsNoResponse(t *testing.T) {
	r := newATSRig(t)
	assert.Equal(t, regs.Invalid, r.run(5, 0).Code(), "without a PASID")
	r.store(0x1010, pasid(9))
	require.Equal(t, regs.OK, r.run(5, 0).Code())
	q := r.pageRequest()
	assert.True(t, q.StopMarker())
	assert.EqualValues(t, 9, q.SubstreamID())
	assert.Zero(t, r.load(0x10c0))
}
