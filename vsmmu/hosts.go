package vsmmu

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// batchMax is how many invalidations a host is given in one call. The guest is
// owed their effect at its next SYNC and no sooner (§4.8), so they are gathered
// until then, or until there are this many.
const batchMax = 1024

// host is a bridge.Host, with the invalidations gathered for it.
type host struct {
	bridge.Host
	// suspect is set when invalidations have failed, and so has making good for
	// them: the host may hold what the guest withdrew. Its streams abort until
	// that has been put right.
	suspect bool
	n       int
	batch   [batchMax]smmuv3.Command
}

func (d *Device) hostOf(h bridge.Host) *host {
	for _, k := range d.hosts {
		if k.Host == h {
			return k
		}
	}
	return nil
}

// streamsOf calls f for each stream of a host.
func (d *Device) streamsOf(h *host, f func(*trap.Stream)) {
	for _, st := range d.streams.All() {
		if st.Host == h.Host {
			f(st)
		}
	}
}

// gather adds a command to a host's batch. A full batch is carried out.
func (d *Device) gather(h *host, c smmuv3.Command) {
	h.batch[h.n] = c
	h.n++
	if h.n == batchMax {
		d.flushHost(h)
	}
}

// gatherAll adds a command to every host's batch.
func (d *Device) gatherAll(c smmuv3.Command) {
	for _, h := range d.hosts {
		d.gather(h, c)
	}
}

// flush has every host carry out what was gathered for it.
func (d *Device) flush() {
	for _, h := range d.hosts {
		d.flushHost(h)
	}
}

func (d *Device) flushHost(h *host) {
	n := h.n
	h.n = 0
	if h.suspect {
		d.makeGood(h)
		return
	}
	if n == 0 {
		return
	}
	d.stats.invalidations.Add(1)
	if err := h.Invalidate(h.batch[:n]); err != nil {
		d.stats.hostErrors.Add(1)
		d.report("host failed to invalidate; invalidating everything", err)
		d.makeGood(h)
	}
}

// makeGood has a host drop all that it may hold of this guest, after an error
// of which nothing can be believed. If it cannot, its streams abort.
func (d *Device) makeGood(h *host) {
	err := d.invalidateEverything(h)
	switch was := h.suspect; {
	case err == nil && was:
		h.suspect = false
		d.streamsOf(h, func(st *trap.Stream) { d.refresh(st) })
	case err != nil && !was:
		h.suspect = true
		why := fmt.Errorf("vsmmu: host holds stale translations: %w", err)
		d.streamsOf(h, func(st *trap.Stream) {
			outcome, err := d.streams.Abort(st, why)
			d.settle(st, outcome, err)
		})
	}
}

// invalidateEverything invalidates what a host may hold of this guest: the
// translations, each stream's Context Descriptors, and what the endpoints
// themselves cache. Whatever had been gathered goes with it.
func (d *Device) invalidateEverything(h *host) error {
	h.n = 0
	var err error
	add := func(c smmuv3.Command) {
		if h.n == batchMax && err == nil {
			err = h.Invalidate(h.batch[:h.n])
			h.n = 0
		}
		if err == nil {
			h.batch[h.n] = c
			h.n++
		}
	}
	add(smmuv3.NewTLBINSNHAll())
	d.streamsOf(h, func(st *trap.Stream) {
		add(smmuv3.NewCfgiCDAll(st.ID))
		if st.Stage().EATS != smmuv3.EATSNone {
			for _, c := range smmuv3.NewATCInvAll(st.ID) {
				add(c)
			}
		}
	})
	if err == nil {
		err = h.Invalidate(h.batch[:h.n])
	}
	h.n = 0
	return err
}
