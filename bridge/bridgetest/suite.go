package bridgetest

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// suite is one test of Run.
type suite struct {
	*testing.T
	newRig func(t *testing.T) Rig
}

// run runs a part of the test on a rig of its own.
func (s *suite) run(name string, f func(r *rig)) {
	s.Run(name, func(t *testing.T) {
		r := &rig{T: t, Rig: s.newRig(t)}
		require.NotEmpty(t, r.Endpoints, "a rig needs an endpoint")
		caps, err := r.Host.Capabilities()
		require.NoError(t, err)
		r.ids = caps.IDs
		r.Host.Events(func(e smmuv3.Event) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if len(r.events) < maxEvents {
				r.events = append(r.events, e)
			}
		})
		f(r)
	})
}

// rig is a Rig in use.
type rig struct {
	*testing.T
	Rig
	ids smmuv3.IDRegs

	mu     sync.Mutex
	events []smmuv3.Event // that have come, and not been asked for
}

// maxEvents is more than any test waits for.
const maxEvents = 1 << 16

// sid is the StreamID of the stream that most tests have: no index that the
// host may have of its own.
const sid smmuv3.StreamID = 0x1234

// guest begins to use the memory, with a granule that the host has.
func (r *rig) guest() *guest {
	for _, g := range granules {
		if r.ids.HasGranule(g) {
			return &guest{rig: r, granule: g, next: r.RAM}
		}
	}
	require.Fail(r, "the host has no granule")
	return nil
}

var granules = []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K}

// attach attaches the first endpoint.
func (r *rig) attach() bridge.Stream {
	r.Helper()
	s, err := r.Host.Attach(sid, r.Endpoints[0])
	require.NoError(r, err)
	return s
}

func (r *rig) bind(s bridge.Stream, g bridge.GuestStage) {
	r.Helper()
	require.NoError(r, s.Bind(g), "%v", g)
}

func (r *rig) invalidate(cmds ...smmuv3.Command) {
	r.Helper()
	require.NoError(r, r.Host.Invalidate(cmds))
}

// dma is how to reach an endpoint.
type dma func(write bool, iova uint64, p []byte) error

func (r *rig) device(i int) dma {
	return func(write bool, iova uint64, p []byte) error { return r.DMA(r.Endpoints[i], write, iova, p) }
}

// reaches reports whether DMA to iova reads and writes guest memory at gpa:
// true if both do, false if neither does. Anything else is an error.
func (r *rig) reaches(d dma, iova uint64, gpa guestmem.GPA) bool {
	r.Helper()
	read, wrote := r.reads(d, iova, gpa), r.writes(d, iova, gpa)
	require.Equal(r, read, wrote, "DMA at %#x reads from %v, writes to it", iova, gpa)
	return read
}

// probe is how many bytes the suite moves at a time.
const probe = 256

func noise() []byte {
	p := make([]byte, probe)
	for i := range p {
		p[i] = byte(rand.Uint32())
	}
	return p
}

func (r *rig) reads(d dma, iova uint64, gpa guestmem.GPA) bool {
	r.Helper()
	want, got := noise(), noise()
	require.NoError(r, r.Memory.WriteAt(want, gpa))
	err := d(false, iova, got)
	return err == nil && bytes.Equal(want, got)
}

func (r *rig) writes(d dma, iova uint64, gpa guestmem.GPA) bool {
	r.Helper()
	want, got := noise(), noise()
	err := d(true, iova, want)
	require.NoError(r, r.Memory.ReadAt(got, gpa))
	arrived := bytes.Equal(want, got)
	if err != nil {
		assert.False(r, arrived, "DMA that the device was told is aborted has arrived")
	}
	return arrived
}

// clear forgets the events that have come.
func (r *rig) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = nil
}

// event waits for an event of a type, and lets others pass: hosts may merge
// what repeats, and report in their own time.
func (r *rig) event(t smmuv3.EventType) smmuv3.Event {
	r.Helper()
	var found smmuv3.Event
	require.Eventually(r, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for i, e := range r.events {
			if e.Type() == t {
				found, r.events = e, r.events[i+1:]
				return true
			}
		}
		return false
	}, 2*time.Minute, time.Millisecond, "%v has not come", t)
	return found
}
