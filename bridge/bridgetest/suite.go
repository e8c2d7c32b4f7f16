package bridgetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// suite is one test of Run.
type suite struct {
	*testing.T
	newRig func(t *testing.T) Rig
}

// run runs a part of the test on a new rig, which it claims as a device does.
func (s *suite) run(name string, f func(r *rig)) {
	s.runUnclaimed(name, func(r *rig) {
		r.claim(r.ids)
		f(r)
	})
}

// runUnclaimed runs a part of the test that claims the host itself.
func (s *suite) runUnclaimed(name string, f func(r *rig)) {
	s.Run(name, func(t *testing.T) {
		r := &rig{T: t, Rig: s.newRig(t)}
		require.NotNil(t, r.Host, "Rig.Host is nil")
		require.NotEmpty(t, r.Endpoints, "Rig.Endpoints has no endpoint")
		require.NotNil(t, r.Memory, "Rig.Memory is nil")
		require.Zero(t, r.Rig.RAM%ramAlign, "Rig.RAM is not aligned")
		require.NotNil(t, r.DMA, "Rig.DMA is nil")
		caps, err := r.Host.Capabilities()
		require.NoError(t, err)
		r.ids = caps.IDs
		f(r)
	})
}

// ramAlign is the alignment of Rig.RAM.
const ramAlign = 64 << 20

// rig is a Rig in use.
type rig struct {
	*testing.T
	Rig
	ids smmuv3.IDRegs
	log eventLog
}

// claim claims the host for a device whose guest reads these ID registers.
func (r *rig) claim(guest smmuv3.IDRegs) {
	r.Helper()
	require.NoError(r, r.Host.Events(r.log.add))
	require.NoError(r, r.Host.SetGuestIDs(guest))
}

// eventLog holds the events that the test has not taken yet.
type eventLog struct {
	mu     sync.Mutex
	events []smmuv3.Event
	count  int // of all events
}

// maxEvents limits the log. No test waits for that many events.
const maxEvents = 1 << 16

func (l *eventLog) add(e smmuv3.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if len(l.events) < maxEvents {
		l.events = append(l.events, e)
	}
}

// total returns the number of events so far.
func (l *eventLog) total() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// clear drops the events.
func (l *eventLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = nil
}

// take removes the first event of a type, and all before it.
func (l *eventLog) take(t smmuv3.EventType) (smmuv3.Event, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, e := range l.events {
		if e.Type() == t {
			l.events = l.events[i+1:]
			return e, true
		}
	}
	return smmuv3.Event{}, false
}

// patience is the time that the suite waits for an expected event.
const patience = 2 * time.Minute

// wait waits for an event of a type and drops those before it. Hosts may merge repeated events and
// report them late.
func (l *eventLog) wait(r *rig, t smmuv3.EventType) (found smmuv3.Event) {
	r.Helper()
	require.Eventually(r, func() (ok bool) {
		found, ok = l.take(t)
		return ok
	}, patience, time.Millisecond, "the host reports %v", t)
	return found
}

// event waits until the rig's own sink receives an event of a type.
func (r *rig) event(t smmuv3.EventType) smmuv3.Event {
	r.Helper()
	return r.log.wait(r, t)
}

// sid is the StreamID of the stream in most tests. The value differs from the indices that hosts
// use internally.
const sid smmuv3.StreamID = 0x1234

// newRAM returns an allocator over the suite's memory, with nothing allocated.
func (r *rig) newRAM() *vsmmutest.RAM {
	return vsmmutest.NewRAM(r.Memory, guestmem.Range{GPA: r.Rig.RAM, Len: RAMSize})
}

// guest returns a guest that allocates from the start of memory, with the host's smallest granule.
func (r *rig) guest() *guest {
	r.Helper()
	for _, g := range granules {
		if r.ids.HasGranule(g) {
			return &guest{rig: r, ram: r.newRAM(), granule: g}
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

// fails asserts that an error matches target and is a cause only: the device that calls the host
// adds the package, the operation and the StreamID.
func (r *rig) fails(err, target error, msg ...any) {
	r.Helper()
	if !assert.ErrorIs(r, err, target, msg...) {
		return
	}
	text := err.Error()
	assert.NotContains(r, text, sid.String(), "the cause names the StreamID")
	host, _, _ := strings.Cut(strings.TrimLeft(fmt.Sprintf("%T", r.Host), "*"), ".")
	for _, prefix := range []string{host, "attach", "bind", "close", "invalidate", "events", "respond", "resume"} {
		for _, end := range []string{": ", " "} {
			assert.False(r, strings.HasPrefix(text, prefix+end), "the cause begins with %q: %s", prefix, text)
		}
	}
}

// dma performs DMA by an endpoint.
type dma func(write bool, iova uint64, p []byte) error

func (r *rig) device(i int) dma {
	return func(write bool, iova uint64, p []byte) error { return r.DMA(r.Endpoints[i], write, iova, p) }
}

// reaches reports whether DMA at iova reads and writes guest memory at gpa. It fails if only the
// read or only the write reaches the memory.
func (r *rig) reaches(d dma, iova uint64, gpa guestmem.GPA) bool {
	r.Helper()
	read, wrote := r.reads(d, iova, gpa), r.writes(d, iova, gpa)
	require.Equal(r, read, wrote, "DMA at %#x reads from %v, writes to it", iova, gpa)
	return read
}

// probe is the number of bytes that the suite moves at a time.
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
		assert.False(r, arrived, "DMA reached memory although the device detected an abort")
	}
	return arrived
}
