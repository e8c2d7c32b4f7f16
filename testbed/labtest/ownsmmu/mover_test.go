package ownsmmu

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
)

// fakeSMMU counts its moves.
type fakeSMMU struct {
	moves, stores int
	err           error
}

func (f *fakeSMMU) Load(off uint64, size int) uint64     { return off }
func (f *fakeSMMU) Store(off uint64, size int, _ uint64) { f.stores++ }
func (f *fakeSMMU) Move() (int, error) {
	f.moves++
	return 100 + f.moves, f.err
}

func TestMovesAreAtEveryKindOfMoment(t *testing.T) {
	smmu := new(fakeSMMU)
	m := newMover()
	m.smmu = smmu
	for range 9 {
		m.Store(smmuv3.RegCMDQ_PROD, 4, 1)
	}
	m.Store(smmuv3.RegCR0, 4, 1)
	assert.Equal(t, 10, smmu.stores)
	assert.EqualValues(t, smmuv3.RegCR0, m.Load(smmuv3.RegCR0, 4))
	var own machine.Own
	m.fill(&own)
	assert.Equal(t, map[string]int{"store to CMDQ_PROD": 4, "store to CR0": 1}, own.Moves, "the 1st, 2nd, 4th and 8th")
	assert.Equal(t, 105, own.StateBytes)
	assert.Equal(t, 5, smmu.moves)
}

func TestMoveIsMadeOnceForEachRequest(t *testing.T) {
	smmu := new(fakeSMMU)
	m := newMover()
	m.smmu = smmu
	m.ask("CMD_SYNC")
	m.ask("bind abort") // while another move is due
	ctx, stop := context.WithCancel(context.Background())
	failed := m.run(ctx, func(error) {})
	require.Eventually(t, func() bool {
		var own machine.Own
		m.fill(&own)
		return own.Moves["CMD_SYNC"] == 1
	}, waiting, polling)
	stop()
	require.NoError(t, <-failed)
	assert.Equal(t, 1, smmu.moves)
}

// An SMMU whose DMA did not stop is unchanged. An SMMU whose move failed is unusable.
func TestMoveThatFailsIsTheLast(t *testing.T) {
	smmu := &fakeSMMU{err: movable.ErrBusy}
	m := newMover()
	m.smmu = smmu
	m.Store(smmuv3.RegCR0, 4, 1)
	smmu.err = errors.New("no")
	m.Store(smmuv3.RegCR1, 4, 1)
	m.Store(smmuv3.RegCR2, 4, 1)
	assert.Equal(t, 2, smmu.moves)
	ctx, stop := context.WithCancel(context.Background())
	stop()
	assert.EqualError(t, <-m.run(ctx, func(error) {}), "moving the SMMU after store to CR1: no")
	var own machine.Own
	m.fill(&own)
	assert.Equal(t, 1, own.Busy)
	assert.Empty(t, own.Moves)
}

func TestNotesCountTheSMMUsActions(t *testing.T) {
	n := newNotes()
	var moments []string
	trace := n.trace(func(kind string) { moments = append(moments, kind) })
	trace.Command(smmuv3.Command{0x46}, smmuv3.CERROR_NONE)
	trace.Command(smmuv3.Command{0x46}, smmuv3.CERROR_ATC_INV_SYNC)
	for range maxRejected + 1 {
		trace.Command(smmuv3.Command{0xff}, smmuv3.CERROR_ILL)
	}
	trace.Bind(1, bridge.GuestStage{Disposition: bridge.Abort}, nil)
	trace.Bind(1, bridge.GuestStage{Disposition: bridge.Bypass}, errors.New("no"))
	trace.Event(smmuv3.NewEvent(smmuv3.FTranslation, 1), 0)
	var own machine.Own
	n.fill(&own)
	assert.EqualValues(t, 2, own.Commands[smmuv3.OpSync.String()])
	assert.Equal(t, map[string]uint64{"bind abort": 1, "refused bind bypass": 1}, own.Binds)
	assert.Len(t, own.Events, 1)
	assert.Len(t, own.Rejected, maxRejected)
	assert.Contains(t, own.Rejected[0], "CERROR_ILL")
	assert.Len(t, moments, maxRejected+6)
}
