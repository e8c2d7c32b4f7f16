//go:build linux && (amd64 || arm64)

package iommufd

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// These tests bound the objects, memory, goroutines and requests that a guest, the kernel or a
// device can cause.

// If a guest changes an STE repeatedly, its stream has one table at a time.
func TestBounded_tables_of_changing_STEs(t *testing.T) {
	k := newFake(t)
	h, _, s := attached(t, k)
	require.NoError(t, s.Bind(translate(0x1000)))
	objects := k.objectCount()
	for i := range 1000 {
		require.NoError(t, s.Bind(translate(guestmem.GPA(i+2)<<12)))
		require.Equal(t, objects, k.objectCount())
		require.Equal(t, objects, h.Stats().Objects)
	}
	require.NoError(t, s.Bind(abort))
	assert.Equal(t, objects-1, k.objectCount())
}

// A stage leaves no objects if the host rejects it, or if the kernel fails to allocate or attach
// it.
func TestBounded_rejected_stages(t *testing.T) {
	k := newFake(t)
	h, _, s := attached(t, k)
	objects := k.objectCount()
	for i := range 300 {
		switch i % 3 {
		case 0:
			require.ErrorIs(t, s.Bind(translate(1<<56)), bridge.ErrRejected)
		case 1:
			k.fail("hwpt", 1, unix.EIO)
			require.ErrorIs(t, s.Bind(translate(0x1000)), bridge.ErrRejected)
		case 2:
			k.fail("attach", 1, unix.EINVAL)
			require.ErrorIs(t, s.Bind(translate(0x1000)), bridge.ErrRejected)
		}
		require.Equal(t, objects, k.objectCount())
		require.Equal(t, objects, h.Stats().Objects)
	}
}

// If the kernel destroys nothing, a stream that changes to bypass or abort leaves one more table. A
// stream that translates again leaves none.
func TestBounded_leftovers_of_many_streams(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	var streams []bridge.Stream
	for i, path := range []string{dev0, dev1} {
		d, err := h.Add(path)
		require.NoError(t, err)
		s, err := h.Attach(smmuv3.StreamID(i), d)
		require.NoError(t, err)
		streams = append(streams, s)
	}
	objects := k.objectCount()
	k.fail("destroy", 0, unix.EBUSY)
	for i := range 200 {
		for _, s := range streams {
			_ = s.Bind(translate(guestmem.GPA(i+1) << 12))
			require.NoError(t, s.Bind([]bridge.GuestStage{abort, bypass}[i%2]), "a stream that bypasses or aborts needs no table of its own")
		}
	}
	assert.LessOrEqual(t, k.objectCount(), objects+maxLeftovers+len(streams))
	assert.Equal(t, k.objectCount(), h.Stats().Objects)
	k.fail("", 0, nil)
	require.NoError(t, streams[0].Bind(translate(0x1000)))
	assert.Equal(t, objects+1, k.objectCount(), "all of them are destroyed")
}

// A stream that is attached and closed repeatedly leaves no objects, and starts one reader of
// events.
func TestBounded_attach_and_claim(t *testing.T) {
	k := newFake(t)
	h, d, s := attached(t, k)
	reader := h.events
	for i := range 200 {
		require.NoError(t, s.Close())
		require.NoError(t, h.Events(nil))
		require.NoError(t, h.Events(func(smmuv3.Event) {}))
		require.NoError(t, h.SetGuestIDs(h.nest.ids))
		var err error
		s, err = h.Attach(smmuv3.StreamID(i), d)
		require.NoError(t, err)
	}
	assert.Same(t, reader, h.events)
	assert.Len(t, h.streams, 1)
	assert.Equal(t, 8, k.objectCount(), "IOAS, parent, vIOMMU, two tables, vEVENTQ, device, vDEVICE")
}

// A device that is added and closed repeatedly leaves no objects.
func TestBounded_devices(t *testing.T) {
	k := newFake(t)
	h := openFake(t, k, Config{})
	_, err := h.Add(dev0)
	require.NoError(t, err)
	objects := k.objectCount()
	for range 100 {
		d, err := h.Add(dev1)
		require.NoError(t, err)
		require.NoError(t, d.Close())
		require.Equal(t, objects, k.objectCount())
	}
	assert.Len(t, h.devices, 1)
	assert.Len(t, k.fds, 2, "/dev/iommu and the device")
}

// A batch costs at most one request for each command, or two under the erratum, and no memory.
func TestBounded_requests_of_a_batch(t *testing.T) {
	alternating := batchOf(strings.Repeat("TA", 512))
	for flags, most := range map[uint32]int{0: 1024, uapi.HWInfoErrataRepeatTLBICFGI: 1536} {
		k := newFake(t)
		k.smmus[dev0].Flags = flags
		h, _ := atsHost(t, k)
		k.commands = nil
		require.NoError(t, h.Invalidate(alternating))
		assert.Len(t, k.commands, most)
	}
	h := &Host{nest: &nest{ids: *wide(), commands: newCommandSet(wide())}, translating: 1, streams: map[smmuv3.StreamID]*stream{}}
	h.streams[0x100] = &stream{host: h, dev: &Device{}, own: 1, ste: vSTE{0, 1 << 28}}
	h.k.sys = nothing{}
	assert.Zero(t, testing.AllocsPerRun(10, func() { _ = h.Invalidate(alternating) }))
}

// A device that faults without end costs no memory and does not delay the vCPU. One call delivers
// at most as many faults as the kernel's queue holds.
func TestBounded_faults(t *testing.T) {
	var delivered int
	r := &eventReader{queue: wildQueue{}, counts: new(counters), claim: &claim{sink: func(smmuv3.Event) { delivered++ }}}
	require.NoError(t, r.drain())
	assert.Equal(t, eventDepth, delivered)
	once := testing.AllocsPerRun(10, func() { _, _ = wildQueue{}.Read(r.buf[:]) })
	assert.LessOrEqual(t, testing.AllocsPerRun(10, func() { _ = r.drain() }), once*eventDepth/readRecords)
}

// Decoding any content of the kernel's queue ends, and reports at most one event for each record.
func TestBounded_decoding(t *testing.T) {
	for _, p := range [][]byte{
		slices.Repeat([]byte{0xff}, 64*40),
		slices.Repeat(record(1, 0x7fff_ffff), 100),
		make([]byte, 64*40+7),
	} {
		var d decoder
		n := 0
		d.decode(p, func(smmuv3.Event) { n++ })
		assert.LessOrEqual(t, n, len(p)/recordSize)
	}
}
