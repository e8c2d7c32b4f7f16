package trap

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const (
	strtab = 0x10000
	sid    = smmuv3.StreamID(3)
)

// rig is one stream behind an SMMU with a linear stream table of 16 STEs.
type rig struct {
	*testing.T
	mem     *guestmem.Fake
	host    *record.Host
	streams *Streams
	stream  *Stream
}

func newRig(t *testing.T) *rig {
	r := &rig{T: t, mem: new(guestmem.Fake), host: record.New(bridge.Capabilities{IDs: testIDs()})}
	r.streams = NewStreams(r.mem, testIDs(), nil)
	return r
}

func (r *rig) attach() {
	st, err := r.streams.Attach(sid, r.host, "endpoint")
	require.NoError(r, err)
	r.stream = st
}

func (r *rig) ste(dw0, dw1 uint64) { r.mem.SetWords(strtab+64*guestmem.GPA(sid), dw0, dw1) }

func (r *rig) enable(on bool) {
	r.streams.SetRegs(Regs{Enabled: on, Table: table(strtab, 4)})
}

func (r *rig) refresh() (Outcome, error) { return r.streams.Refresh(r.stream, true) }

// binds returns the stages bound since its last call.
func (r *rig) binds() []string {
	all := []string{}
	for _, c := range r.host.Forget() {
		if c.Op == record.Bind {
			all = append(all, stateOf(c.Stage).String())
		}
	}
	return all
}

// state is the state of a stream. The numbers below are from the mailing list thread that package
// bridge cites.
type state uint8

const (
	// unattached is states (1) and (5): the stream is not attached.
	unattached state = iota
	// aborting is the state between (2) and (3): stage 1 aborts, stage 2 is set up.
	aborting
	// bypassing is states (2) and (4): stage 1 bypasses, stage 2 translates.
	bypassing
	// bound is state (3): the guest's stages are nested on the host's stage 2.
	bound
)

func (s state) String() string {
	return [...]string{"unattached", "aborting", "bypassing", "bound"}[s]
}

// stateOf returns the state of an attached stream with a stage.
func stateOf(g bridge.GuestStage) state {
	switch g.Disposition {
	case bridge.Translate, bridge.TranslateS2, bridge.TranslateNested:
		return bound
	case bridge.Bypass:
		return bypassing
	default:
		return aborting
	}
}

// Every cause of a transition, in every state of the mailing list thread. docs/stream-states.md has
// the same table.
func TestStatesOfTheThread(t *testing.T) {
	to := map[state]func(*rig){
		aborting:  func(r *rig) { r.ste(steAbort, 0); r.enable(true); _, _ = r.refresh() },
		bypassing: func(r *rig) { r.ste(steBypass, 0); r.enable(true); _, _ = r.refresh() },
		bound:     func(r *rig) { r.ste(steS1, 0); r.enable(true); _, _ = r.refresh() },
	}
	steps := []struct {
		name string
		do   func(*rig)
		want map[state]state // by the earlier state
	}{
		{"STE: Config 000", func(r *rig) { r.ste(steAbort, 0); _, _ = r.refresh() }, all(aborting)},
		{"STE: V=0", func(r *rig) { r.ste(0, 0); _, _ = r.refresh() }, all(aborting)},
		{"STE: illegal", func(r *rig) { r.ste(steS2, 0); _, _ = r.refresh() }, all(aborting)},
		{"STE: unreadable", func(r *rig) {
			r.mem.FailReads(guestmem.Range{GPA: strtab, Len: 1024}, nil)
			_, _ = r.refresh()
		}, all(aborting)},
		{"STE: bypass", func(r *rig) { r.ste(steBypass, 0); _, _ = r.refresh() }, all(bypassing)},
		{"STE: stage 1", func(r *rig) { r.ste(steS1, 0); _, _ = r.refresh() }, all(bound)},
		{"STE: another stage 1", func(r *rig) { r.ste(steTable, 0); _, _ = r.refresh() }, all(bound)},
		{"SMMUEN=0, GBPA bypasses", func(r *rig) { r.enable(false); _, _ = r.refresh() }, all(bypassing)},
		{"SMMUEN=0, GBPA.ABORT", func(r *rig) {
			r.streams.SetRegs(Regs{GBPA: smmuv3.GBPA_ABORT})
			_, _ = r.refresh()
		}, all(aborting)},
		{"STE changed, no CFGI", func(r *rig) { r.ste(steS1+0x1000, 0) },
			map[state]state{aborting: aborting, bypassing: bypassing, bound: bound}},
		{"detach", func(r *rig) { require.NoError(r, r.streams.Detach(r.stream)) }, all(unattached)},
	}
	for from, reach := range to {
		for _, step := range steps {
			t.Run(fmt.Sprintf("%v/%s", from, step.name), func(t *testing.T) {
				r := newRig(t)
				r.attach()
				reach(r)
				require.Equal(t, from, stateOf(r.stream.Stage()))
				r.binds()

				step.do(r)
				calls := r.binds()
				assert.LessOrEqual(t, len(calls), 1, "one call replaces a stage: %v", calls)
				stage, attached := r.host.Stage(sid)
				if step.want[from] == unattached {
					assert.False(t, attached)
					return
				}
				assert.Equal(t, step.want[from], stateOf(stage))
				assert.Equal(t, r.stream.Stage(), stage, "Stage agrees with the host")
			})
		}
	}
}

func all(to state) map[state]state { return map[state]state{aborting: to, bypassing: to, bound: to} }

func TestAttachAborts(t *testing.T) {
	r := newRig(t)
	r.attach()
	stage, ok := r.host.Stage(sid)
	require.True(t, ok)
	assert.Equal(t, bridge.GuestStage{}, stage, "until Refresh")
	_, err := r.streams.Attach(sid, r.host, "another")
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.EqualError(t, err, "StreamID in use")
}

func TestEqualStageNeedsNoCall(t *testing.T) {
	r := newRig(t)
	r.attach()
	r.ste(steS1, 0)
	r.enable(true)
	outcome, err := r.refresh()
	require.NoError(t, err)
	assert.Equal(t, Moved, outcome)
	assert.Equal(t, []string{"bound"}, r.binds())

	// S2VMID changes, which an SMMU without stage 2 ignores.
	r.mem.SetWords(strtab+64*guestmem.GPA(sid)+16, 0xffff)
	outcome, err = r.refresh()
	require.NoError(t, err)
	assert.Equal(t, Kept, outcome)
	assert.Empty(t, r.binds())
}

// Refresh fails closed: each sequence of errors of Bind has its outcome and its final stage on the
// host.
func TestRefreshFailsClosed(t *testing.T) {
	again := errors.New("try again")
	for _, tc := range []struct {
		name    string
		answers []error // of the calls of Bind, in order
		outcome Outcome
		binds   int
		want    state // of the host
	}{
		{"success", []error{nil}, Moved, 1, bound},
		{"rejected: aborts", []error{bridge.ErrRejected, nil}, Refused, 2, aborting},
		{"transient error: second attempt", []error{again, nil}, Moved, 2, bound},
		{"two errors: aborts", []error{again, again, nil}, Refused, 3, aborting},
		{"transient error of the abort", []error{bridge.ErrRejected, again, nil}, Refused, 3, aborting},
		{"abort fails: lost", []error{bridge.ErrRejected, again, again}, Lost, 3, bypassing},
		{"device gone: no more DMA", []error{bridge.ErrGone, bridge.ErrGone}, Refused, 2, bypassing},
		{"stream closed by the host: no more DMA to the guest", []error{bridge.ErrClosed, bridge.ErrClosed}, Refused, 2, bypassing},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.attach()
			r.ste(steBypass, 0)
			r.enable(true)
			_, err := r.refresh()
			require.NoError(t, err)
			r.binds()

			answers := tc.answers
			r.host.FailWith(func(c record.Call) error {
				err := answers[0]
				answers = answers[1:]
				return err
			})
			r.ste(steS1, 0)
			outcome, err := r.refresh()
			assert.Equal(t, tc.outcome, outcome)
			assert.Len(t, r.binds(), tc.binds)
			stage, _ := r.host.Stage(sid)
			assert.Equal(t, tc.want, stateOf(stage))
			if tc.outcome == Moved {
				assert.NoError(t, err)
			} else {
				assert.ErrorIs(t, err, tc.answers[0])
				assert.NotContains(t, err.Error(), "0x3", "the caller adds the StreamID")
			}
		})
	}
}

func TestRange(t *testing.T) {
	r := newRig(t)
	for _, id := range []smmuv3.StreamID{0, 7, 8, 0x100, 0xffff} {
		_, err := r.streams.Attach(id, r.host, id)
		require.NoError(t, err)
	}
	ids := func(first, last smmuv3.StreamID) (got []smmuv3.StreamID) {
		for _, st := range r.streams.Range(first, last) {
			got = append(got, st.ID)
		}
		return got
	}
	assert.Equal(t, []smmuv3.StreamID{0, 7}, ids(0, 7))
	assert.Equal(t, []smmuv3.StreamID{8}, ids(8, 15))
	assert.Equal(t, []smmuv3.StreamID{0, 7, 8, 0x100, 0xffff}, ids(0, 0xffff_ffff))
	assert.Empty(t, ids(9, 0xff))
	assert.Empty(t, ids(0x10000, 0xffff_ffff))
}

func TestWatched(t *testing.T) {
	r := newRig(t)
	r.attach()
	assert.Empty(t, r.streams.Watched())

	const l1, l2 = 0x20000, 0x40000
	r.mem.SetWords(l1, l2|9)
	r.streams.SetRegs(Regs{Enabled: true, Table: table(l1, 0x1<<16|8<<6|12)})
	_, err := r.refresh()
	require.NoError(t, err)
	assert.Equal(t, []guestmem.Range{{GPA: l1, Len: 8}, {GPA: l2 + 64*3, Len: 64}}, r.streams.Watched())

	assert.Len(t, r.streams.Written(guestmem.Range{GPA: l1 + 4, Len: 1}), 1, "its level-1 descriptor")
	assert.Len(t, r.streams.Written(guestmem.Range{GPA: l2 + 64*3 + 63, Len: 4}), 1, "its STE")
	assert.Empty(t, r.streams.Written(guestmem.Range{GPA: l2 + 64*4, Len: 64}), "its neighbour's")

	r.enable(false)
	_, err = r.refresh()
	require.NoError(t, err)
	assert.Empty(t, r.streams.Watched(), "a disabled SMMU reads no stream table")
}

// A stream whose host fails to bind an abort can be detached from the host. The stream aborts until
// a Refresh after Reattach.
func TestDetachHostAndReattach(t *testing.T) {
	r := newRig(t)
	r.attach()
	r.ste(steS1, 0)
	r.enable(true)
	_, err := r.refresh()
	require.NoError(t, err)

	refuse := errors.New("no")
	r.host.FailWith(func(record.Call) error { return refuse })
	outcome, _ := r.streams.Abort(r.stream, refuse)
	require.Equal(t, Lost, outcome)
	assert.ErrorIs(t, r.streams.DetachHost(r.stream), refuse)
	assert.Equal(t, bound, stateOf(r.stream.Stage()), "the stream keeps its stage")
	require.NoError(t, r.streams.Reattach(r.stream), "no effect on a stream that is attached")

	r.host.FailWith(nil)
	require.NoError(t, r.streams.DetachHost(r.stream))
	_, attached := r.host.Stage(sid)
	assert.False(t, attached)
	assert.Equal(t, aborting, stateOf(r.stream.Stage()))
	outcome, err = r.refresh()
	assert.Equal(t, Refused, outcome)
	assert.ErrorIs(t, err, bridge.ErrClosed)

	r.host.FailWith(func(record.Call) error { return refuse })
	assert.ErrorIs(t, r.streams.Reattach(r.stream), refuse)
	r.host.FailWith(nil)
	require.NoError(t, r.streams.Reattach(r.stream))
	stage, attached := r.host.Stage(sid)
	assert.True(t, attached)
	assert.Equal(t, bridge.GuestStage{}, stage)
	outcome, err = r.refresh()
	require.NoError(t, err)
	assert.Equal(t, Moved, outcome)

	require.NoError(t, r.streams.DetachHost(r.stream))
	require.NoError(t, r.streams.Detach(r.stream), "nothing is left to close")
	assert.Nil(t, r.streams.Get(sid))
	assert.Empty(t, r.streams.All())
}

func TestDetachRemovesTheStreamEvenIfTheHostFails(t *testing.T) {
	r := newRig(t)
	r.attach()
	refuse := errors.New("no")
	r.host.FailWith(func(record.Call) error { return refuse })
	assert.ErrorIs(t, r.streams.Detach(r.stream), refuse)
	assert.Nil(t, r.streams.Get(sid))
	_, err := r.streams.Attach(sid, r.host, "another")
	assert.ErrorIs(t, err, refuse)
}

func TestRefreshDecidesAgainWhenRegistersChange(t *testing.T) {
	r := newRig(t)
	r.attach()
	r.streams.SetRegs(Regs{Enabled: true, Table: table(strtab, 0)}) // one STE: the stream has none
	_, err := r.refresh()
	require.NoError(t, err)
	assert.Equal(t, bridge.GuestStage{}, r.stream.Stage())
	r.streams.SetRegs(Regs{Enabled: true, RecInvSID: true, Table: table(strtab, 0)})
	_, err = r.refresh()
	require.NoError(t, err)
	assert.Equal(t, bridge.GuestStage{Cause: smmuv3.CBadStreamID}, r.stream.Stage())
}

func TestHasUsedATS(t *testing.T) {
	ids := testIDs()
	ids.Set(smmuv3.ATS, 1)
	r := newRig(t)
	r.streams = NewStreams(r.mem, ids, nil)
	r.attach()
	r.enable(true)
	for _, step := range []struct {
		dw0, dw1 uint64
		want     bool
	}{{steS1, 0, false}, {steS1, 1 << 28, true}, {steS1, 0, true}} {
		r.ste(step.dw0, step.dw1)
		_, err := r.refresh()
		require.NoError(t, err)
		assert.Equal(t, step.want, r.stream.HasUsedATS(), "the endpoint keeps its ATC after the STE changes")
	}
}

// While a host may hold stale translations, a stream with a translating STE aborts, with one Bind.
// Other streams follow their configuration.
func TestRefreshWithoutTranslation(t *testing.T) {
	r := newRig(t)
	r.attach()
	assert.Same(t, r.stream, r.streams.Get(sid))
	assert.Nil(t, r.streams.Get(sid+1))
	r.enable(true)
	for _, step := range []struct {
		ste   uint64
		want  Outcome
		binds []string
	}{
		{steS1, Refused, []string{"aborting"}}, {steS1, Refused, []string{}}, {steBypass, Moved, []string{"bypassing"}},
		{steBypass, Kept, []string{}}, {steS1, Refused, []string{"aborting"}},
	} {
		r.ste(step.ste, 0)
		r.host.Forget()
		outcome, err := r.streams.Refresh(r.stream, false)
		assert.Equal(t, step.want, outcome)
		assert.Equal(t, step.want == Refused, errors.Is(err, errStale), err)
		assert.Equal(t, step.binds, r.binds())
	}
	assert.Equal(t, smmuv3.CBadSTE, r.stream.Stage().Cause)
	outcome, err := r.streams.Refresh(r.stream, true)
	assert.Equal(t, Moved, outcome)
	assert.NoError(t, err)
}

// A stream with an unchanged STE is bound again if anything else has changed its stage. The
// shortcut for an unchanged STE must not hide such a change.
func TestRefreshOfAnUnchangedSTE(t *testing.T) {
	why := errors.New("why")
	for _, tc := range []struct {
		name  string
		do    func(*rig)
		want  Outcome
		binds []string
	}{
		{"nothing", func(*rig) {}, Kept, []string{}},
		{"the host failed, and the stream aborts", func(r *rig) { _, _ = r.streams.Abort(r.stream, why) }, Moved, []string{"aborting", "bound"}},
		{"the stream is detached from its host and reattached", func(r *rig) {
			require.NoError(r, r.streams.DetachHost(r.stream))
			require.NoError(r, r.streams.Reattach(r.stream))
		}, Moved, []string{"bound"}},
		{"another stage is restored", func(r *rig) {
			_, _ = r.streams.Restore(r.stream, Saved{ID: sid})
		}, Moved, []string{"aborting", "bound"}},
		{"the same stage is restored", func(r *rig) {
			_, _ = r.streams.Restore(r.stream, r.stream.Save())
		}, Kept, []string{}},
		{"SMMUEN is toggled", func(r *rig) {
			r.enable(false)
			_, _ = r.refresh()
			r.enable(true)
		}, Moved, []string{"bypassing", "bound"}},
		{"the host was out of sync", func(r *rig) { _, _ = r.streams.Refresh(r.stream, false) }, Moved, []string{"aborting", "bound"}},
		{"the host refused another STE", func(r *rig) {
			r.host.FailWith(func(record.Call) error { return bridge.ErrGone })
			r.ste(steTable, 0)
			_, _ = r.refresh()
			r.host.FailWith(nil)
			r.ste(steS1, 0)
		}, Kept, []string{"bound", "aborting"}},
		{"bits that the stage ignores change", func(r *rig) { r.ste(steS1, 1<<20) }, Kept, []string{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			r.attach()
			r.ste(steS1, 0)
			r.enable(true)
			for range 3 { // the shortcut needs an earlier refresh
				_, err := r.refresh()
				require.NoError(t, err)
			}
			r.binds()
			tc.do(r)
			got, err := r.refresh()
			require.NoError(t, err)
			assert.Equal(t, tc.want, got)
			assert.Equal(t, tc.binds, r.binds())
			stage, _ := r.host.Stage(sid)
			assert.Equal(t, r.stream.Stage(), stage)
			assert.Equal(t, bound, stateOf(stage))
		})
	}
}

// The watched ranges follow the L1STD, even if it leads to an equal STE.
func TestWatchedFollowsAnUnchangedSTE(t *testing.T) {
	r := newRig(t)
	r.attach()
	r.streams.SetRegs(Regs{Enabled: true, Table: table(0x20000, 0x1<<16|6<<6|12)})
	for _, l2 := range []guestmem.GPA{0x40000, 0x80000} {
		r.mem.SetWords(0x20000, uint64(l2)|7)
		r.mem.SetWords(l2+64*guestmem.GPA(sid), steS1)
		_, err := r.refresh()
		require.NoError(t, err)
		assert.Equal(t, []guestmem.Range{{GPA: 0x20000, Len: 8}, {GPA: l2 + 64*guestmem.GPA(sid), Len: 64}}, r.streams.Watched())
	}
	assert.Len(t, r.binds(), 1)
}
