package transcript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// stall is the longest time without an expected action of the device. A device that behaves as
// recorded takes far less.
const stall = 10 * time.Second

// lookEvery is the interval of polling for changes without a notification.
const lookEvery = time.Millisecond

// Replay repeats a recording on a new device. It repeats the accesses of the guest, the faults of
// the hosts and the calls of the embedder. It answers the device's own reads and calls as recorded.
// It compares every action of the device with the recording, in the order of its Channel.
//
// Replay waits at each entry until the device has completed the earlier actions of the recorded
// device. A device may act earlier than the recorded one.
//
// Replay stops at the first difference and returns a *Difference. It replays a transcript that is
// cut off up to the cut. If ctx ends, the error wraps its cause. Replay refuses an impossible
// transcript, such as one with too many hosts, with an error that matches ErrCorrupt.
func Replay(ctx context.Context, t *Transcript) error { return replayWithin(ctx, t, stall, false) }

func replayWithin(ctx context.Context, t *Transcript, stall time.Duration, renewing bool) error {
	err := check(ctx, t)
	if err == nil {
		err = newReplay(t, stall, renewing).all(ctx)
	}
	if err == nil || errors.As(err, new(*Difference)) {
		return err
	}
	return fmt.Errorf("transcript: replay: %w", err)
}

// check returns an error if a transcript cannot be replayed.
func check(ctx context.Context, t *Transcript) error {
	if ctx == nil {
		return errors.New("nil context")
	}
	if t == nil {
		return errors.New("nil transcript")
	}
	hosts := map[uint32]bool{}
	for i, e := range t.Entries {
		if nilcheck.IsNil(e.Body) {
			return fmt.Errorf("entry %d: nil body", i)
		}
		if c, ok := e.Body.(*Call); ok && c.Op == OpAttach {
			hosts[c.Host] = true
		}
		if len(hosts) > maxHosts {
			return fmt.Errorf("entry %d: %w: more than %d hosts", i, ErrCorrupt, maxHosts)
		}
	}
	return nil
}

func (r *replay) all(ctx context.Context) (err error) {
	if r.dev, err = r.device(); err != nil {
		return err
	}
	defer func() { _ = r.dev.Close() }() // the transcript may have ended before the device
	defer r.release()
	return r.run(ctx)
}

// replay is a replay in progress.
type replay struct {
	t     *Transcript
	dev   *vsmmu.Device
	stall time.Duration

	moving moving // registers that the device changes
	hosts  map[uint32]*replayHost
	asking map[uint32]bool  // by host: it is a bridge.STERefetcher
	claims map[uint32][]int // by host: the entries of failed claims that follow
	renewals

	mu       sync.Mutex
	progress sync.Cond
	expected map[Channel][]int // the entries that the device has not done yet
	done     []bool            // by entry: the device has done it
	reads    reads
	executed uint64 // commands that the device has executed
	stage    string // of the guest's boot: the last note
	at       int    // the current entry
	event    int    // the entry of the last event
	released bool   // comparing has ended
	err      error  // the first difference
}

// byDevice reports whether an entry is an action of the device. Replay compares such an entry, and
// answers it if it is a call.
func byDevice(b Body) bool {
	switch b.(type) {
	case *Return, *MemWrite, *HostCapabilities, *HostAttach, *HostBind, *HostDetach, *HostInvalidate,
		*HostRefetcher, *HostRespond, *HostResume, *HostTerminate, *Pulse, *MSI, *Command, *Event, *PageRequest:
		return true
	}
	return false
}

func newReplay(t *Transcript, stall time.Duration, renewing bool) *replay {
	r := &replay{
		t: t, stall: stall, expected: map[Channel][]int{}, done: make([]bool, len(t.Entries)),
		hosts: map[uint32]*replayHost{}, asking: map[uint32]bool{}, claims: map[uint32][]int{},
		moving: moving{}, renewals: newRenewals(renewing),
	}
	r.progress.L = &r.mu
	r.reads.learn(t.Entries)
	for i, e := range t.Entries {
		switch b := e.Body.(type) {
		case *HostClaim:
			r.claims[b.Host] = append(r.claims[b.Host], i)
		case *HostRefetcher:
			r.asking[b.Host] = true
		case *Restore:
			r.restores = i
		}
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

// device returns a new device whose actions are compared.
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

// run replays the entries in order.
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
			if h := r.hosts[b.Host]; h != nil {
				h.sink(b.Event)
			}
		case *PageFault:
			if h := r.hosts[b.Host]; h != nil {
				h.pages(b.Request)
			}
		case *Refetch:
			if h := r.hosts[b.Host]; h != nil {
				h.refetch(b.StreamID)
			}
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

// call makes a call of the embedder. Its result is an entry of its own.
func (r *replay) call(c *Call) (err error) {
	switch c.Op {
	case OpAttach:
		if err = r.dev.Attach(c.StreamID, r.host(c.Host), replayEndpoint{}); err == nil {
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

// load makes a load of the guest and compares the value. It waits for the device if the value does
// not fit yet.
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

// await waits until the device has done an entry.
func (r *replay) await(i int) {
	r.wait(func() bool { return r.done[i] }, func() { r.differ(r.t.Entries[i].Body, nil) })
}

// wait waits until ok returns true. It calls late instead if the device does nothing for r.stall.
// r.mu is held during both calls.
func (r *replay) wait(ok func() bool, late func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	// wait counts polls and does not use the clock, which advances even if the whole machine is
	// suspended.
	var waited time.Duration
	for tries := 0; r.err == nil && !ok(); tries++ {
		switch {
		case tries < 1000: // most waits take microseconds
			r.mu.Unlock()
			runtime.Gosched()
			r.mu.Lock()
		case waited >= r.stall:
			late()
			return
		default:
			again := time.AfterFunc(lookEvery, func() {
				r.mu.Lock() // after Wait has begun
				defer r.mu.Unlock()
				waited += lookEvery
				r.progress.Broadcast()
			})
			r.progress.Wait()
			again.Stop()
		}
	}
}

// answer compares an action of the device with the next entry of its channel, and returns that
// entry, which holds the recorded answer. It returns nil if there is none: after a difference or a
// cut.
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

// claimed answers a step of claiming or releasing a host. The answer is the recorded error, if the
// error's entry is between the current call and its return. The goroutine of run calls it.
func (r *replay) claimed(host uint32, step ClaimStep) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.claims[host]
	if r.released || r.between || r.err != nil || len(next) == 0 {
		return nil
	}
	claim := r.t.Entries[next[0]].Body.(*HostClaim)
	if claim.Step != step || !r.within(next[0]) {
		return nil
	}
	r.claims[host] = next[1:]
	return claim.Err.err()
}

// within reports whether an entry lies between the current call and its return. r.mu is held.
func (r *replay) within(entry int) bool {
	call, ok := r.t.Entries[r.at].Body.(*Call)
	if !ok || entry < r.at {
		return false
	}
	for _, e := range r.t.Entries[r.at:entry] {
		if ret, ok := e.Body.(*Return); ok && ret.Op == call.Op && ret.StreamID == call.StreamID {
			return false
		}
	}
	return true
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

// same reports whether two entries have the same kind and equal compared fields.
func same(a, b Body) bool {
	if reflect.TypeOf(a) != reflect.TypeOf(b) {
		return false
	}
	var x, y coder
	a.question(&x)
	b.question(&y)
	return bytes.Equal(x.b, y.b)
}

// differ ends the replay with a difference. r.mu is held.
func (r *replay) differ(want, got Body) {
	if r.err != nil || r.released {
		return
	}
	d := &Difference{Entry: r.at, At: r.t.Entries[r.at].At, Stage: r.stage, Want: want, Got: got}
	d.explain(&r.reads, r.executed, r.t.IDs)
	r.err = d
	r.progress.Broadcast()
}

// release ends comparing, so that the device can be closed.
func (r *replay) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.released = true
}

// host returns host n, as a bridge.STERefetcher if the recorded host was one.
func (r *replay) host(n uint32) bridge.Host {
	h := r.hosts[n]
	if h == nil {
		h = &replayHost{r: r, number: n, sink: func(smmuv3.Event) {}, pages: func(smmuv3.PageRequest) {}}
		h.refetch = func(smmuv3.StreamID) bool { return false }
		r.hosts[n] = h
	}
	if r.asking[n] {
		return replayRefetcher{h}
	}
	return h
}
