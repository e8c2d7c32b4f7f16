package vsmmu

import (
	"errors"
	"fmt"
	"reflect"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// batchMax is how many invalidations a host is given in one call. The guest is
// owed their effect at its next SYNC and no sooner (§4.8), so they are gathered
// until then, or until there are this many.
const batchMax = 1024

// host is a bridge.Host, with the invalidations gathered for it.
type host struct {
	bridge.Host
	streams int // that are attached
	// unstalled says that transactions could stall, and the guest does not know.
	unstalled bool
	// suspect is set while the host may hold what the guest withdrew: an
	// invalidation has failed, and so has making good for it, or there was no
	// stream to invalidate for. Until that has been put right none of its streams
	// translates: those that would abort. Those that bypass go on: they use nothing of
	// what the host may hold, nor do their endpoints, which have no ATS meanwhile
	// (§6.3.9.6, §5.2, EATS).
	suspect bool
	atc     bool // batch has an ATC_INV
	n       int
	batch   [batchMax]smmuv3.Command
}

// hostOf is the host of a stream: trap was given no other kind.
func hostOf(st *trap.Stream) *host { return st.Host.(*host) }

// streamsOf calls f for each stream of a host.
func (d *Device) streamsOf(h *host, f func(*trap.Stream)) {
	for _, st := range d.streams.All() {
		if st.Host == h {
			f(st)
		}
	}
}

// admit takes a host in, if it is not in already.
func (d *Device) admit(b bridge.Host) (*host, error) {
	if b == nil || !reflect.ValueOf(b).Comparable() {
		return nil, fmt.Errorf("%w: a Host of type %T", ErrConfig, b)
	}
	if h := d.admitted[b]; h != nil {
		return h, nil
	}
	caps, err := b.Capabilities()
	if err != nil {
		return nil, fmt.Errorf("capabilities of the host: %w", err)
	}
	if err := idr.Satisfies(caps, *d.ids); err != nil {
		return nil, err
	}
	if err := d.mayStall(b); err != nil {
		return nil, err
	}
	pages, ok := b.(bridge.PageRequester)
	if d.ids.Has(smmuv3.PRI) && !ok {
		return nil, fmt.Errorf("%w: a host of type %T has IDR0.PRI and is no PageRequester", ErrConfig, b)
	}
	h := &host{Host: b, unstalled: stallsUnasked(caps.IDs, *d.ids)}
	if err := d.claim(h, pages); err != nil {
		return nil, err
	}
	d.admitted[b] = h
	return h, nil
}

// claim makes the host this device's. A host of another device is refused with
// bridge.ErrInUse.
func (d *Device) claim(h *host, pages bridge.PageRequester) error {
	asker, asks := h.Host.(bridge.STERefetcher)
	if err := h.Events(func(ev smmuv3.Event) { d.hostEvent(ev, !asks) }); err != nil {
		return fmt.Errorf("host: %w", err)
	}
	err := h.SetGuestIDs(*d.ids)
	if err == nil && d.ids.Has(smmuv3.PRI) {
		err = pages.PageRequests(func(r smmuv3.PageRequest) { d.pageRequest(h, r) })
	}
	if err != nil {
		return errors.Join(fmt.Errorf("host: %w", err), h.Events(nil))
	}
	if asks {
		asker.SetSTERefetch(d.refetchSTE)
	}
	return nil
}

// hostEvent delivers a fault from a host. With refetch, an F_STE_FETCH requests that the STE be fetched
// again for the next transaction.
func (d *Device) hostEvent(ev smmuv3.Event, refetch bool) {
	d.deliver(ev)
	if refetch && ev.Type() == smmuv3.FSTEFetch {
		d.requestRefetch()
	}
}

// release gives the host back, for another device to claim.
func (d *Device) release(h *host) error {
	err := h.Events(nil)
	if asker, ok := h.Host.(bridge.STERefetcher); ok {
		asker.SetSTERefetch(nil)
	}
	if d.ids.Has(smmuv3.PRI) {
		err = errors.Join(err, h.Host.(bridge.PageRequester).PageRequests(nil))
	}
	return err
}

// enlist counts a stream of a host that has just been attached, and moves the
// stream to where its configuration says.
func (d *Device) enlist(h *host, st *trap.Stream) {
	h.streams++
	if h.streams == 1 {
		d.hosts = append(d.hosts, h)
	}
	if h.suspect && !d.failed.Load() {
		_ = d.makeGood(h) // which refreshes it if it can
		if !h.suspect {
			return
		}
	}
	d.refresh(st)
}

// discharge counts a stream of a host that has just been detached. A host
// without streams is left alone, as it may well be gone; what the guest
// invalidates meanwhile is made up for when it has one again.
func (d *Device) discharge(h *host) {
	h.streams--
	if h.streams == 0 {
		d.hosts = slices.DeleteFunc(d.hosts, func(k *host) bool { return k == h })
		h.suspect = true
		h.discard()
	}
}

// discard empties the batch.
func (h *host) discard() { h.n, h.atc = 0, false }

// usesATS reports whether a stream's endpoint may use ATS now. Otherwise an ATC_INV for it has no effect: the
// endpoint may hold translations, but cannot use them, and may not even answer. It drops them when the
// stream may use ATS again.
func usesATS(st *trap.Stream) bool { return st.Stage().EATS != smmuv3.EATSNone }

// refreshCalls is how many calls of its host it may take to refresh a stream, where none fails.
func (d *Device) refreshCalls(st *trap.Stream) int {
	if usesATS(st) && hostOf(st).atc || !usesATS(st) && st.HasUsedATS() {
		return 2
	}
	return 1
}

// dropATC makes an endpoint drop all translations that it holds.
func (d *Device) dropATC(st *trap.Stream) {
	h := hostOf(st)
	for _, c := range smmuv3.NewATCInvAll(st.ID) {
		d.gather(h, c[0], c[1])
	}
	d.flushHost(h)
}

// gather adds a command, which is two words in registers, to a host's batch. A full
// batch is carried out.
func (d *Device) gather(h *host, dw0, dw1 uint64) {
	if h.suspect {
		return // making good will cover it
	}
	h.batch[h.n][0], h.batch[h.n][1] = dw0, dw1
	h.n++
	d.owed = true
	if h.n == batchMax {
		d.flushHost(h)
	}
}

// gatherAll adds a command to every host's batch.
func (d *Device) gatherAll(dw0, dw1 uint64) {
	for _, h := range d.hosts {
		d.gather(h, dw0, dw1)
	}
}

// filled is how many hosts' batches may become full by n commands, and so carried out,
// without any SYNC that would pay for that.
func (d *Device) filled(n uint32) (full int) {
	for _, h := range d.hosts {
		if h.n+int(n) >= batchMax {
			full++
		}
	}
	return full
}

// due is how many calls of hosts flush may take, where none fails: one for each, and if
// a host is made good for, one for each of its streams.
func (d *Device) due() (calls int) {
	for _, h := range d.hosts {
		calls++
		if h.suspect {
			d.streamsOf(h, func(st *trap.Stream) { calls += d.refreshCalls(st) })
		}
	}
	return calls
}

// flush has every host carry out what was gathered for it, and tries again to
// put right what a host is suspected of: what is owed.
func (d *Device) flush() {
	d.owed = false
	for _, h := range d.hosts {
		if h.suspect {
			_ = d.makeGood(h)
		} else {
			d.flushHost(h)
		}
	}
}

func (d *Device) flushHost(h *host) {
	if h.n == 0 {
		return
	}
	d.stats.invalidations.Add(1)
	err := h.Invalidate(h.batch[:h.n])
	h.discard()
	switch {
	case err == nil:
	case errors.Is(err, bridge.ErrATCTimeout):
		d.endpointFailed(err)
	default:
		d.hostFailed("host failed to invalidate; invalidating everything", err)
		_ = d.makeGood(h) // which is counted
	}
}

// endpointFailed is for an ATC_INV that timed out. All else has been invalidated, and a
// SYNC tells the guest.
func (d *Device) endpointFailed(err error) {
	d.hostFailed("an endpoint did not drop its translations", err)
	d.atcTimeout = true
}

// makeGood has a host drop all that it may hold of this guest, after an error
// of which nothing can be believed. If it cannot, its streams that translate abort,
// until it can at a later SYNC.
func (d *Device) makeGood(h *host) error {
	err := d.invalidateEverything(h)
	was, late := h.suspect, errors.Is(err, bridge.ErrATCTimeout)
	h.suspect = err != nil && !late
	if late {
		d.endpointFailed(err)
	}
	if h.suspect {
		d.stats.hostErrors.Add(1)
		d.owed = true
		err = fmt.Errorf("vsmmu: host may hold stale translations: %w", err)
		d.streamsOf(h, func(st *trap.Stream) { d.abort(st, err) })
	} else if was {
		d.streamsOf(h, func(st *trap.Stream) { d.refresh(st) })
		d.tellWatch()
	}
	return err
}

// invalidateEverything invalidates what a host may hold of this guest: the
// translations, each stream's Context Descriptors, and what the endpoints
// themselves cache. Whatever had been gathered goes with it. An endpoint that does not
// answer keeps nothing else from it, and any other error comes before that one.
func (d *Device) invalidateEverything(h *host) (err error) {
	h.discard()
	flush := func() {
		if err == nil || errors.Is(err, bridge.ErrATCTimeout) {
			if e := h.Invalidate(h.batch[:h.n]); e != nil {
				err = e
			}
		}
		h.n = 0
	}
	add := func(c smmuv3.Command) {
		if h.n == batchMax {
			flush()
		}
		h.batch[h.n] = c
		h.n++
	}
	add(smmuv3.NewTLBINSNHAll())
	d.streamsOf(h, func(st *trap.Stream) {
		if d.ids.Has(smmuv3.S1P) {
			add(smmuv3.NewCfgiCDAll(st.ID))
		}
		if usesATS(st) {
			for _, c := range smmuv3.NewATCInvAll(st.ID) {
				add(c)
			}
		}
	})
	flush()
	return err
}
