package soft_test

import (
	"encoding/binary"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const sid smmuv3.StreamID = 0x42

// rig is a host with one endpoint, and the events that it sent.
type rig struct {
	t      *testing.T
	mem    *guestmem.Fake
	guest  guest // in place of mem, in tests on several kinds of memory
	host   *soft.Host
	ep     *soft.Endpoint
	stream bridge.Stream

	mu     sync.Mutex
	events []smmuv3.Event
}

func newRig(t *testing.T, cfg soft.Config) *rig {
	t.Helper()
	return newRigShown(t, cfg, smmuv3.IDRegs{})
}

// newRigShown returns a rig whose guest reads these ID registers, if they are not zero.
func newRigShown(t *testing.T, cfg soft.Config, shown smmuv3.IDRegs) *rig {
	t.Helper()
	r := &rig{t: t, mem: new(guestmem.Fake), ep: soft.NewEndpoint()}
	if cfg.Memory == nil {
		cfg.Memory = r.mem
	}
	var err error
	r.host, err = soft.New(cfg)
	require.NoError(t, err)
	require.NoError(t, r.host.Events(func(e smmuv3.Event) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}))
	if shown != (smmuv3.IDRegs{}) {
		require.NoError(t, r.host.SetGuestIDs(shown))
	}
	r.stream, err = r.host.Attach(sid, r.ep)
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := r.host.Close(); !errors.Is(err, bridge.ErrClosed) { // the test may have closed it
			require.NoError(t, err)
		}
	})
	return r
}

// guest is memory as the guest writes it.
type guest interface {
	SetWords(gpa guestmem.GPA, words ...uint64)
	Words(gpa guestmem.GPA, n int) []uint64
}

// ram is memory in slots that hold the tests' structures.
type ram struct{ guestmem.Slots }

func newRAM(t testing.TB) *ram {
	m := new(ram)
	for _, gpa := range []guestmem.GPA{0, 0x5000_0000, 0x6000_0000} {
		require.NoError(t, m.Add(guestmem.Slot{GPA: gpa, Mem: make([]byte, 1<<20)}))
	}
	return m
}

func (m *ram) SetWords(gpa guestmem.GPA, words ...uint64) {
	for i, w := range words {
		if err := m.Store64(gpa+guestmem.GPA(8*i), w); err != nil {
			panic(err)
		}
	}
}

func (m *ram) Words(gpa guestmem.GPA, n int) []uint64 {
	words := make([]uint64, n)
	for i := range words {
		var err error
		if words[i], err = m.Load64(gpa + guestmem.GPA(8*i)); err != nil {
			panic(err)
		}
	}
	return words
}

// taken returns the events since the last call.
func (r *rig) taken() []smmuv3.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.events
	r.events = nil
	return e
}

func (r *rig) bind(g bridge.GuestStage) {
	r.t.Helper()
	require.NoError(r.t, r.stream.Bind(g))
}

func (r *rig) invalidate(cmds ...smmuv3.Command) {
	r.t.Helper()
	require.NoError(r.t, r.host.Invalidate(cmds))
}

func gpa(a uint64) guestmem.GPA { return guestmem.GPA(a) }

// fillPlaces makes each place of sections have its caches, by reads of IOVA 0.
func fillPlaces(t *testing.T, ep *soft.Endpoint) {
	t.Helper()
	for range guestmem.Places {
		require.NoError(t, ep.ReadAt(make([]byte, 1), 0))
		m, err := ep.Map(0, 1, false, nil)
		require.NoError(t, err)
		defer m.Release()
	}
}

// sleep lets other goroutines run. In a synctest bubble it takes no time.
func sleep() { time.Sleep(time.Millisecond) }

// repeat lets goroutines repeat a step until it returns false, or until stop is called. stop waits
// for them.
func repeat(goroutines int, step func() bool) (stop func()) {
	var wg sync.WaitGroup
	var stopped atomic.Bool
	for range goroutines {
		wg.Go(func() {
			for !stopped.Load() && step() {
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}

// neverStale lets readers read the number of a page while it moves from page to page: to page k %
// pages, for k from 1 on. They never read a page that was invalidated before the read began.
func neverStale(t *testing.T, pages, moves uint64, read func() (uint64, error), move func(k uint64)) {
	var current atomic.Uint64 // count of moves
	defer repeat(3, func() bool {
		before := current.Load()
		got, err := read()
		after := current.Load()
		// Moves before+1 to after+1 are in flight.
		return assert.NoError(t, err) && assert.LessOrEqual(t, (got-before)%pages, after+1-before, "stale")
	})()
	for k := uint64(1); k <= moves; k++ {
		move(k)
		current.Store(k)
	}
}

// word reads eight bytes by DMA.
func word(d interface {
	ReadAt(p []byte, iova uint64) error
}, iova uint64) (uint64, error) {
	var p [8]byte
	err := d.ReadAt(p[:], iova)
	return binary.LittleEndian.Uint64(p[:]), err
}

// Places of the tests' structures.
const (
	cdAt    = 0x1000
	tableAt = 0x10000 // and on, a table each 64 KiB
	pageAt  = 0x4000_0000
)

// cd4K is dw0 of a CD for 48-bit addresses by TTB0 with 4 KiB pages: T0SZ = 16, EPD1, V, IPS = 48
// bits, AA64, R, A, ASID 1.
const cd4K = 0x0001_6205_c000_0010

// oneCD is the stage of a stream with the CD at cdAt.
var oneCD = bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt}

// Attributes of leaves: AF, nG, AP[1] (unprivileged access).
const (
	pageRW  = 1<<11 | 1<<10 | 1<<6 | 0b11
	blockRW = 1<<11 | 1<<10 | 1<<6 | 0b01
)

// map4K maps IOVA 0 to 2 MiB page by page, with a CD and all tables. leaf is the address of the
// last table.
func (r *rig) map4K(cd0 uint64, leaves ...uint64) (leaf guestmem.GPA) {
	mem := r.guest
	if mem == nil {
		mem = r.mem
	}
	mem.SetWords(cdAt, cd0, 0x10000)
	mem.SetWords(0x10000, 0x20003)
	mem.SetWords(0x20000, 0x30003)
	mem.SetWords(0x30000, 0x40003)
	mem.SetWords(0x40000, leaves...)
	return 0x40000
}
