package transcript

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Options say what a transcript tells of itself. The zero value is enough.
type Options struct {
	Title string
	// Policy and Hosts are what the ID registers were derived from, for those who
	// want to know why they are as they are.
	Policy idr.Policy
	Hosts  []bridge.Capabilities
	// Streams are names for StreamIDs, for people.
	Streams map[smmuv3.StreamID]string
	// Buffer is how much is kept in memory while the writer is slow, in bytes; 0
	// means DefaultBuffer. When it is full the transcript ends, and nobody waits.
	Buffer int
}

// Recorder is a vsmmu.Device that is recorded: a VMM uses it in the device's
// place. What it does not have of a device's methods has no effect on the guest,
// and is on Device. All methods may be called from any goroutine.
type Recorder struct {
	dev *vsmmu.Device
	log *log

	feed *feed

	// stores counts those under way, by the register. Of log.mu.
	stores map[uint64]int

	mu    sync.Mutex
	hosts map[bridge.Host]bridge.Host
}

// Record makes a device whose doings are written to w, in the background. The
// device is like vsmmu.New's; it ends, and the transcript with it, at Close.
func Record(w io.Writer, cfg vsmmu.Config, o Options) (*Recorder, error) {
	limit := o.Buffer
	if limit <= 0 {
		limit = DefaultBuffer
	}
	r := &Recorder{hosts: map[bridge.Host]bridge.Host{}, stores: map[uint64]int{}}
	// The taps have nothing to do before the device is there; if it never is, the
	// file is none of ours.
	tapped := cfg
	if cfg.Memory != nil {
		tapped.Memory = tappedMemory{r, cfg.Memory}
	}
	if cfg.Interrupts != nil {
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
		return nil, errors.Join(err, dev.Close())
	}
	return r, nil
}

// Device is the device that is recorded. What is done to it directly is not.
func (r *Recorder) Device() *vsmmu.Device { return r.dev }

// Load is vsmmu.Device's.
func (r *Recorder) Load(off uint64, size int) (v uint64) {
	// In one step, so that of two vCPUs' loads the one that saw more is the later
	// entry.
	r.log.addLater(func() Body {
		v = r.dev.Load(off, size)
		racing := r.stores[word(off)] > 0 || size == 8 && r.stores[word(off+4)] > 0
		return &Load{off, uint8(size), v, racing}
	})
	return v
}

// LoadBytes is vsmmu.Device's.
func (r *Recorder) LoadBytes(off uint64, p []byte) error {
	return vsmmu.Registers{Device: r}.LoadBytes(off, p)
}

// StoreBytes is vsmmu.Device's.
func (r *Recorder) StoreBytes(off uint64, p []byte) error {
	return vsmmu.Registers{Device: r}.StoreBytes(off, p)
}

// Store is vsmmu.Device's.
func (r *Recorder) Store(off uint64, size int, v uint64) {
	begin := func() {
		r.log.addLater(func() Body {
			r.underWay(off, size, 1)
			return &Store{off, uint8(size), v}
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
	r.underWay(off, size, -1)
}

// underWay counts a store as under way, or no longer. r.log.mu is held.
func (r *Recorder) underWay(off uint64, size int, n int) {
	for ; size > 0; off, size = off+4, size-4 {
		if r.stores[word(off)] += n; r.stores[word(off)] == 0 {
			delete(r.stores, word(off))
		}
	}
}

// Attach is vsmmu.Device's.
func (r *Recorder) Attach(sid smmuv3.StreamID, h bridge.Host, ep bridge.Endpoint) error {
	tapped, number := r.tap(h)
	if tapped == nil {
		return r.dev.Attach(sid, h, ep) // which refuses it
	}
	return r.call(Call{Op: OpAttach, StreamID: sid, Host: number}, func() error {
		return r.dev.Attach(sid, tapped, ep)
	})
}

// Detach is vsmmu.Device's.
func (r *Recorder) Detach(sid smmuv3.StreamID) error {
	return r.call(Call{Op: OpDetach, StreamID: sid}, func() error { return r.dev.Detach(sid) })
}

// Reset is vsmmu.Device's.
func (r *Recorder) Reset() error {
	return r.call(Call{Op: OpReset}, r.dev.Reset)
}

// GuestWrote is vsmmu.Device's.
func (r *Recorder) GuestWrote(g guestmem.Range) {
	_ = r.call(Call{Op: OpGuestWrote, Range: g}, func() error {
		r.dev.GuestWrote(g)
		return nil
	})
}

// Save is vsmmu.Device's.
func (r *Recorder) Save() (state []byte, err error) {
	err = r.call(Call{Op: OpSave}, func() (err error) {
		state, err = r.dev.Save()
		return err
	})
	return state, err
}

// Restore is vsmmu.Device's. The state becomes part of the transcript.
func (r *Recorder) Restore(state []byte) error {
	return r.made(OpRestore, 0, &Restore{state}, func() error { return r.dev.Restore(state) })
}

// Close ends the device, as vsmmu.Device's does, and the transcript. It returns
// when that is written. The error matches ErrCut if the transcript ended before
// the device did.
func (r *Recorder) Close() error {
	err := r.call(Call{Op: OpClose}, r.dev.Close)
	return errors.Join(err, r.log.end())
}

func (r *Recorder) call(c Call, f func() error) error { return r.made(c.Op, c.StreamID, &c, f) }

// made records a call of the embedder's that f makes, and what comes of it.
func (r *Recorder) made(op Op, sid smmuv3.StreamID, call Body, f func() error) error {
	r.log.add(call)
	err := f()
	ret := &Return{Op: op, StreamID: sid, Failed: err != nil}
	if err != nil {
		ret.Text = short(err.Error())
	}
	r.log.add(ret)
	return err
}

// Note records a remark: the stage of its boot that the guest has come to.
func (r *Recorder) Note(text string) { r.log.add(&Note{short(text)}) }

// DMA records an access of an endpoint, of n bytes at iova, with its outcome.
// Endpoints are not the device's, so that those who have them call this.
func (r *Recorder) DMA(sid smmuv3.StreamID, write bool, iova, n uint64, err error) {
	r.log.add(&DMA{sid, write, iova, n, newError(err)})
}
