package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestServiceFailureMode_12_3 shows that DMA and the queues stop, while registers and handshakes
// still work. Reset ends the mode. Acknowledging the error does not.
func TestServiceFailureMode_12_3(t *testing.T) {
	log := newLog()
	r := newRig(t, func(c *Config) { c.Log = log.Logger })
	for sid := range smmuv3.StreamID(3) {
		r.ste(sid, 0xb|cdAt)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	r.ste(1, 0)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.StreamID == 1 {
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), cmdCfgiSTE(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1<<8), r.gerror())
	assert.Contains(t, r.irqs.take(), LineGError)
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "commands not executed stay in the queue")
	for _, sid := range []smmuv3.StreamID{0, 2} {
		assert.Equal(t, bridge.Abort, r.stage(sid).Disposition)
	}
	stage, _ := r.Device.Stage(1)
	assert.Equal(t, bridge.GuestStage{}, stage)
	_, attached := r.host.Stage(1)
	assert.False(t, attached, "stream detached from its host")
	assert.Equal(t, uint64(1), r.Stats().ServiceFailures)
	assert.Contains(t, log.String(), "service failure mode")

	r.host.FailWith(nil)
	r.host.Forget()
	r.w32(gerrorn, r.r32(gerror))
	assert.Zero(t, r.gerror())
	r.w32(cmdqProd, r.put(cmdSync))
	r.idle()
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "commands are not processed")
	r.host.Emit(fault(1))
	assert.Zero(t, r.r32(eventqProd), "events are not recorded")
	r.enable(smmuv3.CR0_CMDQEN)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.GuestWrote(everywhere)
	require.NoError(t, r.Attach(7, r.host, "late"))
	assert.Equal(t, []record.Op{record.Attach}, r.ops(), "nothing is bound")
	assert.Equal(t, bridge.Abort, r.stage(7).Disposition)

	t.Run("reset fails", func(t *testing.T) {
		r.host.FailWith(func(c record.Call) error {
			if c.Op == record.Attach {
				return errAgain
			}
			return nil
		})
		err := r.Reset()
		assert.ErrorIs(t, err, ErrServiceFailure)
		assert.ErrorIs(t, err, errAgain)
		assert.Equal(t, uint32(1<<8), r.r32(gerror))
		assert.Equal(t, uint64(2), r.Stats().ServiceFailures)
	})
	r.host.FailWith(nil)
	require.NoError(t, r.Reset())
	assert.Zero(t, r.r32(gerror))
	for _, sid := range []smmuv3.StreamID{0, 1, 2, 7} {
		assert.Equal(t, offBypass, r.stage(sid), "Reset reattaches the detached stream")
	}
}

// TestDetachInServiceFailureMode shows that Detach does not close a stream a second time.
func TestDetachInServiceFailureMode(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind {
			return errAgain
		}
		return nil
	})
	r.run(cmdCfgiSTE(3))
	r.idle()
	require.Equal(t, uint32(1<<8), r.gerror())
	r.host.Forget()
	require.NoError(t, r.Detach(3))
	assert.Empty(t, r.ops())
}
