package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// cmdATCInv is CMD_ATC_INV of all addresses of stream 3 without a SubstreamID.
var cmdATCInv = smmuv3.Command{0x40 | 3<<32, 52}

// atcInvAll are the commands that invalidate the whole ATC of stream 3's endpoint.
var atcInvAll = []smmuv3.Command{{0x40 | 3<<32, 52}, {0x40 | 1<<9 | 1<<11 | 3<<32, 52}}

// TestATC_INVReachesNoStreamWithoutATS_4_5_1 shows that an ATC_INV goes to the host only if the
// stream's effective EATS allows ATS (§3.9.1, §4.5.1, §5.2).
func TestATC_INVReachesNoStreamWithoutATS_4_5_1(t *testing.T) {
	for _, tc := range []struct {
		name string
		ste  [2]uint64
		off  bool // SMMUEN is 0
		want []smmuv3.Command
	}{
		{"EATS 01", [2]uint64{0xb | cdAt, 1 << 28}, false, []smmuv3.Command{cmdATCInv}},
		{"EATS 00", [2]uint64{0xb | cdAt, 0}, false, nil},
		{"EATS 11 is reserved and behaves as 00", [2]uint64{0xb | cdAt, 3 << 28}, false, nil},
		{"EATS 10 is illegal", [2]uint64{0xb | cdAt, 2 << 28}, false, nil},
		{"bypass ignores EATS", [2]uint64{0x9, 1 << 28}, false, nil},
		{"Config 000 aborts", [2]uint64{0x1, 1 << 28}, false, nil},
		{"V=0 aborts", [2]uint64{0xa | cdAt, 1 << 28}, false, nil},
		{"SMMUEN=0", [2]uint64{0xb | cdAt, 1 << 28}, true, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, withATS)
			r.ste(3, tc.ste[0], tc.ste[1])
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			if tc.off {
				r.enable(smmuv3.CR0_CMDQEN)
			}
			r.host.Forget()
			r.run(cmdATCInv, cmdSync)
			assert.Equal(t, tc.want, r.invalidated())
			assert.Zero(t, r.gerror())
		})
	}
}

// TestATC_INVIsIllegalWithoutATS_4_5_1 shows that ATC_INV is CERROR_ILL without IDR0.ATS, for any
// stream.
func TestATC_INVIsIllegalWithoutATS_4_5_1(t *testing.T) {
	r := newRig(t)
	r.setup()
	r.run(cmdATCInv)
	assert.Equal(t, uint32(0x0100_0000), r.r32(cmdqCons), "CERROR_ILL")
}

// TestATC_INVPrecedesTheStageWithoutATS shows that an ATC_INV is executed before a later CFGI_STE
// that disables ATS.
func TestATC_INVPrecedesTheStageWithoutATS(t *testing.T) {
	r := newRig(t, withATS)
	r.ste(3, 0xb|cdAt, 1<<28)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.ste(3, 0xb|cdAt, 0)
	r.run(cmdATCInv, cmdCfgiSTE(3), cmdATCInv, cmdSync)
	calls := r.host.Forget()
	require.Len(t, calls, 2)
	assert.Equal(t, []smmuv3.Command{cmdATCInv}, calls[0].Commands)
	assert.Equal(t, record.Bind, calls[1].Op)
	assert.Equal(t, smmuv3.EATSNone, calls[1].Stage.EATS)
}

// TestEndpointDropsItsATCWhenItsStreamHasATSAgain shows that the whole ATC of an endpoint is
// invalidated when its stream has ATS again, before the SYNC completes. The ATC may hold entries
// that the guest has invalidated while the stream had no ATS. There is a case for each way to lose
// ATS.
func TestEndpointDropsItsATCWhenItsStreamHasATSAgain(t *testing.T) {
	withoutATS := map[string]func(r *rig){
		"EATS": func(r *rig) {
			r.ste(3, 0xb|cdAt, 0)
			r.run(cmdCfgiSTE(3), cmdSync)
		},
		"bypass": func(r *rig) {
			r.ste(3, 0x9, 0)
			r.run(cmdCfgiSTE(3), cmdSync)
		},
		"SMMUEN": func(r *rig) { r.enable(smmuv3.CR0_CMDQEN) },
		"a host that fails": func(r *rig) {
			r.host.FailWith(func(c record.Call) error {
				if c.Op == record.Invalidate {
					return errAgain
				}
				return nil
			})
			r.run(tlbi(1), cmdSync)
			r.host.FailWith(nil)
		},
	}
	for name, lose := range withoutATS {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withATS)
			r.ste(3, 0xb|cdAt, 1<<28)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			lose(r)
			r.idle()
			require.Equal(t, smmuv3.EATSNone, r.stage(3).EATS)
			r.host.Forget()
			r.w32(cmdqProd, r.put(cmdATCInv))
			r.idle()
			require.Empty(t, r.host.Forget())

			r.ste(3, 0xb|cdAt, 1<<28)
			r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN)
			r.run(cmdCfgiSTE(3), cmdSync)
			r.idle()
			require.Equal(t, smmuv3.EATSFull, r.stage(3).EATS)
			var bound, dropped bool
			for _, c := range r.host.Forget() {
				bound = bound || c.Op == record.Bind && c.Stage.EATS == smmuv3.EATSFull
				for _, cmd := range c.Commands {
					if cmd.Opcode() == smmuv3.OpATCInv {
						assert.True(t, bound, "after Bind")
						assert.Contains(t, atcInvAll, cmd)
						dropped = true
					}
				}
			}
			assert.True(t, dropped)
		})
	}
}

// TestFirstATSInvalidatesNoATC shows that the first stage with ATS needs no ATC_INV: the endpoint
// holds no translations.
func TestFirstATSInvalidatesNoATC(t *testing.T) {
	r := newRig(t, withATS)
	r.ste(3, 0xb|cdAt, 1<<28)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	assert.Empty(t, r.invalidated())
}

// TestResyncNamesNoStreamWithoutATS shows that a resync sends no ATC_INV for streams without ATS.
func TestResyncNamesNoStreamWithoutATS(t *testing.T) {
	r := newRig(t, withATS)
	r.ste(3, 0xb|cdAt, 1<<28)
	r.ste(4, 0xb|cdAt, 1<<28)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	require.NoError(t, r.Attach(4, r.host, "net"))
	r.setup()
	r.ste(3, 0x9)
	r.run(cmdCfgiSTE(3), cmdSync)
	r.host.Forget()
	fails := true
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate && fails {
			fails = false
			return errAgain
		}
		return nil
	})
	r.run(tlbi(1), cmdSync)
	r.idle()
	require.Equal(t, bridge.Translate, r.stage(4).Disposition)
	var named []smmuv3.StreamID
	for _, c := range r.invalidated() {
		if c.Opcode() == smmuv3.OpATCInv {
			named = append(named, c.StreamID())
		}
	}
	assert.Equal(t, []smmuv3.StreamID{4, 4}, named)
}
