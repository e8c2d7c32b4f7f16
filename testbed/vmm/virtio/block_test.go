package virtio

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/refs"
)

func TestMain(m *testing.M) {
	refs.SetLeakMode(refs.LeaksPanic)
	m.Run()
	refs.DoLeakCheck()
}

// disk is a Storage in memory, whose calls fail with err if that is not nil.
type disk struct {
	bytes  []byte
	err    error
	before func() // called at the start of each ReadAt, unless nil
	syncs  int
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.before != nil {
		d.before()
	}
	if d.err != nil {
		return 0, d.err
	}
	return bytes.NewReader(d.bytes).ReadAt(p, off)
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	if off+int64(len(p)) > int64(len(d.bytes)) {
		return 0, io.ErrShortWrite
	}
	return copy(d.bytes[off:], p), nil
}

func (d *disk) Sync() error {
	d.syncs++
	return d.err
}

const diskSize = 128 << 10

func newDisk() *disk {
	d := &disk{bytes: make([]byte, diskSize)}
	for i := range d.bytes {
		d.bytes[i] = byte(i ^ i>>8)
	}
	return d
}

func newTestBlock(t *testing.T, d *disk) *Block {
	t.Helper()
	b, err := NewBlock(d, diskSize, "serial-number-of-20b")
	require.NoError(t, err)
	return b
}

// header returns the first 16 bytes of a struct virtio_blk_req.
func header(typ uint32, sector uint64) []byte {
	h := make([]byte, 16)
	binary.LittleEndian.PutUint32(h, typ)
	binary.LittleEndian.PutUint64(h[8:], sector)
	return h
}

func TestBlockConfigurationSpace_5_2_4(t *testing.T) {
	b := newTestBlock(t, newDisk())
	// capacity, size_max, seg_max
	assert.Equal(t, []byte{0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 126, 0, 0, 0}, b.Config()[:16])
	assert.EqualValues(t, 2, b.DeviceID())
	assert.EqualValues(t, 1<<1|1<<2|1<<9, b.Features(), "SIZE_MAX, SEG_MAX, FLUSH")
}

func TestNewBlockRefusesBadSizesAndSerialNumbers(t *testing.T) {
	for _, size := range []int64{0, -512, 511, 513} {
		_, err := NewBlock(newDisk(), size, "")
		assert.Error(t, err)
	}
	_, err := NewBlock(newDisk(), 512, "twenty-one characters")
	assert.Error(t, err)
}

const statusAt = 0x3_0000

// status is the segment of a request's status byte.
var status = Segment{statusAt, 1}

func TestBlockRequestStatusAndLength(t *testing.T) {
	const in, out, flush, getID = 0, 1, 4, 8
	h := Segment{dataAt, 16}
	for _, tt := range []struct {
		name     string
		header   []byte
		readable Segments
		writable Segments
		status   byte
		written  uint32
		stats    BlockStats
	}{
		{"read a sector", header(in, 3), Segments{h}, Segments{{0x8000, 512}, status}, 0, 513, BlockStats{Read: 512}},
		{"read into odd segments", header(in, 3), Segments{h}, Segments{{0x8001, 511}, {0x9000, 0}, {0xa003, 513}, status}, 0, 1025, BlockStats{Read: 1024}},
		{"read with the status in the last segment", header(in, 0), Segments{h}, Segments{{statusAt - 512, 513}}, 0, 513, BlockStats{Read: 512}},
		{"read the last sector", header(in, 255), Segments{h}, Segments{{0x8000, 512}, status}, 0, 513, BlockStats{Read: 512}},
		{"read more than a piece", header(in, 0), Segments{h}, Segments{{0x8000, 0x10000}, {0x18000, 0x10000}, status}, 0, 0x20001, BlockStats{Read: 0x20000}},
		{"read nothing", header(in, 0), Segments{h}, Segments{status}, 0, 1, BlockStats{}},
		{"read past the end", header(in, 255), Segments{h}, Segments{{0x8000, 1024}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read far past the end", header(in, ^uint64(0)), Segments{h}, Segments{{0x8000, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read where sector*512 wraps", header(in, 1<<55), Segments{h}, Segments{{0x8000, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read half a sector", header(in, 0), Segments{h}, Segments{{0x8000, 511}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read more than the limit", header(in, 0), Segments{h}, Segments{{0x8000, 0xffff_fe00}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read into unmapped memory", header(in, 0), Segments{h}, Segments{{memSize, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"read into memory that is unmapped in part", header(in, 0), Segments{h}, Segments{{0x8000, 512}, {memSize - 1, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"header in three segments", header(in, 3), Segments{{dataAt, 1}, {dataAt + 1, 14}, {dataAt + 15, 1}}, Segments{{0x8000, 512}, status}, 0, 513, BlockStats{Read: 512}},
		{"header too short", header(in, 3), Segments{{dataAt, 15}}, Segments{{0x8000, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"no header", header(in, 3), nil, Segments{{0x8000, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"header unmapped", header(in, 3), Segments{{memSize, 16}}, Segments{{0x8000, 512}, status}, 1, 0, BlockStats{Failed: 1}},
		{"write a sector", header(out, 3), Segments{h, {0x8000, 512}}, Segments{status}, 0, 1, BlockStats{Written: 512}},
		{"write of data in the segment of the header", header(out, 3), Segments{{dataAt, 16 + 512}}, Segments{status}, 0, 1, BlockStats{Written: 512}},
		{"write past the end", header(out, 256), Segments{h, {0x8000, 512}}, Segments{status}, 1, 1, BlockStats{Failed: 1}},
		{"write of a sector and a byte", header(out, 0), Segments{h, {0x8000, 513}}, Segments{status}, 1, 1, BlockStats{Failed: 1}},
		{"write from unmapped memory", header(out, 0), Segments{h, {memSize - 511, 512}}, Segments{status}, 1, 1, BlockStats{Failed: 1}},
		{"flush", header(flush, 0), Segments{h}, Segments{status}, 0, 1, BlockStats{Flushes: 1}},
		{"serial number", header(getID, 0), Segments{h}, Segments{{0x8000, 20}, status}, 0, 21, BlockStats{}},
		{"serial number, truncated", header(getID, 0), Segments{h}, Segments{{0x8000, 5}, status}, 0, 6, BlockStats{}},
		{"serial number, more room", header(getID, 0), Segments{h}, Segments{{0x8000, 50}, status}, 0, 20, BlockStats{}},
		{"discard, which is not offered", header(11, 0), Segments{h}, Segments{status}, 2, 1, BlockStats{Failed: 1}},
		{"unknown type", header(0xffff_ffff, 0), Segments{h}, Segments{status}, 2, 1, BlockStats{Failed: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
				m := newMemory()
				m.put(dataAt, tt.header)
				m.put(statusAt, []byte{0xff})
				b := newTestBlock(t, newDisk())
				written, err := b.Serve(Request{dma(m), tt.readable, tt.writable})
				require.NoError(t, err)
				assert.Equal(t, []byte{tt.status}, m.get(statusAt, 1))
				assert.Equal(t, tt.written, written)
				assert.Equal(t, tt.stats, b.Stats())
			})
		})
	}
}

func TestBlockMovesTheBytesOfTheRequestAndNoOthers(t *testing.T) {
	onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
		m, d := newMemory(), newDisk()
		via := dma(m)
		b := newTestBlock(t, d)
		plain := bytes.Clone(d.bytes)

		m.put(dataAt, header(0, 2))
		_, err := b.Serve(Request{via, Segments{{dataAt, 16}}, Segments{{0x8001, 700}, {0xa000, 324}, status}})
		require.NoError(t, err)
		assert.Equal(t, plain[1024:2048], append(m.get(0x8001, 700), m.get(0xa000, 324)...))
		assert.Equal(t, []byte{0}, m.get(0x8000, 1), "the byte before")
		assert.Equal(t, []byte{0}, m.get(0xa000+324, 1), "the byte after")

		data := bytes.Repeat([]byte("written!"), 128)
		m.put(0x8003, data[:100])
		m.put(0x9005, data[100:])
		m.put(dataAt, header(1, 9))
		_, err = b.Serve(Request{via, Segments{{dataAt, 16}, {0x8003, 100}, {0x9005, 924}}, Segments{status}})
		require.NoError(t, err)
		copy(plain[9*512:], data)
		assert.Equal(t, plain, d.bytes)

		m.put(dataAt, header(8, 0))
		_, err = b.Serve(Request{via, Segments{{dataAt, 16}}, Segments{{0x8000, 20}, status}})
		require.NoError(t, err)
		assert.Equal(t, "serial-number-of-20b", string(m.get(0x8000, 20)))
	})
}

func TestFailedStorageIsVIRTIO_BLK_S_IOERR(t *testing.T) {
	for _, tt := range []struct {
		name   string
		break_ func(d *disk)
		typ    uint32
	}{
		{"read", func(d *disk) { d.err = errors.New("EIO") }, 0},
		{"read of a file that became shorter", func(d *disk) { d.bytes = d.bytes[:700] }, 0},
		{"write", func(d *disk) { d.err = errors.New("ENOSPC") }, 1},
		{"write of a file that became shorter", func(d *disk) { d.bytes = d.bytes[:700] }, 1},
		{"flush", func(d *disk) { d.err = errors.New("EIO") }, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
				m, d := newMemory(), newDisk()
				via := dma(m)
				tt.break_(d)
				m.put(dataAt, header(tt.typ, 1))
				req := Request{via, Segments{{dataAt, 16}, {0x8000, 512}}, Segments{status}}
				if tt.typ == 0 {
					req = Request{via, Segments{{dataAt, 16}}, Segments{{0x8000, 512}, status}}
				}
				_, err := newTestBlock(t, d).Serve(req)
				require.NoError(t, err)
				assert.Equal(t, []byte{1}, m.get(statusAt, 1), "VIRTIO_BLK_S_IOERR")
			})
		})
	}
}

func TestBlockRequestWithoutAStatusByteStopsTheDevice(t *testing.T) {
	m := newMemory()
	m.put(dataAt, header(0, 0))
	b := newTestBlock(t, newDisk())
	_, err := b.Serve(Request{m, Segments{{dataAt, 16}}, nil})
	assert.ErrorIs(t, err, errRing)
	_, err = b.Serve(Request{m, Segments{{dataAt, 16}}, Segments{{0x8000, 0}}})
	assert.ErrorIs(t, err, errRing)
	_, err = b.Serve(Request{m, Segments{{dataAt, 16}}, Segments{{0x8000, 512}, {memSize, 1}}})
	assert.ErrorIs(t, err, errFault)
}

func TestBlockRequestThroughRegistersAndRing(t *testing.T) {
	onEachPath(t, func(t *testing.T, dma func(m *memory) DMA) {
		store := newDisk()
		d := newDriverOver(t, newTestBlock(t, store), dma)
		d.start(16)
		d.mem.put(dataAt, header(0, 1))
		d.mem.chain(desc{addr: dataAt, len: 16}, desc{addr: 0x8000, len: 512, flags: 2}, desc{addr: statusAt, len: 1, flags: 2})
		d.mem.offer(0, 16, 0)
		d.store(0x50, 0)
		assert.EqualValues(t, 1, d.waitIRQ())
		assert.Equal(t, store.bytes[512:1024], d.mem.get(0x8000, 512))
		assert.EqualValues(t, 513, d.mem.get32(usedAt+8))
	})
}
