//go:build linux && (amd64 || arm64)

package iommufd

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const (
	headerSize  = 8 // of struct iommufd_vevent_header
	recordSize  = headerSize + smmuv3.EventSize
	readRecords = 64 // events in one read
)

// queue is the descriptor of a vEVENTQ.
type queue interface {
	// Wait waits until there may be something to read. It fails when the queue is closed.
	Wait() error
	// Read reads whole records and does not wait. It returns 0 if the queue is empty.
	Read(p []byte) (n int, err error)
	Close() error
}

// claim is the sink of the device that the host belongs to.
type claim struct {
	mu   sync.Mutex // held while faults are read and delivered
	sink func(smmuv3.Event)
}

func (c *claim) taken() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sink != nil
}

func (c *claim) take(sink func(smmuv3.Event)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sink = sink
}

// release removes the sink. On return, no call of it is in flight.
func (c *claim) release() { c.take(nil) }

// eventReader delivers the kernel's events to the sink until it is closed.
type eventReader struct {
	queue  queue
	claim  *claim
	counts *counters
	ended  chan struct{}
	over   sync.WaitGroup

	// Guarded by claim.mu.
	decoder decoder
	buf     [readRecords * recordSize]byte
}

// startEvents starts the reader, unless it runs already. Attach calls it: the kernel reports faults
// only of devices with a stream.
func (h *Host) startEvents() {
	if h.events != nil {
		return
	}
	h.events = &eventReader{queue: h.nest.events, claim: &h.claim, counts: &h.counts, ended: make(chan struct{})}
	h.events.over.Go(h.events.run)
}

// deliverFaults delivers to the sink all faults that the kernel has reported.
func (h *Host) deliverFaults() {
	if h.events != nil {
		// If the queue cannot be read now, the reader counts the error and tries again.
		_ = h.events.drain()
	}
}

// close stops the reader. On return, no call of the sink is in flight.
func (r *eventReader) close() error {
	close(r.ended)
	err := r.queue.Close()
	r.over.Wait()
	return err
}

// retryEvents is the pause after an error of the queue: the kernel may be out of memory.
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

// drain delivers the events in the queue. On return no other goroutine is still delivering an
// event. drain reads at most eventDepth events, since a device can fill the queue as fast as drain
// empties it.
func (r *eventReader) drain() error {
	r.claim.mu.Lock()
	defer r.claim.mu.Unlock()
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
		e, ok := guestView(e)
		if !ok {
			r.counts.withheld.Add(1)
			return
		}
		r.counts.events.Add(1)
		if r.claim.sink != nil {
			r.claim.sink(e)
		}
	})
	r.counts.lost.Add(lost)
}

// decoder decodes the contents of a vEVENTQ: headers with sequence numbers, each followed by an
// event record unless the header reports lost events.
type decoder struct {
	next uint32 // the next sequence number
}

// decode calls emit for each record. It returns the number of missing events, which follows from
// the sequence numbers.
func (d *decoder) decode(p []byte, emit func(smmuv3.Event)) (lost uint64) {
	for len(p) >= headerSize {
		flags, sequence := binary.NativeEndian.Uint32(p), binary.NativeEndian.Uint32(p[4:])
		lost += uint64((sequence - d.next) & uapi.MaxVEventSequence)
		d.next = (sequence + 1) & uapi.MaxVEventSequence
		p = p[headerSize:]
		if flags&uapi.VEventFlagLostEvents != 0 {
			lost++ // the sequence number belongs to the last lost event
			continue
		}
		if len(p) < smmuv3.EventSize {
			return lost + 1 // the kernel never writes part of a record
		}
		emit(smmuv3.LoadEvent((*[smmuv3.EventSize]byte)(p)))
		p = p[smmuv3.EventSize:]
	}
	return lost
}
