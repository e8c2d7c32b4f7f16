package transcript

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Options describe a recording. The zero value is valid.
type Options struct {
	// Title names the recording. It is cut at 1 KiB.
	Title string
	// Policy and Hosts are the inputs of the derivation of the ID registers. They are optional.
	// Replay uses them to explain each field.
	Policy idr.Policy
	Hosts  []bridge.Capabilities
	// Streams are names of StreamIDs, for readers of the transcript.
	Streams map[smmuv3.StreamID]string
	// Buffer bounds the memory, in bytes, that is used while the writer is slow; 0 means
	// DefaultBuffer. The transcript ends when the buffer is full. The guest never waits.
	Buffer int
}

// maxHosts bounds the hosts of a transcript. Replay keeps memory for each of them.
const maxHosts = 1024

// Recorder is a recorded vsmmu.Device. A VMM uses it in place of the device. Device gives access to
// the methods that have no effect on the guest. All methods may be called from any goroutine.
type Recorder struct {
	dev *vsmmu.Device
	log *log

	feed *feed

	// stores counts the stores in progress by register. log.mu guards it.
	stores map[uint64]int

	mu     sync.Mutex
	closed bool
	hosts  map[bridge.Host]bridge.Host // at most maxHosts
}

// Record returns a new device and records it to w in the background. vsmmu.New(cfg) creates the
// device. Close closes it and ends the transcript.
//
// Record writes the header before it returns. If that fails, the error matches ErrCut and wraps the
// error of w. A later error of w ends the transcript, and Close returns it; the device continues.
func Record(w io.Writer, cfg vsmmu.Config, o Options) (*Recorder, error) {
	switch {
	case nilcheck.IsNil(w):
		return nil, fmt.Errorf("transcript: record: nil writer of type %T", w)
	case o.Buffer < 0:
		return nil, fmt.Errorf("transcript: record: Options.Buffer is %d: must not be negative", o.Buffer)
	}
	for f := range o.Policy {
		if !slices.Contains(smmuv3.IDFields(), f) {
			return nil, fmt.Errorf("transcript: record: Options.Policy has the unknown field %v", f)
		}
	}
	limit := o.Buffer
	if limit == 0 {
		limit = DefaultBuffer
	}
	r := &Recorder{hosts: map[bridge.Host]bridge.Host{}, stores: map[uint64]int{}}
	// Record creates the device first: if New refuses the configuration, Record writes nothing to
	// w. The device uses no tap before Record returns.
	tapped := cfg
	if !nilcheck.IsNil(cfg.Memory) {
		tapped.Memory = tappedMemory{r, cfg.Memory}
	}
	if !nilcheck.IsNil(cfg.Interrupts) {
		tapped.Interrupts = tappedInterrupts{r, cfg.Interrupts}
	}
	tapped.Trace = r.tapTrace(cfg.Trace)
	dev, err := vsmmu.New(tapped)
	if err != nil {
		return nil, err
	}
	r.dev, r.feed = dev, newFeed(dev)
	r.log, err = newLog(w, Header{
		Title: short(o.Title), Recorded: time.Now().UTC().Truncate(time.Second),
		IDs: cfg.IDs, AbortAtReset: cfg.AbortAtReset,
		Policy: Policy(o.Policy), Hosts: o.Hosts, Streams: o.Streams,
	}, limit)
	if err != nil {
		return nil, both(fmt.Errorf("transcript: record: %w", err), dev.Close())
	}
	return r, nil
}

// recording fails for a Recorder that Record did not make.
func (r *Recorder) recording() error {
	if r == nil || r.dev == nil {
		return errors.New("transcript: recorder was not made by transcript.Record")
	}
	return nil
}

// both returns an error that matches a and b, on one line.
func both(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	return fmt.Errorf("%w; %w", a, b)
}

// Device returns the recorded device. Calls of its methods are not recorded.
func (r *Recorder) Device() *vsmmu.Device { return r.dev }

// Load calls Device.Load and records it.
func (r *Recorder) Load(off uint64, size int) (v uint64) {
	// The load and its entry are one atomic step, so entries have the order of the loads.
	r.log.addLater(func() Body {
		v = r.dev.Load(off, size)
		words, n := accessed(off, size)
		racing := false
		for _, w := range words[:n] {
			racing = racing || r.stores[w] > 0
		}
		return &Load{off, accessSize(size), v, racing}
	})
	return v
}

// LoadBytes calls LoadBytes of vsmmu.Registers and records it.
func (r *Recorder) LoadBytes(off uint64, p []byte) error {
	return vsmmu.Registers{Device: r}.LoadBytes(off, p)
}

// StoreBytes calls StoreBytes of vsmmu.Registers and records it.
func (r *Recorder) StoreBytes(off uint64, p []byte) error {
	return vsmmu.Registers{Device: r}.StoreBytes(off, p)
}

// Store calls Device.Store and records it.
func (r *Recorder) Store(off uint64, size int, v uint64) {
	begin := func() {
		r.log.addLater(func() Body {
			r.countStore(off, size, 1)
			return &Store{off, accessSize(size), v}
		})
	}
	store := func() { r.dev.Store(off, size, v) }
	if feeds(off) {
		r.feed.store(off, size, v, begin, store)
	} else {
		begin()
		store()
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	r.countStore(off, size, -1)
}

// countStore adds n to the stores in progress. r.log.mu is held.
func (r *Recorder) countStore(off uint64, size, n int) {
	words, count := accessed(off, size)
	for _, w := range words[:count] {
		if r.stores[w] += n; r.stores[w] == 0 {
			delete(r.stores, w)
		}
	}
}

// accessSize returns the recorded form of a size: 0 for a size that does not fit. The device
// ignores such an access, as it ignores every unsupported size.
func accessSize(size int) uint8 {
	if size < 0 || size > 255 {
		return 0
	}
	return uint8(size)
}

// accessed returns the n 32-bit registers that an access reaches. Sizes other than 4 and 8 reach
// none (§6.2).
func accessed(off uint64, size int) (words [2]uint64, n int) {
	switch size {
	case 4:
		n = 1
	case 8:
		n = 2
	}
	return [2]uint64{word(off), word(off + 4)}, n
}

// Attach calls Device.Attach and records it. A transcript ends at its 1025th host; the device
// continues.
func (r *Recorder) Attach(sid smmuv3.StreamID, h bridge.Host, ep bridge.Endpoint) error {
	if err := r.recording(); err != nil {
		return err
	}
	tapped, number := r.tap(h)
	if tapped == nil {
		return r.dev.Attach(sid, h, ep)
	}
	return r.call(Call{Op: OpAttach, StreamID: sid, Host: number}, func() error {
		return r.dev.Attach(sid, tapped, ep)
	})
}

// Detach calls Device.Detach and records it.
func (r *Recorder) Detach(sid smmuv3.StreamID) error {
	return r.call(Call{Op: OpDetach, StreamID: sid}, func() error { return r.dev.Detach(sid) })
}

// Reset calls Device.Reset and records it.
func (r *Recorder) Reset() error {
	return r.call(Call{Op: OpReset}, func() error { return r.dev.Reset() })
}

// GuestWrote calls Device.GuestWrote and records it.
func (r *Recorder) GuestWrote(g guestmem.Range) {
	_ = r.call(Call{Op: OpGuestWrote, Range: g}, func() error {
		r.dev.GuestWrote(g)
		return nil
	})
}

// Save calls Device.Save and records it.
func (r *Recorder) Save() (state []byte, err error) {
	err = r.call(Call{Op: OpSave}, func() (err error) {
		state, err = r.dev.Save()
		return err
	})
	return state, err
}

// Restore calls Device.Restore and records it with the state.
func (r *Recorder) Restore(state []byte) error {
	return r.made(OpRestore, 0, &Restore{state}, func() error { return r.dev.Restore(state) })
}

// Close closes the device, as Device.Close does, and ends the transcript. It returns when the
// transcript is written.
//
// The error matches ErrCut if the transcript is incomplete: because of an error of the writer,
// which it wraps, a full buffer, or an entry that is too large. The entries written before the cut
// can be read and replayed. Any later Close has no effect and returns an error that matches
// bridge.ErrClosed.
func (r *Recorder) Close() error {
	if err := r.recording(); err != nil {
		return err
	}
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	r.mu.Unlock()
	if closed {
		return fmt.Errorf("transcript: close recorder: %w", bridge.ErrClosed)
	}
	err := r.call(Call{Op: OpClose}, r.dev.Close)
	if cut := r.log.end(); cut != nil {
		err = both(err, fmt.Errorf("transcript: close recorder: %w", cut))
	}
	return err
}

func (r *Recorder) call(c Call, f func() error) error { return r.made(c.Op, c.StreamID, &c, f) }

// made records a call by the embedder, calls f, and records the result.
func (r *Recorder) made(op Op, sid smmuv3.StreamID, call Body, f func() error) error {
	if err := r.recording(); err != nil {
		return err
	}
	r.log.add(call)
	err := f()
	ret := &Return{Op: op, StreamID: sid, Failed: err != nil}
	if err != nil {
		ret.Text = textOf(err)
	}
	r.log.add(ret)
	return err
}

// Note records a remark, such as the stage of the boot that the guest has reached. It is cut at
// 1 KiB.
func (r *Recorder) Note(text string) { r.log.add(&Note{short(text)}) }

// DMA records an access of n bytes at iova by an endpoint, with its outcome. The device sees no
// DMA, so the owner of the endpoint calls DMA.
func (r *Recorder) DMA(sid smmuv3.StreamID, write bool, iova, n uint64, err error) {
	r.log.add(&DMA{sid, write, iova, n, newError(err)})
}
