package virtio

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// FuzzBlockOverHostileMemory checks that a block device does not panic or loop, reports no greater
// length than the request has, and gives the same result whether it maps data or copies it. The
// input is the driver's memory from descAt on, where rings and data lie close together.
func FuzzBlockOverHostileMemory(f *testing.F) {
	const size, availOff, usedOff, window = 4, 64, 80, 0x400
	good := newMemory()
	good.put(descAt+0x100, header(0, 1))
	good.chain(desc{addr: descAt + 0x100, len: 16}, desc{addr: descAt + 0x200, len: 512, flags: 2}, desc{addr: descAt + 0x110, len: 1, flags: 2})
	good.put16(descAt+availOff+2, 1)
	f.Add(good.get(descAt, window))
	good.putDesc(2, desc{addr: descAt, len: 1, flags: 3, next: 0}) // a loop; the status byte is in the table
	f.Add(good.get(descAt, window))
	good.put16(descAt+availOff+2, 0xffff) // more requests than descriptors
	f.Add(good.get(descAt, window))

	serve := func(t *testing.T, dma DMA) *disk {
		d := newDisk()
		r, err := newRing(dma, size, descAt, descAt+availOff, descAt+usedOff)
		require.NoError(t, err)
		block, err := NewBlock(d, diskSize, "")
		require.NoError(t, err)
		// Requests may overwrite their ring, so that it never runs empty.
		for range 64 {
			req, ok, err := r.pop()
			if err != nil || !ok {
				break
			}
			written, err := block.Serve(req)
			if err != nil {
				break
			}
			assert.LessOrEqual(t, uint64(written), req.Writable.Size())
			if _, err := r.push(written); err != nil {
				break
			}
		}
		return d
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var memories []*memory
		var disks []*disk
		for _, path := range paths {
			m := newMemory()
			m.put(descAt, data[:min(len(data), window)])
			memories = append(memories, m)
			disks = append(disks, serve(t, path.dma(t, m)))
		}
		for i, path := range paths[1:] {
			assert.True(t, memories[0].bytes == memories[i+1].bytes, "memory, %s", path.name)
			assert.Equal(t, disks[0].bytes, disks[i+1].bytes, "disk, %s", path.name)
		}
	})
}
