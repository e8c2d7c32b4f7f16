package virtio

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
)

// Sizes of a split virtqueue's parts (virtio 1.2 §2.7).
const (
	descSize     = 16
	usedElemSize = 8
	ringHeader   = 4 // flags and idx, in both rings

	descNext     = 1 << 0
	descWrite    = 1 << 1
	descIndirect = 1 << 2

	availNoInterrupt = 1 << 0
)

// Request is one descriptor chain: what the device may read, followed by what it may write. It is good until Serve returns.
type Request struct {
	DMA      DMA
	Readable Segments
	Writable Segments
}

// ring is a split virtqueue that the driver made ready. It belongs to one goroutine at a time.
type ring struct {
	dma               DMA
	size              uint16 // descriptors, a power of 2
	desc, avail, used uint64

	next     uint16 // the driver's idx up to which requests were taken
	done     uint16 // our idx in the used ring
	head     uint16 // of the request that pop gave last
	readable Segments
	writable Segments
	scratch  [descSize]byte // what goes through an interface is on the heap; once is enough
}

// errRing is matched by what the driver did wrong, as opposed to its memory failing.
var errRing = errors.New("virtqueue")

// newRing checks the addresses' alignment (§2.7) and that no part wraps round the address space, so that nothing after it
// needs to.
func newRing(dma DMA, size uint32, desc, avail, used uint64) (*ring, error) {
	if size == 0 || size > queueMax || size&(size-1) != 0 {
		return nil, fmt.Errorf("%w: size %d", errRing, size)
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
			return nil, fmt.Errorf("%w: %s at %#x", errRing, part.name, part.base)
		}
	}
	return &ring{dma: dma, size: uint16(size), desc: desc, avail: avail, used: used}, nil
}

// pop takes the next request, if the driver has made one available.
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
		return Request{}, false, fmt.Errorf("%w: %d requests in a ring of %d", errRing, waiting, r.size)
	}
	fence() // idx first, then what it vouches for
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

// waiting says whether there may be a request for pop. What pop would fail for may be one.
func (r *ring) waiting() bool {
	idx, err := r.load16(r.avail + 2)
	return err != nil || idx != r.next
}

// walk gathers the chain that starts at the descriptor index. A chain longer than the table has a loop.
func (r *ring) walk(index uint16) error {
	r.readable, r.writable = r.readable[:0], r.writable[:0]
	for range r.size {
		if index >= r.size {
			return fmt.Errorf("%w: descriptor %d in a table of %d", errRing, index, r.size)
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
			return fmt.Errorf("%w: indirect descriptor, which was not negotiated", errRing)
		case uint64(seg.Len) > -seg.Addr && seg.Addr != 0:
			return fmt.Errorf("%w: descriptor of %#x bytes at %#x", errRing, seg.Len, seg.Addr)
		case flags&descWrite != 0:
			r.writable = append(r.writable, seg)
		case len(r.writable) > 0:
			return fmt.Errorf("%w: readable descriptor behind a writable one", errRing)
		default:
			r.readable = append(r.readable, seg)
		}
		if flags&descNext == 0 {
			return nil
		}
	}
	return fmt.Errorf("%w: descriptor chain without end", errRing)
}

// push gives the request that pop gave last back to the driver, and says whether the driver wants an interrupt for it.
func (r *ring) push(written uint32) (interrupt bool, err error) {
	elem := r.scratch[:usedElemSize]
	binary.LittleEndian.PutUint32(elem[0:], uint32(r.head))
	binary.LittleEndian.PutUint32(elem[4:], written)
	if err := r.dma.WriteAt(elem, r.used+ringHeader+usedElemSize*uint64(r.done%r.size)); err != nil {
		return false, err
	}
	r.done++
	fence() // the element first, then the idx that vouches for it
	if err := r.store16(r.used+2, r.done); err != nil {
		return false, err
	}
	fence() // the idx first, then the question whether the driver looks at it by itself
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

// fence orders the accesses before it before those after it, as other processors see them. Go has no such call, but its
// atomics are sequentially consistent: on arm64 a store-release before a load-acquire, which by the architecture's
// barrier-ordered-before relation (DDI 0487 §B2.3) orders all that stands on either side; on amd64 an XCHG.
func fence() {
	var order atomic.Uint32
	order.Store(1)
	order.Load()
}
