package virtio

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Storage holds the data of a block device, as an *os.File does. Its buffers may be guest memory,
// which the guest may change at the same time.
type Storage interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}

// Block is the model of a block device (virtio 1.2 §5.2).
type Block struct {
	storage Storage
	sectors uint64
	serial  [serialSize]byte
	config  [configSize]byte
	stats   blockStats
}

// BlockStats are the counts of a Block's requests.
type BlockStats struct {
	Read    uint64 `json:"read"`    // bytes from the storage to the driver
	Written uint64 `json:"written"` // bytes from the driver to the storage
	Flushes uint64 `json:"flushes"`
	Failed  uint64 `json:"failed"` // requests answered with an error
}

type blockStats struct{ read, written, flushes, failed atomic.Uint64 }

const (
	sectorSize = 512
	serialSize = 20
	configSize = 60
	headerSize = 16

	// The driver limits a request to segMax segments of sizeMax bytes. It maps and unmaps each
	// segment at the SMMU, so that few large ones are better. Two requests of segMax segments, with
	// a header and a status each, fill a queue.
	sizeMax     = 2 << 20
	segMax      = queueMax/2 - 2
	maxTransfer = segMax * sizeMax

	blockDeviceID = 2

	featureSizeMax = 1 << 1
	featureSegMax  = 1 << 2
	featureFlush   = 1 << 9
)

// Request types.
const (
	typeIn    = 0
	typeOut   = 1
	typeFlush = 4
	typeGetID = 8
)

// Status, the last byte of a request.
const (
	statusOK          = 0
	statusIOError     = 1
	statusUnsupported = 2
)

// NewBlock returns a block device of size bytes, a multiple of 512, with a serial number of at most
// 20 bytes.
func NewBlock(storage Storage, size int64, serial string) (*Block, error) {
	if size <= 0 || size%sectorSize != 0 {
		return nil, fmt.Errorf(
			"virtio: new block device of %d bytes: size is not a positive multiple of %d",
			size,
			sectorSize,
		)
	}
	if len(serial) > serialSize {
		return nil, fmt.Errorf("virtio: new block device: serial number %q is longer than %d bytes", serial, serialSize)
	}
	b := &Block{storage: storage, sectors: uint64(size) / sectorSize}
	copy(b.serial[:], serial)
	binary.LittleEndian.PutUint64(b.config[0:], b.sectors)
	binary.LittleEndian.PutUint32(b.config[8:], sizeMax)
	binary.LittleEndian.PutUint32(b.config[12:], segMax)
	return b, nil
}

// DeviceID returns 2, the ID of block devices.
func (b *Block) DeviceID() uint32 { return blockDeviceID }

// Features returns VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_SEG_MAX and VIRTIO_BLK_F_FLUSH.
func (b *Block) Features() uint64 { return featureSizeMax | featureSegMax | featureFlush }

// Config returns the struct virtio_blk_config.
func (b *Block) Config() []byte { return b.config[:] }

// Stats returns the counts so far. It may be called from any goroutine.
func (b *Block) Stats() BlockStats {
	return BlockStats{b.stats.read.Load(), b.stats.written.Load(), b.stats.flushes.Load(), b.stats.failed.Load()}
}

// Serve executes a request: a header, data in one direction or the other, and a status byte.
func (b *Block) Serve(req Request) (written uint32, err error) {
	room := req.Writable.Size()
	if room == 0 {
		return 0, fmt.Errorf("%w: block request without a status byte", errRing)
	}
	data := room - 1
	status, filled := b.execute(req, data)
	if status != statusOK {
		b.stats.failed.Add(1)
	}
	if _, err := newStream(req.DMA, req.Writable, data).Write([]byte{status}); err != nil {
		return 0, fmt.Errorf("write the status of a block request: %w", err)
	}
	// Only bytes written from the first on without a gap count (§2.7.8), the status among them.
	if filled == data {
		filled++
	}
	return uint32(filled), nil
}

// execute executes the request up to its status. filled is the number of bytes that it wrote to the
// room for data, from the start without a gap.
func (b *Block) execute(req Request, room uint64) (status byte, filled uint64) {
	var header [headerSize]byte
	out, in := newStream(req.DMA, req.Readable, 0), newStream(req.DMA, req.Writable, 0)
	if _, err := out.Read(header[:]); err != nil {
		return statusIOError, 0
	}
	sector := binary.LittleEndian.Uint64(header[8:])
	var err error
	switch binary.LittleEndian.Uint32(header[0:]) {
	case typeIn:
		filled = room
		err = b.read(in, sector, room)
	case typeOut:
		err = b.write(out, sector, req.Readable.Size()-headerSize)
	case typeFlush:
		err = b.flush()
	case typeGetID:
		filled = min(room, serialSize)
		_, err = in.Write(b.serial[:filled])
	default:
		return statusUnsupported, 0
	}
	if err != nil {
		return statusIOError, 0
	}
	return statusOK, filled
}

func (b *Block) read(to *stream, sector, n uint64) error {
	if !b.holds(sector, n) {
		return errTransfer
	}
	at := int64(sector * sectorSize)
	err := to.transfer(n, true, func(mem []byte) error {
		got, err := b.storage.ReadAt(mem, at)
		at += int64(got)
		if got < len(mem) {
			return cmp.Or(err, io.ErrUnexpectedEOF)
		}
		return nil // io.EOF may come with the last byte
	})
	if err != nil {
		return err
	}
	b.stats.read.Add(n)
	return nil
}

func (b *Block) write(from *stream, sector, n uint64) error {
	if !b.holds(sector, n) {
		return errTransfer
	}
	to := io.NewOffsetWriter(b.storage, int64(sector*sectorSize))
	err := from.transfer(n, false, func(mem []byte) error {
		_, err := to.Write(mem)
		return err
	})
	if err != nil {
		return err
	}
	b.stats.written.Add(n)
	return nil
}

func (b *Block) flush() error {
	if err := b.storage.Sync(); err != nil {
		return err
	}
	b.stats.flushes.Add(1)
	return nil
}

var errTransfer = errors.New("transfer is not of whole sectors, too large, or outside the device")

// holds reports whether n bytes at sector are a legal transfer.
func (b *Block) holds(sector, n uint64) bool {
	return n%sectorSize == 0 && n <= maxTransfer && sector <= b.sectors && n/sectorSize <= b.sectors-sector
}
