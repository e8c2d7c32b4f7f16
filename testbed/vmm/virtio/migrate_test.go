package virtio

import (
	"encoding/binary"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// counter is a Storage each of whose reads returns a greater number, at the start of each sector.
type counter struct{ n atomic.Uint64 }

func (c *counter) ReadAt(p []byte, _ int64) (int, error) {
	n := binary.LittleEndian.AppendUint64(nil, c.n.Add(1))
	for at := 0; at < len(p); at += sectorSize {
		guestmem.Store(p[at:], n) // the migration reads it meanwhile
	}
	return len(p), nil
}

func (c *counter) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (c *counter) Sync() error                            { return nil }

// A live migration (guestmem.Tracked) copies memory in rounds while disks serve requests. After a
// round the copy has the data and the status of each request that was served before it.
func TestMigrationWhileRequestsRun(t *testing.T) {
	const disks, rounds, room, length = 3, 200, 0x8000, 0x5000
	ram := make([]byte, memSize)
	slots := new(guestmem.Slots)
	require.NoError(t, slots.Add(guestmem.Slot{Mem: ram}))
	memory, err := guestmem.NewTracked(slots)
	require.NoError(t, err)
	host, err := soft.New(soft.Config{Memory: memory})
	require.NoError(t, err)
	defer host.Close()
	endpoint := soft.NewEndpoint()
	stream, err := host.Attach(1, endpoint)
	require.NoError(t, err)
	require.NoError(t, stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass}))

	over := make(chan struct{})
	var all sync.WaitGroup
	var served [disks]atomic.Uint64 // the number that the last request read
	for i := range disks {
		at := uint64(dataAt + i*room)
		require.NoError(t, endpoint.WriteAt(header(0, 0), at))
		storage := new(counter)
		block, err := NewBlock(storage, diskSize, "")
		require.NoError(t, err)
		request := Request{endpoint, Segments{{at, 16}}, Segments{{at + 0x1000, length}, {at + 0x1000 + length, 1}}}
		all.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if _, err := block.Serve(request); !assert.NoError(t, err) {
					return
				}
				served[i].Store(storage.n.Load())
				runtime.Gosched()
			}
		})
	}

	moved := make([]byte, memSize)
	take := func(r guestmem.Range) {
		require.NoError(t, memory.ReadAt(moved[r.GPA:][:r.Len], r.GPA))
	}
	round := func(account func() *guestmem.Account) {
		var before [disks]uint64
		for i := range before {
			before[i] = served[i].Load()
		}
		for r := range account().Ranges() {
			take(r)
		}
		for i, n := range before {
			data := moved[dataAt+i*room+0x1000:][:length]
			for at := 0; at < length; at += sectorSize {
				require.GreaterOrEqual(t, binary.LittleEndian.Uint64(data[at:]), n, "disk %d, byte %#x", i, at)
			}
		}
	}
	memory.NewAccount()
	take(guestmem.Range{Len: memSize})
	for range rounds {
		round(memory.NewAccount)
		runtime.Gosched()
	}
	close(over)
	all.Wait()
	round(memory.Stop)
	assert.Equal(t, ram, moved)
	for i := range served {
		assert.Positive(t, served[i].Load(), "disk %d", i)
	}
}
