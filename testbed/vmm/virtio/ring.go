package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// Sizes and flags of a split virtqueue (virtio 1.2 §2.7).
const (
	descSize     = 16
	usedElemSize = 8
	ringHeader   = 4 // flags and idx of either ring

	descNext     = 1 << 0
	descWrite    = 1 << 1
	descIndirect = 1 << 2

	availNoInterrupt = 1 << 0
)

// Request is a descriptor chain: a readable part, followed by a writable part. It is valid until
// Serve returns.
type Request struct {
	DMA      DMA
	Readable Segments
	Writable Segments
}

// ring is a split virtqueue in service. One goroutine uses it at a time.
type ring struct {
	dma               DMA
	size              uint16 // descriptors, a power of 2
	desc, avail, used uint64

	next     uint16 // index of the next request in the available ring
	done     uint16 // idx of the used ring
	head     uint16 // first descriptor of the last request of pop
	readable Segments
	writable Segments
	scratch  [descSize]byte // buffer for DMA calls, which would allocate one each
}

// errRing is matched by errors of the driver, as opposed to failed accesses to memory.
var errRing = errors.New("virtqueue")

// newRing returns a ring. It fails if a part is misaligned (§2.7), or extends past the end of the
// address space.
func newRing(dma DMA, size uint32, desc, avail, used uint64) (*ring, error) {
	if size == 0 || size > queueMax || size&(size-1) != 0 {
		return nil, fmt.Errorf("%w: size %d is not a power of 2 up to 256", errRing, size)
	}
	n := uint64(size)
	for _, part := range []struct {
		name              string
		base, align, size uint64
	}{
		{"descriptor table", desc, 16, n * descSize},
		{"available ring", avail, 2, ringHeader + 2*n},
		{"used ring", used, 4, ringHeader + usedElemSize*n},
	} {
		if part.base%part.align != 0 || part.size > -part.base && part.base != 0 {
			return nil, fmt.Errorf(
				"%w: %s at %#x is misaligned or extends past the end of the address space",
				errRing,
				part.name,
				part.base,
			)
		}
	}
	return &ring{dma: dma, size: uint16(size), desc: desc, avail: avail, used: used}, nil
}

// pop returns the next request. ok is false if the driver has made none available.
func (r *ring) pop() (req Request, ok bool, err error) {
	idx, err := r.load16(r.avail + 2)
	if err != nil {
		return Request{}, false, err
	}
	waiting := idx - r.next
	if waiting == 0 {
		return Request{}, false, nil
	}
	if waiting > r.size {
		return Request{}, false, fmt.Errorf(
			"%w: idx of the available ring announces %d requests in a ring of %d",
			errRing,
			waiting,
			r.size,
		)
	}
	fence() // load idx before the entry that it publishes
	r.head, err = r.load16(r.avail + ringHeader + 2*uint64(r.next%r.size))
	if err != nil {
		return Request{}, false, err
	}
	if err := r.walk(r.head); err != nil {
		return Request{}, false, err
	}
	r.next++
	return Request{DMA: r.dma, Readable: r.readable, Writable: r.writable}, true, nil
}

// waiting reports whether pop would return a request or an error.
func (r *ring) waiting() bool {
	idx, err := r.load16(r.avail + 2)
	return err != nil || idx != r.next
}

// walk reads the descriptor chain that starts at index. A chain longer than the table has a loop.
func (r *ring) walk(index uint16) error {
	r.readable, r.writable = r.readable[:0], r.writable[:0]
	for range r.size {
		if index >= r.size {
			return fmt.Errorf("%w: index %d in a table of %d descriptors", errRing, index, r.size)
		}
		if err := r.dma.ReadAt(r.scratch[:], r.desc+descSize*uint64(index)); err != nil {
			return err
		}
		seg := Segment{
			Addr: binary.LittleEndian.Uint64(r.scratch[0:]),
			Len:  binary.LittleEndian.Uint32(r.scratch[8:]),
		}
		flags := binary.LittleEndian.Uint16(r.scratch[12:])
		index = binary.LittleEndian.Uint16(r.scratch[14:])
		switch {
		case flags&descIndirect != 0:
			return fmt.Errorf("%w: indirect descriptor without VIRTIO_F_INDIRECT_DESC", errRing)
		case uint64(seg.Len) > -seg.Addr && seg.Addr != 0:
			return fmt.Errorf(
				"%w: descriptor of %#x bytes at %#x extends past the end of the address space",
				errRing,
				seg.Len,
				seg.Addr,
			)
		case flags&descWrite != 0:
			r.writable = append(r.writable, seg)
		case len(r.writable) > 0:
			return fmt.Errorf("%w: readable descriptor after a writable one", errRing)
		default:
			r.readable = append(r.readable, seg)
		}
		if flags&descNext == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: descriptor chain has a loop", errRing)
}

// push returns the last request of pop to the driver. interrupt is true if the driver wants an
// interrupt for it.
func (r *ring) push(written uint32) (interrupt bool, err error) {
	elem := r.scratch[:usedElemSize]
	binary.LittleEndian.PutUint32(elem[0:], uint32(r.head))
	binary.LittleEndian.PutUint32(elem[4:], written)
	if err := r.dma.WriteAt(elem, r.used+ringHeader+usedElemSize*uint64(r.done%r.size)); err != nil {
		return false, err
	}
	r.done++
	fence() // store the element before the idx that publishes it
	if err := r.store16(r.used+2, r.done); err != nil {
		return false, err
	}
	fence() // store idx before loading the flags that suppress the interrupt
	flags, err := r.load16(r.avail)
	return flags&availNoInterrupt == 0, err
}

func (r *ring) load16(addr uint64) (uint16, error) {
	err := r.dma.ReadAt(r.scratch[:2], addr)
	return binary.LittleEndian.Uint16(r.scratch[:2]), err
}

func (r *ring) store16(addr uint64, value uint16) error {
	binary.LittleEndian.PutUint16(r.scratch[:2], value)
	return r.dma.WriteAt(r.scratch[:2], addr)
}

// fence orders earlier memory accesses before later ones, as seen by other processors. Go's atomics
// are sequentially consistent. On arm64 they are a store-release followed by a load-acquire, which
// the barrier-ordered-before relation (DDI 0487 §B2.3) keeps in order with the accesses around
// them. On amd64 the store is an XCHG.
func fence() {
	var order atomic.Uint32
	order.Store(1)
	order.Load()
}
