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

// ReplayRestored replays a transcript as Replay does, with a new device at every step. After each
// access by the guest, each fault of a host and each call by the embedder, it saves and closes the
// device, and restores the state into a new device. Save makes a device complete its work in
// progress. The guest sees no difference. A host may receive a batch of invalidations in parts.
// ReplayRestored does not replace the device while one of its hosts has no stream, or before the
// last recorded Restore.
//
// State that Save does not keep is lost each time. ReplayRestored therefore does not compare two
// things. Stalled transactions are not resumed, since their host is gone. A new device does not
// know that a host failed to invalidate or to abort.
func ReplayRestored(ctx context.Context, t *Transcript) error {
	return replayWithin(ctx, t, stall, true)
}

// renewals is the state that a replay needs to replace its device.
type renewals struct {
	renewing bool
	attached map[smmuv3.StreamID]uint32 // the host of each stream
	given    map[Channel]int            // of the next batch: the commands that the host has received
	restores int                        // the entry of the last Restore: no device is replaced before it
	between  bool                       // the device is being replaced; replay.mu guards it
}

func newRenewals(renewing bool) renewals {
	return renewals{renewing: renewing, attached: map[smmuv3.StreamID]uint32{}, given: map[Channel]int{}}
}

// lost reports whether a restored device omits the action of an entry.
func (r *renewals) lost(b Body) bool {
	_, resume := b.(*HostResume)
	return r.renewing && resume
}

// renew replaces the device if an entry is an input to it.
func (r *replay) renew(after Body) {
	switch after.(type) {
	case *Load, *Store, *Call, *Restore, *Fault, *PageFault, *Refetch:
	default:
		return
	}
	if r.beforeRestore() || r.idleHost() {
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
			r.err = fmt.Errorf("restore after entry %d (%v): %w", r.at, after, err)
		}
	}
}

// beforeRestore reports whether a recorded Restore follows. A Restore needs a device in its reset
// state.
func (r *replay) beforeRestore() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at < r.restores
}

// idleHost reports whether the device has a host without a stream. The device remembers that such a
// host may hold stale translations. A new device would not know this.
func (r *replay) idleHost() bool {
	busy := map[uint32]bool{}
	for _, n := range r.attached {
		busy[n] = true
	}
	for n, h := range r.hosts {
		if h.claimed && !busy[n] {
			return true
		}
	}
	return false
}

func (r *replay) restore(state []byte) error {
	dev, err := r.device()
	if err != nil {
		return err
	}
	r.dev = dev
	for _, sid := range slices.Sorted(maps.Keys(r.attached)) {
		if err := dev.Attach(sid, r.host(r.attached[sid]), replayEndpoint{}); err != nil {
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

// invalidate compares invalidations command by command, since Save flushes the batches of a device.
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
