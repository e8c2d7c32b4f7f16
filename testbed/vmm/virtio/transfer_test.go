package virtio

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

func TestTransferMapsAndElseCopies(t *testing.T) {
	type access = []string
	for _, tt := range []struct {
		name    string
		refusal error
		write   bool
		want    access
		is      error
	}{
		{"mapped for writing", nil, true, access{"map 512 at 0x8000, write: true", "map 100 at 0xa001, write: true"}, nil},
		{"mapped for reading", nil, false, access{"map 512 at 0x8000, write: false", "map 100 at 0xa001, write: false"}, nil},
		{"copied, as the DMA cannot map", errors.ErrUnsupported, true, access{
			"map 512 at 0x8000, write: true", "write 512 at 0x8000", "map 100 at 0xa001, write: true", "write 100 at 0xa001"}, nil},
		{"copied, as there is no memory to map", guestmem.ErrUnmapped, false, access{
			"map 512 at 0x8000, write: false", "read 512 at 0x8000", "map 100 at 0xa001, write: false", "read 100 at 0xa001"}, nil},
		{"not copied after a fault", soft.ErrFault, true, access{"map 512 at 0x8000, write: true"}, soft.ErrFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMapper(t, newMemory())
			m.refusal = tt.refusal
			used := 0
			err := newStream(m, Segments{{0x8000, 512}, {0x9000, 0}, {0xa001, 200}}, 0).transfer(612, tt.write, func(mem []byte) error {
				used += len(mem)
				return nil
			})
			assert.ErrorIs(t, err, tt.is)
			assert.Equal(t, tt.want, m.log)
			if tt.is == nil {
				assert.Equal(t, 612, used)
			}
		})
	}
}

func TestTransferIsInPiecesOf64KiB(t *testing.T) {
	onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
		var pieces []int
		s := newStream(dma(newMemory()), Segments{{0x8000, 0x2_1000}}, 0)
		require.NoError(t, s.transfer(0x2_1000, false, func(mem []byte) error {
			pieces = append(pieces, len(mem))
			return nil
		}))
		assert.Equal(t, []int{0x1_0000, 0x1_0000, 0x1000}, pieces)
	})
}

func TestTransferBeyondTheSegmentsFails(t *testing.T) {
	onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
		s := newStream(dma(newMemory()), Segments{{0x8000, 8}}, 4)
		assert.Error(t, s.transfer(5, true, func([]byte) error { return nil }))
	})
}

// An invalidation waits for one access to the storage, not for the request.
func TestInvalidationWaitsForOnePiece(t *testing.T) {
	m := newMapper(t, newMemory())
	m.put(dataAt, header(0, 0))
	m.put(statusAt, []byte{0xff})
	d, bound := newDisk(), make(chan error, 1)
	calls := 0
	d.before = func() {
		calls++
		go func() { bound <- m.stream.Bind(bridge.GuestStage{}) }() // to abort
		for m.endpoint.ReadAt(make([]byte, 1), 0) == nil {
			// until new DMA fails
		}
		assert.Empty(t, bound, "the storage writes to the mapping")
	}
	written, err := newTestBlock(t, d).Serve(Request{m, Segments{{dataAt, 16}}, Segments{{0x8000, 0x2_0000}, status}})
	require.NoError(t, err)
	require.NoError(t, <-bound)
	assert.Equal(t, 1, calls)
	assert.Zero(t, written)
	assert.Equal(t, []byte{1}, m.get(statusAt, 1), "VIRTIO_BLK_S_IOERR")
	assert.Equal(t, d.bytes[:0x1_0000], m.get(0x8000, 0x1_0000), "the first piece")
	assert.Equal(t, make([]byte, 0x1_0000), m.get(0x1_8000, 0x1_0000), "not the second")
}
