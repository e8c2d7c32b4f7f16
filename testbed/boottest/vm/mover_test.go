package vm

import (
	"bytes"
	"encoding/binary"
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
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Addresses of the guest's structures, in 16 MiB from 0.
const (
	ramSize  = 16 << 20
	strtabAt = 0x10000 // linear, 64 STEs
	cmdqAt   = 0x20000 // 2^8 commands
	eventqAt = 0x30000 // 2^4 records
	cdAt     = 0x40000
	pagesAt  = 0x50000  // a table of 512 blocks of 2 MiB, each mapped to itself
	dataAt   = 0x800000 // data of endpoints
)

type noWires struct{}

func (noWires) Pulse(vsmmu.Line) error               { return nil }
func (noWires) SignalMSI(guestmem.GPA, uint32) error { return nil }

// smmuRig is an SMMU that a guest has set up. Streams 0x10 and 0x21 translate with one CD.
type smmuRig struct {
	*testing.T
	*smmu
	ram  []byte
	mem  *guestmem.Tracked
	prod uint32
}

func newSMMURig(t *testing.T) *smmuRig {
	r := &smmuRig{T: t, ram: make([]byte, ramSize)}
	slots := new(guestmem.Slots)
	require.NoError(t, slots.Add(guestmem.Slot{Mem: r.ram}))
	var err error
	r.mem, err = guestmem.NewTracked(slots)
	require.NoError(t, err)
	hosts := soft.Config{Memory: r.mem}
	host, err := soft.New(hosts)
	require.NoError(t, err)
	caps, err := host.Capabilities()
	require.NoError(t, err)
	ids, err := idr.Derive(nil, caps)
	require.NoError(t, err)
	cfg := vsmmu.Config{IDs: ids.IDs, Memory: r.mem, Interrupts: noWires{}, AbortAtReset: true, Trace: vsmmu.Trace{
		Bind: func(smmuv3.StreamID, bridge.GuestStage, error) {
			assert.False(t, r.moving.Load(), "a bind of a move")
		},
	}}
	r.smmu, err = newSMMU(cfg, hosts, host, func(cfg vsmmu.Config) (smmuDevice, error) { return vsmmu.New(cfg) })
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.smmu.Close() })

	for _, sid := range []uint64{0x10, 0x21} {
		r.word(strtabAt+64*sid, cdAt|0xb) // V, Config = stage 1
	}
	// T0SZ = 25, EPD1, V, IPS = 44 bits, AA64, R, A, ASID 1; TTB0 is a table of level 2 for T0SZ =
	// 34.
	r.word(cdAt, 1<<48|1<<46|1<<45|1<<41|4<<32|1<<31|1<<30|34)
	r.word(cdAt+8, pagesAt)
	r.word(cdAt+24, 0xff) // MAIR: attribute 0 is normal memory
	for i := range uint64(512) {
		r.word(pagesAt+8*i, i<<21|1<<10|3<<8|1<<6|1) // AF, inner shareable, EL0, a block
	}
	r.Store(smmuv3.RegSTRTAB_BASE, 8, strtabAt)
	r.Store(smmuv3.RegSTRTAB_BASE_CFG, 4, 6)
	r.Store(smmuv3.RegCMDQ_BASE, 8, cmdqAt|8)
	r.Store(smmuv3.RegEVENTQ_BASE, 8, eventqAt|4)
	r.Store(smmuv3.RegCR0, 4, smmuv3.CR0_CMDQEN|smmuv3.CR0_EVENTQEN|smmuv3.CR0_SMMUEN)
	require.Eventually(t, func() bool { return r.Load(smmuv3.RegCR0ACK, 4) == 0xd }, 2*time.Minute, 50*time.Microsecond)
	return r
}

func (r *smmuRig) word(at, v uint64) { binary.LittleEndian.PutUint64(r.ram[at:], v) }

// endpoint attaches an endpoint whose DMA a mover counts.
func (r *smmuRig) endpoint(sid smmuv3.StreamID, m *mover) *endpoint {
	e := &endpoint{id: sid, dma: soft.NewEndpoint(), mover: m}
	require.NoError(r, r.attach(sid, e.dma))
	return e
}

// run makes the SMMU execute commands and a SYNC.
func (r *smmuRig) run(cmds ...smmuv3.Command) {
	for _, c := range append(cmds, smmuv3.Command{0x46}) {
		at := cmdqAt + 16*uint64(r.prod&0xff)
		r.word(at, c[0])
		r.word(at+8, c[1])
		r.prod = (r.prod + 1) & 0x1ff
	}
	r.Store(smmuv3.RegCMDQ_PROD, 4, uint64(r.prod))
	for uint32(r.Load(smmuv3.RegCMDQ_CONS, 4)) != r.prod {
		if r.Load(smmuv3.RegGERROR, 4) != 0 {
			r.Fatal("a command error")
		}
	}
}

// Two endpoints write and read, by copies and by mappings, and the guest invalidates, while the
// SMMU is moved.
func TestMovesLoseNoAccessAndNoCommand(t *testing.T) {
	const moves = 20
	r := newSMMURig(t)
	m := newMover(r.smmu, moves, func(err error) { t.Error(err) })
	first := r.device
	// The rounds of a live migration copy the memory to which only the endpoints write.
	moved, pages := make([]byte, ramSize), 0
	r.mem.NewAccount()
	r.round = func() {
		a := r.mem.NewAccount()
		pages += a.Pages()
		for p := range a.Ranges() {
			assert.NoError(t, r.mem.ReadAt(moved[p.GPA:][:p.Len], p.GPA))
		}
		assert.True(t, bytes.Equal(r.ram[dataAt:], moved[dataAt:]), "the copy is the memory")
	}
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
	assert.NotSame(t, first, r.device)
	assert.Zero(t, r.Load(smmuv3.RegEVENTQ_PROD, 4), "no access faulted")
}

// Meanwhile a vCPU queues commands, and an endpoint makes DMA, some of which faults.
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
				r.Store(smmuv3.RegEVENTQ_CONS, 4, r.Load(smmuv3.RegEVENTQ_PROD, 4))
			}
		}
	})
	for range 50 {
		state, err := r.device.Save()
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
	size, err := r.move()
	require.NoError(t, err)
	assert.Positive(t, size)
	assert.Equal(t, uint64(1), r.Load(smmuv3.RegEVENTQ_PROD, 4))
	require.NoError(t, e.ReadAt(make([]byte, 64), dataAt))
}

func TestMoveThatFailsEndsTheMachineOnce(t *testing.T) {
	r := newSMMURig(t)
	var told []error
	m := newMover(r.smmu, 10, func(err error) { told = append(told, err) })
	e := r.endpoint(0x10, m)
	require.NoError(t, r.device.Close())
	for range 2 * testedBytes >> 20 {
		assert.Error(t, e.ReadAt(make([]byte, 1<<20), dataAt))
	}
	require.Len(t, told, 1)
	assert.ErrorIs(t, told[0], vsmmu.ErrClosed)
	assert.ErrorContains(t, told[0], "move 1 of the SMMU")
	var out report.Report
	m.fill(&out)
	assert.Zero(t, out.Moves.Made)
	_, err := r.move()
	assert.Error(t, err)
}

// A device accesses rings and headers without a request too.
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
