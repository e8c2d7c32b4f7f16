package soft_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const dirtyPage = guestmem.DirtyPageSize

// trackedRig is a rig over tracked memory, whose IOVA 0 to 0x3fff are pages at 0x5000_0000. The CD
// has HA and HD, and the pages are writable-clean with AF 0.
func trackedRig(t *testing.T) (*rig, *guestmem.Tracked) {
	slots := newRAM(t)
	mem, err := guestmem.NewTracked(&slots.Slots)
	require.NoError(t, err)
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.ATS, 1)
	r := newRig(t, soft.Config{Memory: mem, IDs: ids})
	r.guest = slots
	const clean = 1<<51 | 1<<11 | 1<<7 | 1<<6 | 0b11 // DBM, nG, AP[2:1] = 0b11
	r.map4K(cd4K|1<<43|1<<42, 0x5000_0000|clean, 0x5000_1000|clean, 0x5000_2000|clean, 0x5000_3000|clean)
	g := oneCD
	g.EATS = smmuv3.EATSFull
	r.bind(g)
	return r, mem
}

func named(a *guestmem.Account) []guestmem.Range { return slices.Collect(a.Ranges()) }

// The account names the page of every kind of write by an endpoint. The first write walks the
// tables. A write in the next account uses the cached translation and is recorded as well.
func TestEachWriteOfAnEndpointIsInTheAccount(t *testing.T) {
	data := guestmem.Range{GPA: 0x5000_0000, Len: dirtyPage}
	leaves := guestmem.Range{GPA: 0x40000, Len: dirtyPage} // written by hardware update
	for _, c := range []struct {
		name  string
		write func(r *rig) error
		want  []guestmem.Range
		first []guestmem.Range // with the update of the descriptors
	}{
		{"Store", func(r *rig) error { return r.ep.Store(8, 8, 1) }, []guestmem.Range{data}, []guestmem.Range{leaves, data}},
		{"WriteAt", func(r *rig) error { return r.ep.WriteAt(make([]byte, 32), 0) }, []guestmem.Range{data}, []guestmem.Range{leaves, data}},
		{
			"WriteAt across pages", func(r *rig) error { return r.ep.WriteAt(make([]byte, 32), 0xff0) },
			[]guestmem.Range{{GPA: 0x5000_0000, Len: 2 * dirtyPage}}, []guestmem.Range{leaves, {GPA: 0x5000_0000, Len: 2 * dirtyPage}},
		},
		{
			"Map with write", func(r *rig) error {
				m, err := r.ep.Map(0, 3*dirtyPage, true, nil)
				m.Release()
				return err
			},
			[]guestmem.Range{{GPA: 0x5000_0000, Len: 3 * dirtyPage}}, []guestmem.Range{leaves, {GPA: 0x5000_0000, Len: 3 * dirtyPage}},
		},
		{
			"a port's WriteAt", func(r *rig) error { return r.ep.With(soft.Attrs{Privileged: true}).WriteAt(make([]byte, 8), 0) },
			[]guestmem.Range{data}, []guestmem.Range{leaves, data},
		},
		{"WriteTranslated", func(r *rig) error { return r.ep.WriteTranslated(make([]byte, 8), 0x5000_0000) }, []guestmem.Range{data}, []guestmem.Range{data}},
		{"a read, which sets the Access flag", func(r *rig) error { return r.ep.ReadAt(make([]byte, 8), 0) }, nil, []guestmem.Range{leaves}},
		{
			"Map without write, which sets the Access flag", func(r *rig) error {
				m, err := r.ep.Map(0, dirtyPage, false, nil)
				m.Release()
				return err
			},
			nil, []guestmem.Range{leaves},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, mem := trackedRig(t)
			r.ep.EnableATS(soft.ATS{})
			mem.NewAccount()
			require.NoError(t, c.write(r))
			assert.Equal(t, c.first, named(mem.NewAccount()))
			for range 3 {
				require.NoError(t, c.write(r))
				require.NoError(t, c.write(r))
				assert.Equal(t, c.want, named(mem.NewAccount()))
			}
			assert.Empty(t, named(mem.NewAccount()))
		})
	}
}

// A mapping belongs to the account in which it was made. The next account begins after the
// mapping's Release.
func TestANewAccountWaitsForMappings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, mem := trackedRig(t)
		require.NoError(t, r.ep.Store(0, 8, 1)) // sets the descriptor's flags
		mem.NewAccount()
		m, err := r.ep.Map(0, 8, true, nil)
		require.NoError(t, err)
		taken := make(chan *guestmem.Account, 1)
		go func() { taken <- mem.NewAccount() }()
		synctest.Wait()
		assert.Empty(t, taken)
		require.NoError(t, r.ep.Store(0x1000, 8, 2), "DMA continues")
		m.Segments[0][0] = 7
		m.Release()
		assert.Equal(t, []guestmem.Range{{GPA: 0x5000_0000, Len: dirtyPage}}, named(<-taken))
		assert.Contains(t, named(mem.Stop()), guestmem.Range{GPA: 0x5000_1000, Len: dirtyPage})
	})
}

// handmade is memory that marks pages in a log. The test replaces the log.
type handmade struct {
	*guestmem.Slots
	mu    sync.Mutex
	dirty map[guestmem.GPA]bool
}

func (m *handmade) Slice(gpa guestmem.GPA, n int, write bool) ([]byte, error) {
	s, err := m.Slots.Slice(gpa, n, write)
	if write && err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.dirty[gpa&^(dirtyPage-1)] = true
	}
	return s, err
}

// The order of the steps of a round matters. Here DMA occurs at each step of a round of handmade
// memory. A drain before the new log begins loses a write.
func TestLogThatBeginsBeforeTheDrainHasEveryWrite(t *testing.T) {
	for name, drainFirst := range map[string]bool{"drain, then a new log": true, "a new log, then drain": false} {
		t.Run(name, func(t *testing.T) {
			ram := newRAM(t)
			mem := &handmade{Slots: &ram.Slots, dirty: map[guestmem.GPA]bool{}}
			host, err := soft.New(soft.Config{Memory: mem})
			require.NoError(t, err)
			defer host.Close()
			ep := soft.NewEndpoint()
			stream, err := host.Attach(sid, ep)
			require.NoError(t, err)
			require.NoError(t, stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))

			value, copied := uint64(0), uint64(0)
			dma := func() { value++; require.NoError(t, ep.Store(0x5000_0000, 8, value)) }
			take := func() (d map[guestmem.GPA]bool) {
				d, mem.dirty = mem.dirty, map[guestmem.GPA]bool{}
				return d
			}
			round := func() {
				var dirty map[guestmem.GPA]bool
				if drainFirst {
					mem.Sections().Drain()
					dma()
					dirty = take()
				} else {
					dirty = take()
					dma()
					mem.Sections().Drain()
				}
				if dirty[0x5000_0000] {
					copied = ram.Words(0x5000_0000, 1)[0]
				}
			}
			dma()
			round()
			dma()
			mem.Sections().Drain()
			if take()[0x5000_0000] {
				copied = value
			}
			if drainFirst {
				assert.Less(t, copied, value, "a write is lost")
			} else {
				assert.Equal(t, value, copied)
			}
		})
	}
}
