package vsmmu

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestRejectedSTE shows that a stage that the host rejects is reported as C_BAD_STE, and not as a
// command error. Trace.Bind gets the host's error, and Stats counts it.
func TestRejectedSTE(t *testing.T) {
	var rejected error
	r := newRig(t, func(c *Config) {
		c.Trace.Bind = func(_ smmuv3.StreamID, _ bridge.GuestStage, err error) { rejected = errors.Join(rejected, err) }
	})
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0xb|cdAt)
	r.host.FailWith(func(c record.Call) error {
		if c.Stage.Disposition == bridge.Translate {
			return fmt.Errorf("S1Fmt: %w", bridge.ErrRejected)
		}
		return nil
	})
	r.run(cmdCfgiSTE(3), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, []smmuv3.Event{{4 | 3<<32}}, r.events())
	assert.Zero(t, r.gerror())
	assert.ErrorIs(t, rejected, bridge.ErrRejected)
	assert.Equal(t, uint64(1), r.Stats().Refused)
}

// TestHostOutOfSync shows that the streams of a host abort if an invalidation and the resync fail.
// The streams of other hosts do not. After a later SYNC resynchronises the host, its streams
// translate again.
func TestHostOutOfSync(t *testing.T) {
	r := newRig(t)
	other := record.New(bridge.Capabilities{IDs: rigIDs})
	for sid, h := range map[smmuv3.StreamID]*record.Host{3: r.host, 4: other} {
		r.ste(sid, 0xb|cdAt)
		require.NoError(t, r.Attach(sid, h, sid))
	}
	r.setup()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, uint64(2), r.Stats().HostErrors, "the batch and the resync fail")
	stage, _ := other.Stage(4)
	assert.Equal(t, translates, stage)
	assert.Equal(t, uint32(2), r.r32(cmdqCons), "the SYNC is complete: no DMA uses a stale translation")
	assert.Zero(t, r.gerror())

	r.ste(5, 0xb|cdAt)
	require.NoError(t, r.Attach(5, r.host, "late"))
	r.run(cmdCfgiSTE(3), cmdSync)
	r.idle()
	for _, sid := range []smmuv3.StreamID{3, 5} {
		assert.Equal(t, bridge.Abort, r.stage(sid).Disposition)
	}

	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	assert.Equal(t, translates, r.stage(3))
	assert.Equal(t, translates, r.stage(5))
	r.host.Forget()
	r.run(cmdSync)
	r.idle()
	assert.Empty(t, r.ops(), "no host call is due")
}

// TestDeadEndpointLeavesItsHostInSync_3_9_1_4 shows that an endpoint that answers no ATC_INV does
// not put its host out of sync: its streams continue to translate. The next SYNC reports the
// timeout. After a reset the endpoint's ATC is invalidated when its stream may use ATS again, and
// the next SYNC reports that timeout, too.
func TestDeadEndpointLeavesItsHostInSync_3_9_1_4(t *testing.T) {
	r := newRig(t, withATS)
	var dropped [][]smmuv3.Command
	fails := false
	r.host.FailWith(func(c record.Call) error {
		switch {
		case c.Op != record.Invalidate:
		case fails:
			fails = false
			return errAgain
		case slices.ContainsFunc(c.Commands, func(c smmuv3.Command) bool { return c.Opcode() == smmuv3.OpATCInv && c.StreamID() == 3 }):
			dropped = append(dropped, c.Commands)
			return bridge.ErrATCTimeout
		}
		return nil
	})
	r.ste(3, 0xb|cdAt, 1<<28)
	r.ste(4, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "dead"))
	require.NoError(t, r.Attach(4, r.host, "disk"))
	r.setup()
	translate := func() {
		for sid := smmuv3.StreamID(3); sid <= 4; sid++ {
			assert.Equal(t, bridge.Translate, r.stage(sid).Disposition)
		}
	}

	fails = true
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1|3<<24), r.r32(cmdqCons), "CERROR_ATC_INV_SYNC")
	translate()
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))

	require.NoError(t, r.Reset())
	assert.Len(t, dropped, 1, "no ATC_INV for a stream that bypasses")
	r.setup()
	assert.Len(t, dropped, 2, "one when the stream may use ATS again")
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, uint32(1|3<<24), r.r32(cmdqCons))
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	translate()
	assert.Len(t, dropped, 2)
}

// TestStreamsBypassOnAHostOutOfSync_6_3_9_6 shows that streams that bypass, by GBPA or by their
// STE, continue: they use no stale entry. A stream that would translate aborts with C_BAD_STE.
func TestStreamsBypassOnAHostOutOfSync_6_3_9_6(t *testing.T) {
	r := newRig(t)
	for sid, ste := range map[smmuv3.StreamID]uint64{3: 0xb | cdAt, 4: 0x9} {
		r.ste(sid, ste)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	bypass := bridge.GuestStage{Disposition: bridge.Bypass}
	r.run(tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, bypass, r.stage(4))

	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	assert.Equal(t, offBypass, r.stage(3))
	assert.Equal(t, offBypass, r.stage(4))
	r.events()
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, badSTE, r.stage(3))
	assert.Equal(t, bypass, r.stage(4))
	assert.Equal(t, []smmuv3.Event{{4 | 3<<32}}, r.events())

	r.ste(4, 0xb|cdAt)
	r.ste(5, 0x9)
	r.run(cmdCfgiSTE(4))
	require.NoError(t, r.Attach(5, r.host, "late"))
	assert.Equal(t, badSTE, r.stage(4))
	assert.Equal(t, bypass, r.stage(5))
	assert.Zero(t, r.gerror())

	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	assert.Equal(t, translates, r.stage(3))
	assert.Equal(t, translates, r.stage(4))
}

// TestNoCDsWithoutStage1 shows that the host of an SMMU without stage 1 gets no CFGI_CD commands.
func TestNoCDsWithoutStage1(t *testing.T) {
	r := newRig(t, func(c *Config) {
		c.IDs.Set(smmuv3.S1P, 0)
		c.IDs.Set(smmuv3.S2P, 1)
	})
	r.ste(3, 0xd, 0, 0x0008_0058_0000_0000|4<<48, 0x10_0000)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	require.Equal(t, bridge.TranslateS2, r.stage(3).Disposition)
	r.host.Forget()
	fails := 1
	r.host.FailWith(func(c record.Call) error {
		if fails--; c.Op == record.Invalidate && fails >= 0 {
			return errAgain
		}
		return nil
	})
	r.run(cmdCfgiSTE(3), smmuv3.Command{0x28}, cmdSync)
	r.idle()
	assert.Equal(t, []smmuv3.Command{{0x28}, {0x30}}, r.invalidated(), "the resync invalidates everything")
	r.run(smmuv3.Command{0x5}, cmdSync)
	assert.Equal(t, uint32(1), r.gerror()&1, "CFGI_CD is CERROR_ILL")
}

// TestStage2OnAHostOutOfSync shows that streams with a stage 2 abort on a host out of sync.
func TestStage2OnAHostOutOfSync(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.S2P, 1) })
	const s2 = 0x0008_0058_0000_0000 | 4<<48 // S2T0SZ 24, S2SL0 1, S2PS 44 bits, S2AA64
	for sid, config := range map[smmuv3.StreamID]uint64{3: 0xd, 4: 0xf | cdAt} {
		r.ste(sid, config, 0, s2, 0x10_0000)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	want := map[smmuv3.StreamID]bridge.Disposition{3: bridge.TranslateS2, 4: bridge.TranslateNested}
	for sid, d := range want {
		require.Equal(t, d, r.stage(sid).Disposition)
	}
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(smmuv3.Command{0x28}, cmdSync) // TLBI_S12_VMALL
	r.idle()
	for sid := range want {
		assert.Equal(t, badSTE, r.stage(sid))
		r.run(cmdCfgiSTE(sid))
		assert.Equal(t, badSTE, r.stage(sid), "a CFGI does not end the abort")
	}
	r.host.FailWith(nil)
	r.run(cmdSync)
	r.idle()
	for sid, d := range want {
		assert.Equal(t, d, r.stage(sid).Disposition)
	}
}

// TestCapabilitiesFail shows that a host whose Capabilities fail gets no streams.
func TestCapabilitiesFail(t *testing.T) {
	r := newRig(t)
	assert.ErrorIs(t, r.Attach(3, silentHost{}, "disk"), errAgain)
	_, ok := r.Device.Stage(3)
	assert.False(t, ok)
}

type silentHost struct{ nullHost }

func (silentHost) Capabilities() (bridge.Capabilities, error) { return bridge.Capabilities{}, errAgain }

// TestFullBatchFails shows that full batches are executed before the SYNC, and that a batch that
// fails leads to a resync.
func TestFullBatchFails(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.CMDQS, 12) })
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.w64(cmdqBase, cmdqAt|12)
	r.w64(0x80, strtabAt)
	r.w32(0x88, 8)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.host.Forget()
	n := 0
	r.host.FailWith(func(c record.Call) error {
		if n++; n == 2 {
			return errAgain
		}
		return nil
	})
	cmds := make([]smmuv3.Command, 1500)
	for i := range cmds {
		cmds[i] = tlbi(i)
	}
	r.run(append(cmds, cmdSync)...)
	r.idle()
	var sizes []int
	for _, c := range r.host.Forget() {
		sizes = append(sizes, len(c.Commands))
	}
	assert.Equal(t, []int{512, 512, 2, 1500 - 1024}, sizes)
	assert.Equal(t, translates, r.stage(3))
}

// TestResyncOfManyStreams shows that a resync of several batches stops at the first error that is
// not an ATC timeout.
func TestResyncOfManyStreams(t *testing.T) {
	for _, tc := range []struct {
		name    string
		answers []error // of the calls after the failure
		stage   bridge.Disposition
		gerror  uint32
	}{
		{"success", []error{nil, nil}, bridge.Translate, 0},
		{"ATC timeout in the first batch", []error{bridge.ErrATCTimeout, nil}, bridge.Translate, 1},
		{"ATC timeout in the last batch", []error{nil, bridge.ErrATCTimeout}, bridge.Translate, 1},
		{"failure after an ATC timeout", []error{bridge.ErrATCTimeout, errAgain}, bridge.Abort, 0},
		{"failure of the first batch", []error{errAgain}, bridge.Abort, 0},
	} {
		t.Run(tc.name, func(t *testing.T) { invalidateEverythingOfMany(t, tc.answers, tc.stage, tc.gerror) })
	}
}

func invalidateEverythingOfMany(t *testing.T, answers []error, stage bridge.Disposition, gerror uint32) {
	r := newRig(t, withATS)
	for sid := range smmuv3.StreamID(200) {
		r.ste(sid, 0xb|cdAt, 1<<28)
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.w64(0x80, strtabAt)
	r.w32(0x88, 8)
	r.w64(cmdqBase, cmdqAt|8)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.host.Forget()
	left := append([]error{errAgain}, answers...)
	r.host.FailWith(func(c record.Call) (err error) {
		if c.Op == record.Invalidate {
			err, left = left[0], left[1:]
		}
		return err
	})
	r.run(tlbi(1), cmdSync)
	r.idle()
	var sizes []int
	for _, c := range r.host.Forget() {
		if c.Op == record.Invalidate {
			sizes = append(sizes, len(c.Commands))
		}
	}
	assert.Equal(t, []int{1, 512, 1 + 3*200 - 512}[:1+len(answers)], sizes,
		"one command for all translations; for each stream one for CDs and two for its ATC")
	assert.Equal(t, stage, r.stage(199).Disposition)
	assert.Equal(t, gerror, r.gerror())
}
