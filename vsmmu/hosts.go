package vsmmu

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// batchMax is the largest number of invalidations in one call of a host. Invalidations take effect
// at the guest's next SYNC (§4.8), so they are batched until the SYNC or until the batch is full.
const batchMax = 512

// host is a bridge.Host and the invalidations batched for it.
type host struct {
	bridge.Host
	name      string
	counts    hostCounts
	streams   int  // number of attached streams
	refetches bool // the device has called SetSTERefetch of bridge.STERefetcher
	// unstalled is set if the host can stall transactions and the guest's ID registers exclude
	// that.
	unstalled bool
	// outOfSync is set while the host may hold stale configuration or translations: an invalidation
	// and the resync after it failed, or the host had no stream to invalidate for. Until a resync
	// succeeds, streams that would translate abort. Streams that bypass continue: they use no stale
	// entries, and their endpoints have no ATS (§6.3.9.6, §5.2, EATS).
	outOfSync bool
	atc       bool // batch has an ATC_INV
	n         int
	batch     [batchMax]smmuv3.Command
}

// hostOf returns the host of a stream. Package trap has hosts of this type only.
func hostOf(st *trap.Stream) *host { return st.Host.(*host) }

// streamsOf calls f for each stream of a host.
func (d *Device) streamsOf(h *host, f func(*trap.Stream)) {
	for _, st := range d.streams.All() {
		if st.Host == h {
			f(st)
		}
	}
}

// checkHost returns an error if a device cannot register such a host.
func checkHost(b bridge.Host) error {
	switch {
	case b == nil:
		return fmt.Errorf("%w: host is nil", ErrConfig)
	case nilcheck.IsNil(b):
		return fmt.Errorf("%w: host is a nil %T", ErrConfig, b)
	case !reflect.ValueOf(b).Comparable():
		return fmt.Errorf("%w: host of type %T cannot be compared with ==", ErrConfig, b)
	}
	return nil
}

// register claims a host for the device. known is true if the device had claimed it before.
func (d *Device) register(b bridge.Host) (h *host, known bool, err error) {
	if h := d.registered[b]; h != nil {
		return h, true, nil
	}
	h = &host{Host: b, name: fmt.Sprintf("%T", b)}
	if d.reentry != nil {
		h.Host = checkedHost{b, d.reentry}
	}
	caps, err := h.Capabilities()
	if err != nil {
		return nil, false, fmt.Errorf("host capabilities: %w", err)
	}
	if err := d.suits(b, caps); err != nil {
		return nil, false, err
	}
	h.unstalled = stallsUnshown(caps.IDs, *d.ids)
	if err := d.claim(h, b); err != nil {
		return nil, false, err
	}
	d.registered[b] = h
	d.claims = append(d.claims, h)
	return h, false, nil
}

// suits returns an error if a host lacks a feature of the guest's ID registers, or the methods for
// it.
func (d *Device) suits(b bridge.Host, caps bridge.Capabilities) error {
	if err := idr.Satisfies(caps, *d.ids); err != nil {
		return err
	}
	if _, ok := b.(bridge.Staller); !ok && stallsShown(d.ids) {
		return fmt.Errorf("%w: host of type %T offers stalls but is not a bridge.Staller", ErrConfig, b)
	}
	if _, ok := b.(bridge.PageRequester); !ok && d.ids.Has(smmuv3.PRI) {
		return fmt.Errorf("%w: host of type %T offers IDR0.PRI but is not a bridge.PageRequester", ErrConfig, b)
	}
	return nil
}

// claim claims a host for this device. It fails with bridge.ErrInUse if another device has claimed
// the host. A failed claim changes nothing. b is the unwrapped host, whose type shows its optional
// methods.
func (d *Device) claim(h *host, b bridge.Host) error {
	_, refetches := b.(bridge.STERefetcher)
	if err := h.Events(func(ev smmuv3.Event) { d.hostEvent(ev, !refetches) }); err != nil {
		return err
	}
	err := h.SetGuestIDs(*d.ids)
	if err == nil && d.ids.Has(smmuv3.PRI) {
		err = h.Host.(bridge.PageRequester).PageRequests(func(r smmuv3.PageRequest) { d.pageRequest(h, r) })
	}
	if err != nil {
		return errors.Join(err, h.Events(nil))
	}
	if refetches {
		h.refetches = true
		h.Host.(bridge.STERefetcher).SetSTERefetch(d.refetchSTE)
	}
	return nil
}

// release lets another device claim the host. The host's streams are closed. The host itself may be
// closed.
func (d *Device) release(h *host) error {
	for b, known := range d.registered {
		if known == h {
			delete(d.registered, b)
			if !d.closed {
				d.claims = slices.DeleteFunc(d.claims, func(k *host) bool { return k == h })
			}
		}
	}
	if h.refetches {
		h.Host.(bridge.STERefetcher).SetSTERefetch(nil)
	}
	var err error
	if d.ids.Has(smmuv3.PRI) {
		err = h.Host.(bridge.PageRequester).PageRequests(nil)
	}
	// Events comes last: afterwards another device may claim the host.
	err = errors.Join(err, h.Events(nil))
	if noDMA(err) {
		return nil
	}
	return err
}

// hostEvent delivers an event from a host. With refetch, an F_STE_FETCH makes the engine refetch
// the STE for the next transaction.
func (d *Device) hostEvent(ev smmuv3.Event, refetch bool) {
	d.deliver(ev)
	if refetch && ev.Type() == smmuv3.FSTEFetch {
		d.requestRefetch()
	}
}

// addStream counts a stream that has just been attached, and binds the stage that its configuration
// describes.
func (d *Device) addStream(h *host, st *trap.Stream) {
	h.streams++
	if h.streams == 1 {
		d.hosts = append(d.hosts, h)
	}
	if h.outOfSync && !d.failed.Load() {
		_ = d.resync(h)
		if !h.outOfSync {
			return // resync has refreshed the stream
		}
	}
	d.refresh(st)
}

// removeStream counts a stream that has just been detached. A host without streams may be gone and
// gets no more calls. It is out of sync, so that its next stream resynchronises it.
func (d *Device) removeStream(h *host) {
	h.streams--
	if h.streams == 0 {
		d.hosts = slices.DeleteFunc(d.hosts, func(k *host) bool { return k == h })
		h.outOfSync = true
		h.discard()
	}
}

// invalidate makes the host execute the batch, which the caller discards.
func (h *host) invalidate() error {
	h.counts.commands += uint64(h.n)
	return h.count(CallInvalidate, h.Invalidate(h.batch[:h.n]))
}

// discard empties the batch.
func (h *host) discard() { h.n, h.atc = 0, false }

// batch adds a command, which is two words in registers, to a host's batch. A full batch is
// executed.
func (d *Device) batch(h *host, dw0, dw1 uint64) {
	if h.outOfSync {
		return // resync covers it
	}
	h.batch[h.n][0], h.batch[h.n][1] = dw0, dw1
	h.n++
	d.owed = true
	if h.n == batchMax {
		d.flushHost(h)
	}
}

// batchAll adds a command to every host's batch.
func (d *Device) batchAll(dw0, dw1 uint64) {
	for _, h := range d.hosts {
		d.batch(h, dw0, dw1)
	}
}

// filled returns how many hosts' batches n commands may fill. These hosts are called before the
// next SYNC.
func (d *Device) filled(n uint32) (full int) {
	for _, h := range d.hosts {
		if h.n+int(n) >= batchMax {
			full++
		}
	}
	return full
}

// due returns the number of host calls that flush may make if none fails: one for each host, and
// the calls that refresh the streams of a resynchronised host.
func (d *Device) due() (calls int) {
	for _, h := range d.hosts {
		calls++
		if h.outOfSync {
			calls += d.mostCalls(h.streams)
		}
	}
	return calls
}

// flush makes every host execute its batch, and resynchronises those that are out of sync.
func (d *Device) flush() {
	d.owed = false
	for _, h := range d.hosts {
		if h.outOfSync {
			_ = d.resync(h)
		} else {
			d.flushHost(h)
		}
	}
}

func (d *Device) flushHost(h *host) {
	if h.n == 0 {
		return
	}
	d.counts.invalidations++
	err := h.invalidate()
	h.discard()
	switch {
	case err == nil:
	case errors.Is(err, bridge.ErrATCTimeout):
		d.endpointFailed(err)
	default:
		d.hostFailed("host failed to invalidate; invalidating everything", err)
		_ = d.resync(h) // it counts its own failure
	}
}

// usesATS reports whether a stream's endpoint may use ATS now. If not, an ATC_INV for it has no
// effect: the endpoint cannot use the translations it holds, and may not answer. When the stream
// may use ATS again, dropATC invalidates all of them.
func usesATS(st *trap.Stream) bool { return st.EATS() != smmuv3.EATSNone }

// dropATC invalidates all translations that an endpoint holds.
func (d *Device) dropATC(st *trap.Stream) {
	h := hostOf(st)
	for _, c := range smmuv3.NewATCInvAll(st.ID) {
		d.batch(h, c[0], c[1])
	}
	d.flushHost(h)
}
