//go:build linux && (amd64 || arm64)

package iommufd

import (
	"encoding/binary"
	"io"
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

// eventReader carries events from the kernel to the guest until it is closed.
type eventReader struct {
	queue  io.ReadCloser
	sink   func(smmuv3.Event)
	counts *counters
	ended  chan struct{}
	over   sync.WaitGroup
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
	buf := make([]byte, readRecords*recordSize)
	var d decoder
	for {
		n, err := r.queue.Read(buf)
		r.deliver(&d, buf[:n])
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

func (r *eventReader) deliver(d *decoder, p []byte) {
	lost := d.decode(p, func(e smmuv3.Event) {
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
