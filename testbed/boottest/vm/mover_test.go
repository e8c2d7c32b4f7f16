package vm

import (
	"bytes"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// The guest's memory: 16 MiB from 0.
const (
	ramSize = 16 << 20
	tables  = 1 << 20 // the driver's structures
	dataAt  = 8 << 20 // data of endpoints, up to the end
)

type noWires struct{}

func (noWires) Pulse(vsmmu.Line) error               { return nil }
func (noWires) SignalMSI(guestmem.GPA, uint32) error { return nil }

// smmuRig is an SMMU that a guest has set up. Streams 0x10 and 0x21 translate.
type smmuRig struct {
	*testing.T
	smmu  *movable.SMMU
	hosts soft.Config
	ram   []byte
	mem   *guestmem.Tracked
	guest *vsmmutest.Guest
}

func newSMMURig(t *testing.T) *smmuRig {
	r := &smmuRig{T: t, ram: make([]byte, ramSize)}
	slots := new(guestmem.Slots)
	require.NoError(t, slots.Add(guestmem.Slot{Mem: r.ram}))
	var err error
	r.mem, err = guestmem.NewTracked(slots)
	require.NoError(t, err)
	r.hosts = soft.Config{Memory: r.mem}
	host, err := soft.New(r.hosts)
	require.NoError(t, err)
	caps, err := host.Capabilities()
	require.NoError(t, err)
	ids, err := idr.Derive(nil, caps)
	require.NoError(t, err)
	cfg := vsmmu.Config{IDs: ids.IDs, Memory: r.mem, Interrupts: noWires{}, AbortAtReset: true, Trace: vsmmu.Trace{
		Bind: func(smmuv3.StreamID, bridge.GuestStage, error) {
			assert.False(t, r.smmu.Moving(), "a bind of a move")
		},
	}}
	r.smmu, err = movable.New(movable.Config{Device: cfg, Host: r.hosts}, host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.smmu.Close() })

	r.guest = vsmmutest.NewGuest(r.mem, guestmem.Range{GPA: tables, Len: dataAt - tables}, r.smmu)
	r.guest.Timeout = 2 * time.Minute
	require.NoError(t, r.guest.Enable())
	for _, sid := range []smmuv3.StreamID{0x10, 0x21} {
		require.NoError(t, r.guest.MapStage1(sid, dataAt, dataAt, ramSize-dataAt))
	}
	return r
}

// endpoint attaches an endpoint whose DMA a mover counts.
func (r *smmuRig) endpoint(sid smmuv3.StreamID, m *mover) *endpoint {
	e := &endpoint{id: sid, dma: soft.NewEndpoint(), mover: m}
	require.NoError(r, r.smmu.Attach(sid, e.dma))
	return e
}

// run makes the SMMU execute commands and a SYNC.
func (r *smmuRig) run(cmds ...smmuv3.Command) { assert.NoError(r, r.guest.Run(cmds...)) }

// Two endpoints write and read, by copies and by mappings, and the guest invalidates, while the
// SMMU is moved.
func TestMovesLoseNoAccessAndNoCommand(t *testing.T) {
	const moves = 20
	r := newSMMURig(t)
	m := newMover(r.smmu, moves, func(err error) { t.Error(err) })
	first := r.smmu.Device()
	// The rounds of a live migration copy the memory to which only the endpoints write.
	moved, pages := make([]byte, ramSize), 0
	r.mem.NewAccount()
	r.smmu.SetRound(func() {
		a := r.mem.NewAccount()
		pages += a.Pages()
		for p := range a.Ranges() {
			assert.NoError(t, r.mem.ReadAt(moved[p.GPA:][:p.Len], p.GPA))
		}
		assert.True(t, bytes.Equal(r.ram[dataAt:], moved[dataAt:]), "the copy equals the memory")
	})
	eps := []*endpoint{r.endpoint(0x10, m), r.endpoint(0x21, m)}
	r.run(smmuv3.Command{0x04, 31}) // CFGI_ALL
	var disks sync.WaitGroup
	for i, e := range eps {
		disks.Go(func() {
			at := uint64(dataAt + i<<21)
			out, in := make([]byte, 64<<10), make([]byte, 64<<10)
			for n := range testedBytes / 4 / len(out) {
				for j := range out {
					out[j] = byte(n + j)
				}
				assert.NoError(t, e.WriteAt(out, at))
				clear(in)
				mapping, err := e.Map(at, len(in), false, nil)
				if !assert.NoError(t, err) {
					return
				}
				copy(in, mapping.Segments[0])
				mapping.Release()
				assert.True(t, bytes.Equal(out, in))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		disks.Wait()
		close(done)
	}()
	syncs := 0
	for ended := false; !ended; syncs++ {
		r.run(smmuv3.Command{0x11 | 1<<48}) // TLBI_NH_ASID
		select {
		case <-done:
			ended = true
		default:
		}
	}
	assert.Positive(t, syncs)
	assert.Positive(t, pages)
	var out report.Report
	m.fill(&out)
	assert.Equal(t, moves, out.Moves.Made)
	require.Len(t, out.Moves.At, moves)
	for i, at := range out.Moves.At {
		assert.Less(t, at, out.Moves.DMA)
		assert.GreaterOrEqual(t, at, uint64(i+1)*testedBytes/(moves+1))
	}
	assert.LessOrEqual(t, out.Moves.StateBytes, 2048+2*128)
	assert.NotSame(t, first, r.smmu.Device())
	assert.Zero(t, r.smmu.Load(smmuv3.RegEVENTQ_PROD, 4), "no access faulted")
}

// During the saves, a vCPU queues commands, and an endpoint makes DMA. Some of this DMA faults.
func TestSaveOfARunningDeviceGivesAStateThatRestores(t *testing.T) {
	r := newSMMURig(t)
	e := r.endpoint(0x10, nil)
	r.run(smmuv3.Command{0x04, 31})
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() { // an endpoint
		buf := make([]byte, 4096)
		for i := uint64(0); ; i++ {
			select {
			case <-done:
				return
			default:
				assert.NoError(t, e.WriteAt(buf, dataAt+i%64<<12))
				if i%64 == 0 {
					assert.ErrorIs(t, e.ReadAt(buf[:64], strayAddress+i<<12), soft.ErrFault)
				}
			}
		}
	})
	all.Go(func() { // a vCPU
		for {
			select {
			case <-done:
				return
			default:
				r.run(smmuv3.Command{0x11 | 1<<48}, smmuv3.Command{0x03 | 0x10<<32, 1})
				r.smmu.Store(smmuv3.RegEVENTQ_CONS, 4, r.smmu.Load(smmuv3.RegEVENTQ_PROD, 4))
			}
		}
	})
	for range 50 {
		state, err := r.smmu.Device().Save()
		require.NoError(t, err)
		host, err := soft.New(r.hosts)
		require.NoError(t, err)
		ids, err := vsmmu.SavedIDs(state)
		require.NoError(t, err)
		next, err := vsmmu.New(vsmmu.Config{IDs: ids, Memory: new(guestmem.Fake), Interrupts: noWires{}})
		require.NoError(t, err)
		require.NoError(t, next.Attach(0x10, host, soft.NewEndpoint()))
		require.NoError(t, next.Restore(state))
		stage, _ := next.Stage(0x10)
		assert.Equal(t, bridge.Translate, stage.Disposition)
		assert.Zero(t, next.Load(smmuv3.RegGERROR, 4))
		require.NoError(t, errors.Join(next.Close(), host.Close()))
	}
	close(done)
	all.Wait()
}

func TestMoveKeepsEventsThatTheGuestHasNotConsumed(t *testing.T) {
	r := newSMMURig(t)
	e := r.endpoint(0x10, newMover(r.smmu, 1, nil))
	r.run(smmuv3.Command{0x04, 31})
	require.ErrorIs(t, e.ReadAt(make([]byte, 64), strayAddress), soft.ErrFault)
	size, err := r.smmu.Move()
	require.NoError(t, err)
	assert.Positive(t, size)
	assert.Equal(t, uint64(1), r.smmu.Load(smmuv3.RegEVENTQ_PROD, 4))
	require.NoError(t, e.ReadAt(make([]byte, 64), dataAt))
}

func TestMoveThatFailsEndsTheMachineOnce(t *testing.T) {
	r := newSMMURig(t)
	var told []error
	m := newMover(r.smmu, 10, func(err error) { told = append(told, err) })
	e := r.endpoint(0x10, m)
	require.NoError(t, r.smmu.Device().Close())
	for range 2 * testedBytes >> 20 {
		assert.Error(t, e.ReadAt(make([]byte, 1<<20), dataAt))
	}
	require.Len(t, told, 1)
	assert.ErrorIs(t, told[0], vsmmu.ErrClosed)
	assert.ErrorContains(t, told[0], "move 1 of the SMMU")
	var out report.Report
	m.fill(&out)
	assert.Zero(t, out.Moves.Made)
	_, err := r.smmu.Move()
	assert.Error(t, err)
}

// A device also accesses rings and headers without a request. Such an access causes no move.
func TestMovesAreMadeDuringRequestsOnly(t *testing.T) {
	r := newSMMURig(t)
	m := newMover(r.smmu, 1, nil)
	for range 2 * testedBytes / 64 {
		m.enter(64)
		m.leave()
	}
	assert.Zero(t, m.report.Made)
	(*mover)(nil).enter(1 << 30)
	(*mover)(nil).leave()
	assert.Nil(t, newMover(r.smmu, 0, nil))
}
