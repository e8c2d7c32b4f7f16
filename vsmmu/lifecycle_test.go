package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Stages that tests look for.
var (
	offBypass  = bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}
	offAbort   = bridge.GuestStage{Disabled: true}
	badSTE     = bridge.GuestStage{Cause: smmuv3.CBadSTE}
	translates = bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt}
)

// stage returns the stage that the host has for a stream.
func (r *rig) stage(sid smmuv3.StreamID) bridge.GuestStage {
	r.Helper()
	s, ok := r.host.Stage(sid)
	require.True(r, ok)
	return s
}

// TestGBPAAndSMMUEN_6_3_9_6 shows that a disabled SMMU follows GBPA and an enabled one the STE,
// from each acknowledgement on.
func TestGBPAAndSMMUEN_6_3_9_6(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.ste(3, 0xb|cdAt)
	assert.Equal(t, offBypass, r.stage(3))

	r.w32(gbpa, 0x80100000)
	r.idle()
	assert.Equal(t, offAbort, r.stage(3), "GBPA.ABORT")
	r.w32(gbpa, 0x8000000f)
	r.idle()
	assert.Equal(t, offBypass, r.stage(3), "the attributes in GBPA are not part of a stage")

	r.setup()
	assert.Equal(t, translates, r.stage(3))
	r.host.Forget()
	r.w32(gbpa, 0x80100000)
	r.idle()
	assert.Equal(t, uint32(0x00100000), r.r32(gbpa))
	assert.Empty(t, r.host.Calls(), "GBPA has no effect while the SMMU is enabled")

	r.enable(smmuv3.CR0_CMDQEN)
	assert.Equal(t, offAbort, r.stage(3), "GBPA takes effect when the SMMU is disabled")
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, translates, r.stage(3))

	// Both in one step.
	r.engine.Lock()
	r.w32(gbpa, 0x80000000)
	r.w32(cr0, smmuv3.CR0_CMDQEN)
	r.engine.Unlock()
	r.idle()
	assert.Equal(t, offBypass, r.stage(3))
}

// TestSTRTAB_6_3_24 shows that the stream table is where the registers say when SMMUEN is
// acknowledged.
func TestSTRTAB_6_3_24(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0xb|cdAt)
	r.w64(0x80, 0x7000_0000)
	r.w32(0x88, 0)
	r.run(cmdCfgiSTE(3))
	r.idle()
	assert.Equal(t, translates, r.stage(3), "writes while enabled are ignored")

	r.enable(smmuv3.CR0_CMDQEN)
	r.w64(0x80, 0x7000_0000)
	r.w32(0x88, 0x1<<16|8<<6|16) // two levels
	r.mem.SetWords(0x7000_0000, 0x7100_0000|9)
	r.mem.SetWords(0x7100_0000+64*3, 0x9)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, bridge.GuestStage{Disposition: bridge.Bypass}, r.stage(3))

	r.enable(smmuv3.CR0_CMDQEN)
	r.w64(0x80, strtabAt)
	r.w32(0x88, 8) // linear again
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, translates, r.stage(3))
}

// TestRECINVSID_6_3_12 shows that a StreamID without an STE is reported only if CR2.RECINVSID is
// set.
func TestRECINVSID_6_3_12(t *testing.T) {
	for cr2, want := range map[uint32]bridge.GuestStage{0: {}, 2: {Cause: smmuv3.CBadStreamID}} {
		r := newRig(t)
		require.NoError(t, r.Attach(300, r.host, "disk")) // the table has 256 STEs
		r.w32(0x2c, cr2)
		r.setup()
		assert.Equal(t, want, r.stage(300))
	}
}

// TestSTEFetch_3_21_3 shows that a stream whose STE cannot be fetched aborts, and that an
// F_STE_FETCH from a host that is not a bridge.STERefetcher makes the device fetch again, without a
// CFGI.
func TestSTEFetch_3_21_3(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.ste(3, 0xb|cdAt)
	r.setup()
	r.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 64 * 4}, nil)
	r.run(cmdCfgiSTE(3))
	r.idle()
	want := bridge.GuestStage{Cause: smmuv3.FSTEFetch, FetchAddr: strtabAt + 64*3}
	require.Equal(t, want, r.stage(3))

	ev := smmuv3.NewEvent(smmuv3.FSTEFetch, 3)
	r.host.Emit(ev)
	r.idle()
	assert.Equal(t, want, r.stage(3), "still not there")
	r.mem.Heal()
	r.host.Emit(ev)
	r.idle()
	assert.Equal(t, translates, r.stage(3))
}

// TestSTERefetcherIsAskedForTheNextTransaction shows that the device answers a bridge.STERefetcher,
// and that the events of this host cause no refetch, with and without Config.CheckReentry.
func TestSTERefetcherIsAskedForTheNextTransaction(t *testing.T) {
	for _, check := range []bool{false, true} {
		r := newRig(t, func(c *Config) { c.CheckReentry = check })
		host := record.NewRefetcher(bridge.Capabilities{IDs: rigIDs})
		require.NoError(t, r.Attach(3, host, "disk"))
		assert.Equal(t, record.SetSTERefetch, host.Claims()[len(host.Claims())-1].Op)
		r.ste(3, 0xb|cdAt)
		r.setup()
		r.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 64 * 4}, nil)
		r.run(cmdCfgiSTE(3))
		r.idle()
		assert.False(t, host.Refetch(3), "still not there")
		r.mem.Heal()
		host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 3))
		r.idle()
		stage, _ := host.Stage(3)
		assert.Equal(t, smmuv3.FSTEFetch, stage.Cause, "the event causes no refetch")
		assert.True(t, host.Refetch(3))
		stage, _ = host.Stage(3)
		assert.Equal(t, translates, stage)
		require.NoError(t, r.Close())
		assert.False(t, host.Refetch(3), "released")
	}
}

// TestAttachFollowsTheConfiguration shows that an endpoint does what the guest's configuration says
// when Attach returns, in every state of the SMMU.
func TestAttachFollowsTheConfiguration(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	r.setup()
	require.NoError(t, r.Attach(3, r.host, "disk"))
	assert.Equal(t, translates, r.stage(3))
	assert.Equal(t, []record.Op{record.Attach, record.Bind}, r.ops())
	got, ok := r.Device.Stage(3)
	assert.True(t, ok)
	assert.Equal(t, translates, got)

	t.Run("fails", func(t *testing.T) {
		for _, tc := range []struct {
			name string
			sid  smmuv3.StreamID
			host bridge.Host
			ep   bridge.Endpoint
			is   error
			says string
		}{
			{"StreamID in use", 3, r.host, "nic", bridge.ErrInUse, "0x3"},
			{"beyond SIDSIZE", 0x10000, r.host, "nic", nil, "SIDSIZE"},
			{"endpoint in use", 4, r.host, "disk", bridge.ErrInUse, "0x4"},
			{"no endpoint", 4, r.host, nil, bridge.ErrEndpoint, "0x4"},
			{"no host", 4, nil, "nic", ErrConfig, "0x4"},
			{"a host with a field that is not comparable", 4, struct {
				bridge.Host
				part any
			}{part: []int{}}, "nic", ErrConfig, "0x4"},
			{"a host that is not comparable", 4, struct {
				bridge.Host
				_ []int
			}{}, "nic", ErrConfig, "0x4"},
			{"a host without a feature of the guest", 4, record.New(bridge.Capabilities{}), "nic", idr.ErrHost, "0x4"},
		} {
			t.Run(tc.name, func(t *testing.T) {
				r.host.Forget()
				err := r.Attach(tc.sid, tc.host, tc.ep)
				require.Error(t, err)
				if tc.is != nil {
					assert.ErrorIs(t, err, tc.is)
				}
				assert.ErrorContains(t, err, tc.says)
				assert.Equal(t, translates, r.stage(3), "nothing has changed")
				assert.NotContains(t, r.ops(), record.Bind)
			})
		}
	})
}

// ops returns the operations of the host's calls since the last call.
func (r *rig) ops() (all []record.Op) {
	for _, c := range r.host.Forget() {
		all = append(all, c.Op)
	}
	return all
}

// TestEventsIsCalledOnce shows that a host is claimed once, even if its streams come and go.
func TestEventsIsCalledOnce(t *testing.T) {
	r := newRig(t)
	h := &countingHost{Host: r.host}
	for _, ep := range []bridge.Endpoint{nil, "disk"} {
		if err := r.Attach(3, h, ep); ep == nil {
			assert.ErrorIs(t, err, bridge.ErrEndpoint)
		} else {
			assert.NoError(t, err)
		}
	}
	require.NoError(t, r.Detach(3))
	require.NoError(t, r.Attach(3, h, "disk"))
	assert.Equal(t, 1, h.events)
}

type countingHost struct {
	bridge.Host
	events int
}

func (h *countingHost) Events(sink func(smmuv3.Event)) error {
	h.events++
	return h.Host.Events(sink)
}

// TestDetach shows that the batch is executed while the host still knows the stream, and that a
// host without streams gets no calls.
func TestDetach(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.run(smmuv3.Command{0x05 | 3<<32, 1})
	r.idle()
	require.NoError(t, r.Detach(3))
	assert.Equal(t, []record.Op{record.Invalidate, record.CloseStream}, r.ops())
	assert.Error(t, r.Detach(3))

	r.run(tlbi(7), smmuv3.Command{0x05 | 3<<32, 1}, cmdSync)
	r.idle()
	assert.Empty(t, r.ops(), "a host without streams may be closed")

	require.NoError(t, r.Attach(3, r.host, "disk"))
	assert.Equal(t, translates, r.stage(3))
	calls := r.host.Forget()
	require.Len(t, calls, 3)
	assert.Equal(t, record.Attach, calls[0].Op)
	assert.Equal(t, []smmuv3.Command{{0x30}, {0x06 | 3<<32}}, calls[1].Commands, "what it missed")
	assert.Equal(t, record.Bind, calls[2].Op)
}

// TestTwoHosts shows that each stream is on its host, and that commands go to the hosts that need
// them.
func TestTwoHosts(t *testing.T) {
	r := newRig(t)
	other := record.New(bridge.Capabilities{IDs: rigIDs})
	r.ste(3, 0xb|cdAt)
	r.ste(4, 0x9)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	require.NoError(t, r.Attach(4, other, "nic"))
	r.setup()
	assert.Equal(t, translates, r.stage(3))
	_, here := r.host.Stage(4)
	assert.False(t, here)
	stage, _ := other.Stage(4)
	assert.Equal(t, bridge.GuestStage{Disposition: bridge.Bypass}, stage)

	r.host.Forget()
	other.Forget()
	cd3, cd4 := smmuv3.Command{0x05 | 3<<32, 1}, smmuv3.Command{0x05 | 4<<32, 1}
	r.run(cd3, tlbi(1), cd4, cmdSync)
	r.idle()
	assert.Equal(t, []smmuv3.Command{cd3, tlbi(1)}, r.invalidated())
	calls := other.Forget()
	require.Len(t, calls, 1)
	assert.Equal(t, []smmuv3.Command{tlbi(1), cd4}, calls[0].Commands)

	r.host.Emit(fault(1))
	other.Emit(fault(2))
	assert.Equal(t, []smmuv3.Event{fault(1), fault(2)}, r.events())
}

// TestReset_3_11 shows that registers go to their reset values in one step, that every stream
// follows GBPA, and that no translation is left then.
func TestReset_3_11(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.run(tlbi(1), smmuv3.Command{0xff})
	r.host.Emit(fault(1))
	r.host.Forget()

	require.NoError(t, r.Reset())
	calls := r.host.Forget()
	require.Len(t, calls, 2)
	assert.Equal(t, offBypass, calls[0].Stage)
	assert.Equal(t, []smmuv3.Command{{0x30}, {0x06 | 3<<32}}, calls[1].Commands)
	fresh := newRig(t)
	for off := uint64(0); off < 0x10100; off += 4 {
		require.Equalf(t, fresh.r32(off), r.r32(off), "at %#x", off)
	}
	r.host.Emit(fault(1))
	assert.Zero(t, r.r32(eventqProd), "the event queue is disabled")

	r.setup()
	assert.Equal(t, translates, r.stage(3), "and it can be set up as before")
	r.run(tlbi(2), cmdSync)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	assert.Zero(t, r.gerror())
}

// TestResetThatAHostFails shows that Reset returns a host's error and completes. A stream aborts
// rather than bypasses, or the streams of a host do not translate until a resync succeeds.
func TestResetThatAHostFails(t *testing.T) {
	for name, tc := range map[string]struct {
		fails func(record.Call) bool
		stage bridge.GuestStage
	}{
		"bypass":     {func(c record.Call) bool { return c.Stage == offBypass }, offAbort},
		"invalidate": {func(c record.Call) bool { return c.Op == record.Invalidate }, offBypass},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.ste(3, 0xb|cdAt)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.host.FailWith(func(c record.Call) error {
				if tc.fails(c) {
					return assert.AnError
				}
				return nil
			})
			err := r.Reset()
			assert.ErrorIs(t, err, assert.AnError)
			assert.NotErrorIs(t, err, ErrServiceFailure)
			assert.Equal(t, tc.stage, r.stage(3))
			assert.Zero(t, r.gerror())
			r.host.FailWith(nil)
			require.NoError(t, r.Reset())
			assert.Equal(t, offBypass, r.stage(3))
		})
	}
}

// TestClose shows that streams are detached, and that hosts stay open.
func TestClose(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	require.NoError(t, r.Attach(4, r.host, "nic"))
	r.setup()
	r.host.Forget()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.CloseStream && c.StreamID == 3 {
			return assert.AnError
		}
		return nil
	})
	assert.ErrorIs(t, r.Close(), assert.AnError)
	assert.Equal(t, []record.Op{record.CloseStream, record.CloseStream}, r.ops())
	r.host.Emit(fault(1))
	assert.Empty(t, r.events())
}

// TestCloseThatAHostFails shows that the registers are zero even if a host fails during Close.
func TestCloseThatAHostFails(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.ste(3, 0xb|cdAt)
	r.run(cmdCfgiSTE(3), tlbi(1))
	r.host.FailWith(func(record.Call) error { return errAgain })
	assert.ErrorIs(t, r.Close(), errAgain)
	assert.Equal(t, uint64(1), r.Stats().ServiceFailures)
	for off := uint64(0); off < 0x20000; off += 4 {
		require.Zerof(t, r.r32(off), "%#x", off)
	}
}

// TestWatch shows that the VMM gets the ranges that hold the configuration of streams, and that
// GuestWrote makes the guest's writes there take effect at once.
func TestWatch(t *testing.T) {
	var watched [][]guestmem.Range
	r := newRig(t, func(c *Config) { c.Watch = func(w []guestmem.Range) { watched = append(watched, w) } })
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	ste := guestmem.Range{GPA: strtabAt + 64*3, Len: 64}
	assert.Equal(t, [][]guestmem.Range{{ste}}, watched)
	r.run(cmdCfgiSTE(3))
	r.idle()
	assert.Len(t, watched, 1, "only when it changes")

	r.ste(3, 0xb|cdAt)
	r.GuestWrote(guestmem.Range{GPA: strtabAt, Len: 64})
	assert.Equal(t, badSTE, r.stage(3), "not its STE")
	r.GuestWrote(guestmem.Range{GPA: ste.GPA, Len: 8})
	assert.Equal(t, translates, r.stage(3))

	require.NoError(t, r.Detach(3))
	assert.Len(t, watched, 2)
	assert.Empty(t, watched[1])
}

// TestWatchFollowsTheTable shows that Watch is called whenever the device finds a stream's
// configuration elsewhere. Here a level-1 descriptor changes.
func TestWatchFollowsTheTable(t *testing.T) {
	failing := func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	}
	for _, tc := range []struct {
		name         string
		before, then func(*rig)
	}{
		{"CFGI_STE", func(*rig) {}, func(r *rig) { r.run(cmdCfgiSTE(3)) }},
		{"a write", func(*rig) {}, func(r *rig) { r.GuestWrote(guestmem.Range{GPA: 0x7000_0000, Len: 8}) }},
		{"a transaction, where the STE could not be fetched",
			func(r *rig) {
				r.mem.FailReads(guestmem.Range{GPA: 0x7100_0000, Len: 0x4000}, nil)
				r.GuestWrote(everywhere)
			},
			func(r *rig) { r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 3)) }},
		{"a host that works again",
			func(r *rig) { r.host.FailWith(failing); r.run(tlbi(1), cmdSync) },
			func(r *rig) { r.host.FailWith(nil); r.run(cmdSync) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var watched []guestmem.Range
			r := newRig(t, func(c *Config) { c.Watch = func(w []guestmem.Range) { watched = w } })
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.w64(0x80, 0x7000_0000)
			r.w32(0x88, 0x1<<16|8<<6|16)
			r.w64(cmdqBase, cmdqAt|8)
			r.mem.SetWords(0x7000_0000, 0x7100_0000|9)
			r.mem.SetWords(0x7100_00c0, 0xb|cdAt)
			r.mem.SetWords(0x7200_00c0, 0xb|cdAt)
			r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
			tc.before(r)
			r.mem.SetWords(0x7000_0000, 0x7200_0000|9)
			tc.then(r)
			r.idle()
			assert.Equal(t, translates, r.stage(3))
			assert.Equal(t, []guestmem.Range{{GPA: 0x7000_0000, Len: 8}, {GPA: 0x7200_00c0, Len: 64}}, watched)
		})
	}
}

// TestConfig shows that New names the invalid field.
func TestConfig(t *testing.T) {
	good := Config{IDs: rigIDs, Memory: new(guestmem.Fake), Interrupts: new(irqs)}
	for name, change := range map[string]func(*Config){
		"Memory":     func(c *Config) { c.Memory = nil },
		"Interrupts": func(c *Config) { c.Interrupts = nil },
		"idr.Derive": func(c *Config) { c.IDs = smmuv3.IDRegs{} },
		"S1P":        func(c *Config) { c.IDs.Set(smmuv3.S1P, 0) },
		"PRI":        func(c *Config) { c.IDs.Set(smmuv3.PRI, 1) }, // without ATS,
	} {
		c := good
		change(&c)
		d, err := New(c)
		assert.Nil(t, d)
		assert.ErrorIs(t, err, ErrConfig)
		assert.ErrorContains(t, err, name)
	}
	d, err := New(good)
	require.NoError(t, err)
	assert.Equal(t, rigIDs, d.IDs())
	require.NoError(t, d.Close())
}

// TestTrace shows that each function of Trace gets its calls.
func TestTrace(t *testing.T) {
	var cmds []smmuv3.Opcode
	var codes []smmuv3.CmdqErr
	var binds []bridge.GuestStage
	var fates []Fate
	var lines []string
	r := newRig(t, func(c *Config) {
		c.Trace = Trace{
			Command:   func(c smmuv3.Command, e smmuv3.CmdqErr) { cmds, codes = append(cmds, c.Opcode()), append(codes, e) },
			Bind:      func(_ smmuv3.StreamID, g bridge.GuestStage, _ error) { binds = append(binds, g) },
			Event:     func(_ smmuv3.Event, f Fate) { fates = append(fates, f) },
			Interrupt: func(l Line) { lines = append(lines, l.String()) },
		}
	})
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.run(tlbi(1), cmdSyncIRQ, smmuv3.Command{0xff})
	r.idle()
	r.host.Emit(fault(1))
	assert.Equal(t, []smmuv3.Opcode{smmuv3.OpTLBINHASID, smmuv3.OpSync, 0xff}, cmds)
	assert.Equal(t, []smmuv3.CmdqErr{0, 0, smmuv3.CERROR_ILL}, codes)
	assert.Equal(t, []bridge.GuestStage{offBypass, badSTE}, binds)
	assert.Equal(t, []Fate{Recorded}, fates)
	assert.Equal(t, []string{"cmdq-sync", "gerror", "eventq"}, lines)
	assert.Equal(t, "Line(9)", Line(9).String())
	assert.Equal(t, "priq", LinePRIQ.String())
	assert.Equal(t, "held", Held.String())
	assert.Equal(t, "overflowed", Overflowed.String())
}
