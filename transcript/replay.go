package transcript

import (
	"bytes"
	"context"
	"reflect"
	"runtime"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// stall is how long a device may do nothing of what it is to do before that
// counts as a difference. A device that does the same never comes near it.
const stall = 10 * time.Second

// lookEvery is how soon it is looked again at what changes without anybody being told.
const lookEvery = time.Millisecond

// Replay does to a new device what was done to the recorded one: it makes the
// guest's accesses, the host's faults and the embedder's calls, and answers the
// device's own reads and calls, all as recorded. Each thing that the device does
// is compared with what the recorded one did, in the order of its Channel.
//
// An entry is taken when all that the recorded device had done before it has
// been done. What the device does sooner than that is looked for ahead.
//
// The first difference ends it, with a *Difference. A transcript that is cut off
// is replayed up to there.
func Replay(ctx context.Context, t *Transcript) error { return replayWithin(ctx, t, stall, false) }

func replayWithin(ctx context.Context, t *Transcript, stall time.Duration, renewing bool) error {
	r := newReplay(t, stall, renewing)
	var err error
	if r.dev, err = r.device(); err != nil {
		return err
	}
	defer func() { _ = r.dev.Close() }() // the transcript may have ended before the device
	defer r.release()
	return r.run(ctx)
}

// replay is one under way.
type replay struct {
	t     *Transcript
	dev   *vsmmu.Device
	stall time.Duration

	moving moving // registers that the device changes
	hosts  map[uint32]*replayHost
	renewals

	mu       sync.Mutex
	progress sync.Cond
	expected map[Channel][]int // the entries that the device has not come to yet
	done     []bool            // by entry: the device has done it
	reads    reads
	executed uint64 // commands that the device has carried out
	stage    string // of the guest's boot: the last note
	at       int    // the entry that is under way
	event    int    // the last entry of an event that the device has met
	released bool   // nothing that the device does is compared any more
	err      error  // the first difference
}

// byDevice reports whether an entry is something that the device did, to be
// compared and in part to be answered.
func byDevice(b Body) bool {
	switch b.(type) {
	case *Return, *MemWrite, *HostCapabilities, *HostAttach, *HostBind, *HostDetach, *HostInvalidate,
		*HostRespond, *HostResume, *HostTerminate, *Pulse, *MSI, *Command, *Event, *PageRequest:
		return true
	}
	return false
}

func newReplay(t *Transcript, stall time.Duration, renewing bool) *replay {
	r := &replay{
		t: t, stall: stall, expected: map[Channel][]int{}, done: make([]bool, len(t.Entries)),
		hosts: map[uint32]*replayHost{}, moving: moving{}, renewals: newRenewals(renewing),
	}
	r.progress.L = &r.mu
	r.reads.learn(t.Entries)
	for i, e := range t.Entries {
		switch {
		case !byDevice(e.Body):
		case r.lost(e.Body):
			r.done[i] = true
		default:
			ch := e.Body.Channel()
			r.expected[ch] = append(r.expected[ch], i)
		}
	}
	return r
}

// device makes a device whose doings are compared.
func (r *replay) device() (*vsmmu.Device, error) {
	return vsmmu.New(vsmmu.Config{
		IDs: r.t.IDs, AbortAtReset: r.t.AbortAtReset, Memory: replayMemory{r}, Interrupts: replayInterrupts{r},
		Trace: vsmmu.Trace{
			Command:     func(c smmuv3.Command, code smmuv3.CmdqErr) { r.command(&Command{c, code}) },
			Event:       func(ev smmuv3.Event, f vsmmu.Fate) { r.answer(&Event{ev, f}) },
			PageRequest: func(q smmuv3.PageRequest, f vsmmu.Fate) { r.answer(&PageRequest{q, f}) },
		},
	})
}

// run walks through the transcript.
func (r *replay) run(ctx context.Context) error {
	for i, e := range r.t.Entries {
		r.mu.Lock()
		if r.at = i; r.err == nil {
			r.err = context.Cause(ctx)
		}
		err := r.err
		r.mu.Unlock()
		if err != nil {
			return err
		}
		switch b := e.Body.(type) {
		case *Load:
			r.load(b)
		case *Store:
			r.dev.Store(b.Offset, int(b.Size), b.Value)
			r.moving.stored(r.dev, b)
		case *Call:
			r.returned(b.Op, b.StreamID, r.call(b))
		case *Restore:
			r.returned(OpRestore, 0, r.dev.Restore(b.State))
			r.moving.forget()
		case *Fault:
			r.host(b.Host).sink(b.Event)
		case *PageFault:
			r.host(b.Host).pages(b.Request)
		case *MemRead:
			if !b.Command {
				r.await(i)
			}
		case *Note:
			r.mu.Lock()
			r.stage = b.Text
			r.mu.Unlock()
		default:
			if byDevice(b) {
				r.await(i)
			}
		}
		if r.renewing {
			r.renew(e.Body)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// call makes a call of the embedder's. What it returns is an entry of its own.
func (r *replay) call(c *Call) (err error) {
	switch c.Op {
	case OpAttach:
		if err = r.dev.Attach(c.StreamID, r.host(c.Host), nil); err == nil {
			r.attached[c.StreamID] = c.Host
		}
	case OpDetach:
		err = r.dev.Detach(c.StreamID)
		delete(r.attached, c.StreamID)
	case OpReset:
		err = r.dev.Reset()
		r.moving.forget()
	case OpGuestWrote:
		r.dev.GuestWrote(c.Range)
	case OpClose:
		err = r.dev.Close()
		r.moving.forget()
	case OpSave:
		_, err = r.dev.Save()
	}
	return err
}

func (r *replay) returned(op Op, sid smmuv3.StreamID, err error) {
	ret := &Return{Op: op, StreamID: sid, Failed: err != nil}
	if err != nil {
		ret.Text = err.Error()
	}
	r.answer(ret)
}

// load makes a load of the guest's and compares the value. The device may have
// to be waited for until it has one that fits.
func (r *replay) load(want *Load) {
	got := *want
	fits := func() bool {
		got.Value = r.dev.Load(want.Offset, int(want.Size))
		return r.moving.fits(r.dev, want, got.Value, r.executed, r.event > r.at)
	}
	r.wait(func() bool { return fits() || !r.moving.has(want) }, func() {})
	r.mu.Lock()
	defer r.mu.Unlock()
	if !fits() {
		r.differ(want, &got)
	}
	r.moving.loaded(want, r.executed)
}

// await waits until the device has done what an entry says.
func (r *replay) await(i int) {
	r.wait(func() bool { return r.done[i] }, func() { r.differ(r.t.Entries[i].Body, nil) })
}

// wait waits until ok holds. If the device does nothing for long, late is called
// instead. Both are called with r.mu held.
func (r *replay) wait(ok func() bool, late func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Not by the clock: where the whole machine stands still, the device can do nothing, either.
	var waited time.Duration
	for tries := 0; r.err == nil && !ok(); tries++ {
		switch {
		case tries < 1000: // as a rule it is a matter of microseconds
			r.mu.Unlock()
			runtime.Gosched()
			r.mu.Lock()
		case waited >= r.stall:
			late()
			return
		default:
			again := time.AfterFunc(lookEvery, func() {
				r.mu.Lock() // not before it is waited for
				defer r.mu.Unlock()
				waited += lookEvery
				r.progress.Broadcast()
			})
			r.progress.Wait()
			again.Stop()
		}
	}
}

// answer compares something that the device does with what comes next in its
// channel, and returns that, with the answer that was given. It returns nil
// where there is none: after a difference, and after a cut.
func (r *replay) answer(got Body) Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released || r.between || r.err != nil || r.lost(got) {
		return nil
	}
	ch := got.Channel()
	if len(r.expected[ch]) == 0 {
		if r.t.Complete() {
			r.differ(nil, got)
		}
		return nil
	}
	i := r.expected[ch][0]
	want := r.t.Entries[i].Body
	if !same(want, got) {
		r.at = i
		r.differ(want, got)
		return nil
	}
	r.expected[ch] = r.expected[ch][1:]
	r.did(i)
	if _, ok := want.(*Event); ok {
		r.event = i
	}
	return want
}

// did notes that the device has done an entry. r.mu is held.
func (r *replay) did(i int) {
	r.done[i] = true
	r.progress.Broadcast()
}

func (r *replay) command(c *Command) {
	r.answer(c)
	r.mu.Lock()
	r.executed++
	r.mu.Unlock()
}

// same reports whether two entries are of one kind and ask the same.
func same(a, b Body) bool {
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	var x, y coder
	a.question(&x)
	b.question(&y)
	return bytes.Equal(x.b, y.b)
}

// differ ends the replay. r.mu is held.
func (r *replay) differ(want, got Body) {
	if r.err != nil || r.released {
		return
	}
	d := &Difference{Entry: r.at, At: r.t.Entries[r.at].At, Stage: r.stage, Want: want, Got: got}
	d.explain(&r.reads, r.executed, r.t.IDs)
	r.err = d
	r.progress.Broadcast()
}

// release has nothing compared any more, so that the device may be closed.
func (r *replay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = true
}

func (r *replay) host(n uint32) *replayHost {
	h := r.hosts[n]
	if h == nil {
		h = &replayHost{r: r, number: n, sink: func(smmuv3.Event) {}, pages: func(smmuv3.PageRequest) {}}
		r.hosts[n] = h
	}
	return h
}
