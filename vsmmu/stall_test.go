package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// withStalls makes faults stall, 20 of them at a time.
func withStalls(c *Config) {
	c.IDs.Set(smmuv3.StallModel, smmuv3.StallBoth)
	c.IDs.Set(smmuv3.StallMax, 20)
}

// newStallRig is a rig with streams 3 and 4, and a queue of 16 events.
func newStallRig(t testing.TB, change ...func(*Config)) *rig {
	r := newRig(t, change...)
	r.ste(3, 0xb|cdAt)
	r.ste(4, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "GPU"))
	require.NoError(t, r.Attach(4, r.host, "NPU"))
	r.setup()
	r.host.Forget()
	return r
}

// stalled is F_TRANSLATION of a transaction that stalls.
func stalled(sid smmuv3.StreamID, stag uint16) smmuv3.Event {
	return smmuv3.Event{0x10 | uint64(sid)<<32, 1<<41 | 1<<31 | uint64(stag), 0x1000}
}

// Commands for stalled transactions: Ac [12], Ab [13], STAG [79:64].
func cmdResume(sid smmuv3.StreamID, stag uint16, acAb uint64) smmuv3.Command {
	return smmuv3.Command{0x44 | acAb<<12 | uint64(sid)<<32, uint64(stag)}
}

// resumed returns the host's calls for stalled transactions since the last call.
func (r *rig) resumed() (all []record.Call) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Resume || c.Op == record.TerminateStalled {
			all = append(all, c)
		}
	}
	return all
}

func resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) record.Call {
	return record.Call{Op: record.Resume, StreamID: sid, STAG: stag, How: how}
}

func terminate(sid smmuv3.StreamID) record.Call {
	return record.Call{Op: record.TerminateStalled, StreamID: sid}
}

// TestRESUME_4_7_1 shows the outcome of each form, and that commands that name no stalled
// transaction have no effect.
func TestRESUME_4_7_1(t *testing.T) {
	for _, tc := range []struct {
		name string
		term uint32 // TERM_MODEL
		acAb uint64
		want bridge.Resumption
	}{
		{"retry", 0, 0b01, bridge.Retry},
		{"retry, Ab ignored", 0, 0b11, bridge.Retry},
		{"abort", 0, 0b10, bridge.TerminateAbort},
		{"RAZ/WI", 0, 0b00, bridge.TerminateRAZWI},
		{"RAZ/WI of an SMMU that aborts", 1, 0b00, bridge.TerminateAbort},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newStallRig(t, withStalls, func(c *Config) { c.IDs.Set(smmuv3.TermModel, tc.term) })
			r.host.Emit(stalled(3, 0xabcd))
			require.Equal(t, []smmuv3.Event{stalled(3, 0xabcd)}, r.events())
			r.run(cmdResume(4, 0xabcd, tc.acAb), cmdResume(3, 0xabce, tc.acAb), cmdResume(9, 0xabcd, tc.acAb))
			assert.Empty(t, r.resumed(), "not that transaction, not that stream")
			r.run(cmdResume(3, 0xabcd, tc.acAb), cmdResume(3, 0xabcd, tc.acAb))
			assert.Equal(t, []record.Call{resume(3, 0xabcd, tc.want)}, r.resumed(), "and once")
			assert.Zero(t, r.gerror())
		})
	}
}

// TestSTALL_TERM_4_7_2 shows that the command ends all stalls of its stream, and of no other.
func TestSTALL_TERM_4_7_2(t *testing.T) {
	r := newStallRig(t, withStalls)
	for _, ev := range []smmuv3.Event{stalled(3, 1), stalled(3, 2), stalled(4, 3)} {
		r.host.Emit(ev)
	}
	r.run(smmuv3.Command{0x45 | 3<<32}, smmuv3.Command{0x45 | 9<<32}, cmdResume(3, 1, 1), cmdResume(4, 3, 1))
	assert.Equal(t, []record.Call{terminate(3), resume(4, 3, bridge.Retry)}, r.resumed())
}

// TestNoStallsNoCommands_4_7 shows that RESUME and STALL_TERM are illegal on an SMMU whose faults
// terminate.
func TestNoStallsNoCommands_4_7(t *testing.T) {
	for _, c := range []smmuv3.Command{cmdResume(3, 1, 1), {0x45 | 3<<32}} {
		r := newStallRig(t)
		r.run(c)
		assert.Equal(t, uint32(1), r.gerror())
		assert.Empty(t, r.resumed())
	}
}

// TestStalledIsNotDiscarded_7_2_1 shows that a stalled transaction is retried as soon as its event
// can be recorded. There is a case for each reason.
func TestStalledIsNotDiscarded_7_2_1(t *testing.T) {
	for name, tc := range map[string]struct{ unwritable, writable func(*rig) }{
		"full": {
			func(r *rig) {
				for i := range uint64(16) {
					r.host.Emit(fault(i))
				}
			},
			func(r *rig) { r.w32(eventqCons, 1) },
		},
		"disabled": {
			func(r *rig) { r.enable(0x9) },
			func(r *rig) { r.enable(0xd) },
		},
		"EVENTQ_ABT_ERR": {
			func(r *rig) {
				r.mem.FailWrites(guestmem.Range{GPA: eventqAt, Len: 1 << 16}, nil)
				r.host.Emit(fault(1))
			},
			func(r *rig) { r.mem.Heal(); r.w32(gerrorn, 1<<2) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStallRig(t, withStalls)
			tc.unwritable(r)
			prod := r.r32(eventqProd)
			r.host.Emit(stalled(3, 7))
			r.idle()
			assert.Equal(t, prod, r.r32(eventqProd), "no record, and no overflow")
			assert.EqualValues(t, 1, r.Stats().Events[Held])
			r.run(cmdResume(3, 7, 1), cmdSync)
			assert.Empty(t, r.resumed(), "the guest does not know this transaction")

			tc.writable(r)
			r.eventually(func() bool { r.idle(); return !r.host.Stalled(3, 7) }, "the transaction is retried")
			assert.Equal(t, []record.Call{resume(3, 7, bridge.Retry)}, r.resumed())
			r.host.Emit(stalled(3, 8))
			r.run(cmdResume(3, 8, 1))
			assert.Equal(t, []record.Call{resume(3, 8, bridge.Retry)}, r.resumed(), "the new fault is reported")
		})
	}
}

// TestAbortedStallRecordIsRetried_7_2_2 shows that a stalled transaction is retried if the write of
// its record aborts.
func TestAbortedStallRecordIsRetried_7_2_2(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.mem.FailWrites(guestmem.Range{GPA: eventqAt, Len: 1 << 16}, nil)
	r.host.Emit(stalled(3, 7))
	assert.Equal(t, uint32(1<<2), r.gerror())
	r.mem.Heal()
	r.w32(gerrorn, 1<<2)
	r.eventually(func() bool { r.idle(); return !r.host.Stalled(3, 7) }, "the transaction is retried")
}

// TestSTALL_MAX_6_3_6 shows that at most IDR5.STALL_MAX stalls are reported at a time, and
// no STAG twice.
func TestSTALL_MAX_6_3_6(t *testing.T) {
	r := newStallRig(t, withStalls, func(c *Config) { c.IDs.Set(smmuv3.StallMax, 2) })
	for stag := range uint16(4) {
		r.host.Emit(stalled(3, stag))
	}
	r.idle()
	assert.Equal(t, uint32(2), r.r32(eventqProd))
	r.run(cmdResume(3, 1, 1))
	r.idle()
	assert.Equal(t, []record.Call{resume(3, 1, bridge.Retry), resume(3, 2, bridge.Retry), resume(3, 3, bridge.Retry)}, r.resumed(),
		"the first waiting transaction; it did not stall again, so the next one follows")
	r.host.Emit(stalled(3, 0))
	r.idle()
	assert.Equal(t, uint32(2), r.r32(eventqProd), "STAG 0 is taken")
	assert.Empty(t, r.resumed())
	r.run(cmdResume(3, 0, 0b10))
	r.idle()
	assert.Equal(t, []record.Call{resume(3, 0, bridge.TerminateAbort), resume(3, 0, bridge.Retry)}, r.resumed())
}

// TestADetachedStreamMakesRoom shows that stalls of a detached stream no longer count, and that
// this takes effect without a store.
func TestADetachedStreamMakesRoom(t *testing.T) {
	r := newStallRig(t, withStalls, func(c *Config) { c.IDs.Set(smmuv3.StallMax, 1) })
	r.host.Emit(stalled(3, 1))
	r.host.Emit(stalled(4, 2))
	r.idle()
	require.True(t, r.host.Stalled(4, 2))
	require.NoError(t, r.Detach(3))
	r.eventually(func() bool { return !r.host.Stalled(4, 2) }, "the transaction is retried")
}

// TestResetForgetsStalls_3_11 shows that Reset forgets all stalls, also of a StreamID that is not
// attached.
func TestResetForgetsStalls_3_11(t *testing.T) {
	for name, end := range map[string]func(*rig){
		"reset":  func(r *rig) { require.NoError(r, r.Reset()); r.setup() },
		"SMMUEN": func(r *rig) { r.enable(0xc); r.enable(0xd) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newStallRig(t, withStalls, func(c *Config) { c.IDs.Set(smmuv3.StallMax, 1) })
			r.host.Emit(stalled(9, 1))
			require.Len(t, r.events(), 1)
			end(r)
			r.host.Emit(stalled(3, 2))
			assert.Equal(t, []smmuv3.Event{stalled(3, 2)}, r.events())
		})
	}
}

// TestSMMUENResetAndDetachEndStalls shows that SMMUEN=0 (§6.3.9.6), Reset and Detach terminate
// stalled transactions.
func TestSMMUENResetAndDetachEndStalls(t *testing.T) {
	for name, tc := range map[string]struct {
		end  func(*rig)
		want []record.Call
	}{
		"§6.3.9.6 SMMUEN": {func(r *rig) { r.enable(0xc) }, []record.Call{terminate(3), terminate(4)}},
		"reset":           {func(r *rig) { require.NoError(r, r.Reset()) }, []record.Call{terminate(3), terminate(4)}},
		"detach":          {func(r *rig) { require.NoError(r, r.Detach(3)) }, []record.Call{terminate(3)}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStallRig(t, withStalls)
			r.host.Emit(stalled(3, 1))
			r.enable(0x9)
			r.host.Emit(stalled(3, 2))
			r.enable(0xd)
			r.idle()
			r.resumed()
			r.host.Emit(stalled(3, 3))
			r.enable(0x9)
			r.host.Emit(stalled(3, 4))
			tc.end(r)
			assert.Equal(t, tc.want, r.resumed())
			for stag := range uint16(5) {
				assert.False(t, r.host.Stalled(3, stag))
			}
			assert.Empty(t, r.eventq.stalls.reported)
			assert.Empty(t, r.eventq.stalls.waiting)
			if name == "§6.3.9.6 SMMUEN" {
				r.host.Emit(stalled(3, 9))
				assert.EqualValues(t, 1, r.Stats().Events[Discarded], "nothing can stall while it is 0")
			}
		})
	}
}

// TestStallBeforeSMMUENIsAcknowledged shows that a transaction that stalls as soon as its stream
// translates is not lost.
func TestStallBeforeSMMUENIsAcknowledged(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.enable(0xc)
	r.resumed()
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.StreamID == 3 {
			r.deliver(stalled(3, 5))
		}
		return nil
	})
	r.enable(0xd)
	r.host.FailWith(nil)
	assert.Equal(t, []smmuv3.Event{stalled(3, 5)}, r.events())
	r.run(cmdResume(3, 5, 1))
	assert.Equal(t, []record.Call{resume(3, 5, bridge.Retry)}, r.resumed())
}

// TestStallDuringDetachIsForgotten shows that a stall during Detach does not affect the next stream
// with the StreamID.
func TestStallDuringDetachIsForgotten(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.CloseStream {
			r.deliver(stalled(3, 5))
		}
		return nil
	})
	require.NoError(t, r.Detach(3))
	r.host.FailWith(nil)
	require.NoError(t, r.Attach(3, r.host, "GPU"))
	r.host.Emit(stalled(3, 5))
	r.resumed()
	r.run(cmdResume(3, 5, 1))
	r.idle()
	assert.Equal(t, []record.Call{resume(3, 5, bridge.Retry)}, r.resumed())
}

// TestFailedAnswersToStallsAreCounted shows that Stats counts a host's failures to resume or
// terminate, and that the guest continues. A host without the methods cannot be attached.
func TestFailedAnswersToStallsAreCounted(t *testing.T) {
	for kind, err := range failures {
		t.Run(kind, func(t *testing.T) {
			r := newStallRig(t, withStalls)
			r.host.Emit(stalled(3, 1))
			r.host.FailWith(func(c record.Call) error {
				if c.Op == record.Resume || c.Op == record.TerminateStalled {
					return err
				}
				return nil
			})
			r.run(cmdResume(3, 1, 1), smmuv3.Command{0x45 | 3<<32}, cmdSync)
			assert.Zero(t, r.gerror())
			assert.EqualValues(t, 2, r.Stats().HostErrors)
		})
	}
	r := newRig(t, withStalls)
	err := r.Attach(3, &countingHost{Host: r.host}, "GPU")
	assert.ErrorIs(t, err, ErrConfig)
	assert.ErrorContains(t, err, "Staller")
}

// TestStalledIsBounded shows that the device bounds its list of stalled transactions if a host
// does not.
func TestStalledIsBounded(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.enable(0x9)
	for i := range waitingMax + 10 {
		r.deliver(stalled(3, uint16(i)))
	}
	assert.Len(t, r.eventq.stalls.waiting, waitingMax)
	assert.EqualValues(t, 10, r.Stats().Events[Discarded])
}

// TestServiceFailureModeEndsStalls_12_3 shows that the device terminates stalled transactions, as
// the guest's commands are no longer executed.
func TestServiceFailureModeEndsStalls_12_3(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.host.Emit(stalled(4, 7))
	r.enable(0x9)
	r.host.Emit(stalled(4, 8)) // finds no room
	r.ste(3, 0)
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.StreamID == 3 {
			return errAgain
		}
		return nil
	})
	r.run(cmdCfgiSTE(3))
	r.idle()
	require.Equal(t, uint32(1<<8), r.gerror())
	assert.False(t, r.host.Stalled(4, 7) || r.host.Stalled(4, 8))
	assert.Empty(t, r.eventq.stalls.waiting)
}
