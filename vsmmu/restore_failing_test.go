package vsmmu

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestRestoreOntoAHostThatFails shows that a stream whose stage the host refuses aborts, and that
// the error names it. Everything else is restored.
func TestRestoreOntoAHostThatFails(t *testing.T) {
	r := newStallRig(t)
	n := r.fresh(3, 4)
	n.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.StreamID == 4 && c.Stage.Disposition == bridge.Translate {
			return bridge.ErrRejected
		}
		return nil
	})
	err := n.Restore(r.save())
	assert.ErrorIs(t, err, bridge.ErrRejected)
	assert.NotErrorIs(t, err, ErrState)
	assert.ErrorContains(t, err, "stream "+smmuv3.StreamID(4).String())
	assert.Equal(t, translates, n.stage(3))
	assert.Equal(t, badSTE, n.stage(4))
	assert.Equal(t, []smmuv3.Event{smmuv3.NewEvent(smmuv3.CBadSTE, 4)}, n.events())
}

// TestEveryCallOfRestoreFails makes each call of the host fail, for each error and each extent.
// Each stream then has its saved stage, or aborts and is in the error. In Service Failure Mode no
// stream translates.
func TestEveryCallOfRestoreFails(t *testing.T) {
	r := newStallRig(t, withATS)
	r.ste(5, 0x9)
	require.NoError(t, r.Attach(5, r.host, "NIC"))
	state := r.save()
	want := map[smmuv3.StreamID]bridge.GuestStage{3: translates, 4: translates, 5: {Disposition: bridge.Bypass}}
	const calls = 3
	for kind, fail := range failures {
		for extent, fails := range extents {
			for first := range calls {
				t.Run(fmt.Sprintf("call %d %s, %s", first, kind, extent), func(t *testing.T) {
					n := r.fresh(3, 4, 5)
					i := -1
					n.host.FailWith(func(c record.Call) error {
						i++
						if i >= first && fails(i-first, c) {
							return fail
						}
						return nil
					})
					err := n.Restore(state)
					assert.NotErrorIs(t, err, ErrState)
					n.host.FailWith(nil)
					for sid, stage := range want {
						got, attached := n.host.Stage(sid)
						if got == stage || !attached { // detached
							continue
						}
						assert.NotEqual(t, bridge.Translate, got.Disposition)
						if n.gerror()&smmuv3.GERROR_SFM_ERR == 0 && !errors.Is(fail, bridge.ErrGone) && !errors.Is(fail, bridge.ErrClosed) {
							assert.Equal(t, bridge.Abort, got.Disposition)
							assert.ErrorContains(t, err, "stream "+sid.String())
						}
					}
				})
			}
		}
	}
}

// TestRestoreFromAHostOutOfSync shows that a stream that aborted because its old host was out of
// sync follows its configuration on the new host. In Service Failure Mode it does not.
func TestRestoreFromAHostOutOfSync(t *testing.T) {
	for _, failed := range []bool{false, true} {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.ste(3, 0xb|cdAt)
		r.host.FailWith(func(c record.Call) error {
			if c.Op == record.Invalidate {
				return errAgain
			}
			return nil
		})
		r.run(cmdCfgiSTE(3), tlbi(1), cmdSync)
		require.Equal(t, badSTE, r.stage(3))
		s, err := decodeState(r.save())
		require.NoError(t, err)
		want := translates
		if failed {
			s.Flags |= stateFailed
			want = bridge.GuestStage{}
		}
		n := r.fresh(3)
		require.NoError(t, n.Restore(s.encode()))
		assert.Equal(t, want, n.stage(3))
	}
}
