//go:build linux && (amd64 || arm64)

package iommufd

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Sizes of what a vEVENTQ holds.
const (
	headerSize = 8
	recordSize = headerSize + smmuv3.EventSize
	// readRecords is how many events are read at once.
	readRecords = 64
)

// queue is a vEVENTQ, by its descriptor.
type queue interface {
	// Wait returns when there may be something to read, or an error once the queue is closed.
	Wait() error
	// Read takes what there is and does not wait: 0 means that the queue is empty.
	Read(p []byte) (n int, err error)
	Close() error
}

// eventReader carries events from the kernel to the guest until it is closed.
type eventReader struct {
	queue  queue
	sink   func(smmuv3.Event)
	counts *counters
	ended  chan struct{}
	over   sync.WaitGroup

	mu      sync.Mutex // held from a read until all that it brought has been delivered
	decoder decoder
	buf     [readRecords * recordSize]byte
}

// startEvents starts the reader, with the first stream: before it there are no events, and the sink may not be known.
func (h *Host) startEvents() {
	if h.events != nil {
		return
	}
	sink := h.sink
	if sink == nil {
		sink = func(smmuv3.Event) {}
	}
	h.events = &eventReader{queue: h.nest.events, sink: sink, counts: &h.counts, ended: make(chan struct{})}
	h.events.over.Go(h.events.run)
}

// settle has the sink called for all faults that the kernel has told of so far.
func (h *Host) settle() {
	if h.events != nil {
		// What could not be read now is left to the reader, which counts that, and tries again.
		_ = h.events.drain()
	}
}

// close returns when the sink is called no more.
func (r *eventReader) close() error {
	close(r.ended)
	err := r.queue.Close()
	r.over.Wait()
	return err
}

// retryEvents is how long a queue is left alone that could not be read: the kernel may have been out of memory.
const retryEvents = 100 * time.Millisecond

func (r *eventReader) run() {
	for {
		err := r.queue.Wait()
		if err == nil {
			err = r.drain()
		}
		if err == nil {
			continue
		}
		select {
		case <-r.ended:
			return
		default:
			r.counts.readErrors.Add(1)
		}
		select {
		case <-r.ended:
			return
		case <-time.After(retryEvents):
		}
	}
}

// drain delivers what the queue holds, and returns when that has been done, by whichever goroutine. It takes no more than the
// queue can have held at first: a device gone wild may fill it as fast as it is read.
func (r *eventReader) drain() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for range eventDepth / readRecords {
		n, err := r.queue.Read(r.buf[:])
		if n == 0 || err != nil {
			return err
		}
		r.deliver(r.buf[:n])
	}
	return nil
}

func (r *eventReader) deliver(p []byte) {
	lost := r.decoder.decode(p, func(e smmuv3.Event) {
		if e, ok := guestView(e); ok {
			r.counts.events.Add(1)
			r.sink(e)
		} else {
			r.counts.withheld.Add(1)
		}
	})
	r.counts.lost.Add(lost)
}

// decoder takes apart what is read from a vEVENTQ: headers with sequence numbers, each followed by a record unless it stands
// for events lost.
type decoder struct {
	next uint32 // the sequence number to come
}

// decode calls emit for each record, and returns how many events are missing, as the sequence numbers tell.
func (d *decoder) decode(p []byte, emit func(smmuv3.Event)) (lost uint64) {
	for len(p) >= headerSize {
		flags, sequence := binary.NativeEndian.Uint32(p), binary.NativeEndian.Uint32(p[4:])
		lost += uint64((sequence - d.next) & uapi.MaxVEventSequence)
		d.next = (sequence + 1) & uapi.MaxVEventSequence
		p = p[headerSize:]
		if flags&uapi.VEventFlagLostEvents != 0 {
			lost++ // the number is that of the last one
			continue
		}
		if len(p) < smmuv3.EventSize {
			return lost + 1 // the kernel gives whole records
		}
		emit(smmuv3.LoadEvent((*[smmuv3.EventSize]byte)(p)))
		p = p[smmuv3.EventSize:]
	}
	return lost
}
