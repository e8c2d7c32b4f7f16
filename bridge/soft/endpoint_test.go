package soft_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestDMAIsTranslatedPageByPage(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW)
	r.bind(oneCD)

	p := make([]byte, 0x1000)
	for i := range p {
		p[i] = byte(i * 7)
	}
	require.NoError(t, r.ep.WriteAt(p, 0x800))
	got := make([]byte, 0x800)
	require.NoError(t, r.mem.ReadAt(got, 0x5000_0800))
	assert.Equal(t, p[:0x800], got)
	require.NoError(t, r.mem.ReadAt(got, 0x6000_0000))
	assert.Equal(t, p[0x800:], got)

	back := make([]byte, 0x1000)
	require.NoError(t, r.ep.ReadAt(back, 0x800))
	assert.Equal(t, p, back)
	assert.Empty(t, r.taken())
}

func TestFaultHoldsTheBytesDone(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW, 0)
	r.bind(oneCD)

	var f *soft.Fault
	err := r.ep.WriteAt(make([]byte, 0x3000), 0xff0)
	require.ErrorAs(t, err, &f)
	assert.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, &soft.Fault{
		Op: "write", StreamID: sid, IOVA: 0x2000, Done: 0x1010, Recorded: true, Err: soft.ErrFault,
		Event: smmuv3.Event{0x42_00000010, 0x200_0000_0000, 0x2000, 0},
	}, f)
	assert.Equal(t, []smmuv3.Event{f.Event}, r.taken())
	assert.Contains(t, err.Error(), "write at 0x2000, stream 0x42, after 4112 bytes")
}

// Without a sink nothing could resume a stalled transaction, so none stalls.
func TestNothingStallsWithoutASink(t *testing.T) {
	for _, cd0 := range []uint64{cd4K, cdStalls} {
		r := newRig(t, soft.Config{IDs: stalling(8)})
		r.host.Events(nil)
		r.ep.AllowStalls(t.Context())
		r.map4K(cd0, 0)
		r.bind(oneCD)
		_, err := word(r.ep, 0)
		assert.ErrorIs(t, err, soft.ErrFault)
	}
}

func TestAttachAcceptsEndpointsOnly(t *testing.T) {
	r := newRig(t, soft.Config{})
	for _, ep := range []bridge.Endpoint{nil, "disk", (*soft.Endpoint)(nil)} {
		_, err := r.host.Attach(sid+1, ep)
		assert.ErrorIs(t, err, bridge.ErrEndpoint, "%T", ep)
	}
}

func TestDMAWithoutMemoryIsNotAFaultOfTheSMMU(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.mem.FailReads(guestmem.Range{GPA: 0x5000_0000, Len: 0x1000}, nil)
	r.bind(oneCD)

	err := r.ep.ReadAt(make([]byte, 8), 8)
	assert.ErrorIs(t, err, guestmem.ErrUnmapped)
	assert.NotErrorIs(t, err, soft.ErrFault)
	assert.Empty(t, r.taken())
}

func TestDMAOfAnUnattachedEndpointFails(t *testing.T) {
	ep := soft.NewEndpoint()
	assert.ErrorIs(t, ep.ReadAt(make([]byte, 1), 0), bridge.ErrClosed)

	r := newRig(t, soft.Config{})
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	require.NoError(t, r.ep.WriteAt([]byte{1}, 0))
	require.NoError(t, r.stream.Close())
	assert.ErrorIs(t, r.ep.WriteAt([]byte{1}, 0), bridge.ErrClosed)
	assert.ErrorIs(t, r.stream.Close(), bridge.ErrClosed, "a second Close")
	assert.Empty(t, r.taken())
}
