package transcript

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// ReplayRestored is Replay with the device saved, thrown away, and restored into a
// new one after each access of the guest, fault of a host and call of the embedder:
// at every step, since Save has a device finish what it is at. The guest's side cannot
// tell; a host may be given a batch of invalidations in parts.
//
// What the architecture's own state does not hold is lost each time, so that two
// things are not compared, or may differ: stalled transactions are not resumed, as
// they have gone with the host; and a host that failed to invalidate, or took no
// abort, is not held against the next.
func ReplayRestored(ctx context.Context, t *Transcript) error {
	return replayWithin(ctx, t, stall, true)
}

// renewals are what a replay needs to know to put a device in the place of another.
type renewals struct {
	renewing bool
	attached map[smmuv3.StreamID]uint32 // to which host
	given    map[Channel]int            // of the batch that is next, how many commands the host has been given
	between  bool                       // one device is being replaced by the next; of replay.mu
}

func newRenewals(renewing bool) renewals {
	return renewals{renewing: renewing, attached: map[smmuv3.StreamID]uint32{}, given: map[Channel]int{}}
}

// lost reports whether an entry is not to be expected of a restored device.
func (r *renewals) lost(b Body) bool {
	_, resume := b.(*HostResume)
	return r.renewing && resume
}

// renew goes on with another device, if an entry is something that was done to it.
func (r *replay) renew(after Body) {
	switch after.(type) {
	case *Load, *Store, *Call, *Restore, *Fault, *PageFault:
	default:
		return
	}
	state, err := r.dev.Save()
	if errors.Is(err, vsmmu.ErrClosed) {
		return
	}
	r.setBetween(true)
	defer r.setBetween(false)
	if err == nil {
		err = r.dev.Close()
	}
	if err == nil {
		err = r.restore(state)
	}
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.err == nil {
			r.err = fmt.Errorf("after entry %d, %v, the device could not be restored: %w", r.at, after, err)
		}
	}
}

func (r *replay) restore(state []byte) error {
	dev, err := r.device()
	if err != nil {
		return err
	}
	r.dev = dev
	for _, sid := range slices.Sorted(maps.Keys(r.attached)) {
		if err := dev.Attach(sid, r.host(r.attached[sid]), nil); err != nil {
			return err
		}
	}
	return dev.Restore(state)
}

func (r *replay) setBetween(v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.between = v
}

func (r *replay) isBetween() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.between
}

// invalidate compares invalidations command by command: Save has the hosts carry out
// what has been gathered by then.
func (r *replay) invalidate(got *HostInvalidate) (err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ch := got.Channel()
	for left := got.Commands; len(left) > 0; {
		if r.released || r.between || r.err != nil {
			return nil
		}
		var next Body
		var want *HostInvalidate
		if len(r.expected[ch]) > 0 {
			next = r.t.Entries[r.expected[ch][0]].Body
			want, _ = next.(*HostInvalidate)
		} else if !r.t.Complete() {
			return nil
		}
		if want == nil {
			r.differ(next, got)
			return nil
		}
		rest := want.Commands[r.given[ch]:]
		n := min(len(rest), len(left))
		if !slices.Equal(rest[:n], left[:n]) {
			r.at = r.expected[ch][0]
			r.differ(want, got)
			return nil
		}
		left = left[n:]
		if r.given[ch] += n; n == len(rest) {
			r.did(r.expected[ch][0])
			r.expected[ch], r.given[ch] = r.expected[ch][1:], 0
			err = errors.Join(err, want.Err.err())
		}
	}
	return err
}
