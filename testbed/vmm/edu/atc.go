package edu

import (
	"errors"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// atc is an Address Translation Cache. No lock is held while a translation is requested, since the
// request may wait for the host. An invalidation advances the epoch instead, and the ATC takes no
// translation that was requested in an earlier epoch.
type atc struct {
	mu    sync.Mutex
	epoch uint64
	held  []entry // the oldest first
}

// maxHeld is the number of translations that an ATC holds.
const maxHeld = 64

// tag holds the attributes of a translation's request. Another request may get another translation.
type tag struct {
	pasid                         uint32
	hasPASID, privileged, execute bool
}

func tagOf(a regs.Attrs) tag {
	return tag{a.PASID(), a.Has(regs.HasPASID), a.Has(regs.Privileged), a.Has(regs.Execute)}
}

type entry struct {
	tag
	soft.Translation
}

// grants reports whether a translation allows an access.
func (g tag) grants(t soft.Translation, write bool) bool {
	if write {
		return t.Write
	}
	return t.Read && (t.Execute || !g.execute)
}

// use calls access with the translated address, if a translation grants the access. An invalidation
// waits until access has returned.
func (c *atc) use(g tag, iova uint64, write bool, access func(guestmem.GPA) error) (hit bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.held {
		if e.tag == g && iova-e.IOVA < e.Len && g.grants(e.Translation, write) {
			return true, access(e.Addr + guestmem.GPA(iova-e.IOVA))
		}
	}
	return false, nil
}

func (c *atc) now() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// add adds a translation that was requested in an epoch, unless the epoch has passed.
func (c *atc) add(epoch uint64, g tag, t soft.Translation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return
	}
	c.held = slices.DeleteFunc(c.held, func(e entry) bool { return e.tag == g && overlap(e.Translation, t) })
	if len(c.held) == maxHeld {
		c.held = slices.Delete(c.held, 0, 1)
	}
	c.held = append(c.held, entry{g, t})
}

func overlap(a, b soft.Translation) bool { return a.IOVA-b.IOVA < b.Len || b.IOVA-a.IOVA < a.Len }

func (c *atc) invalidate(r soft.ATCRange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.held = slices.DeleteFunc(c.held, func(e entry) bool {
		return r.Reaches(e.Translation) && r.AppliesTo(smmuv3.SubstreamID(e.pasid), e.hasPASID)
	})
}

func (c *atc) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	c.held = nil
}

func (c *atc) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.held)
}

// maxAttempts limits how often a transaction requests a translation that is invalidated at once.
const maxAttempts = 16

// partByATS makes one transaction by a translation.
func (t *transfer) partByATS(l *life, iova uint64, p []byte) error {
	g, asked := tagOf(t.attrs), false
	for range maxAttempts {
		hit := false
		err := t.f.transact(l, t.attrs, func(port soft.Port) (err error) {
			access := func(addr guestmem.GPA) error { return t.translated(addr, p) }
			if hit, err = t.f.atc.use(g, iova, t.toMemory, access); hit {
				return err
			}
			epoch := t.f.atc.now()
			translation, err := port.Translate(iova, t.toMemory)
			switch {
			case err != nil:
				return err
			case !g.grants(translation, t.toMemory):
				return errNotGranted
			}
			t.f.atc.add(epoch, g, translation)
			return nil
		})
		switch {
		case hit:
			return err
		case errors.Is(err, errNotGranted) && !asked && t.attrs.Has(regs.AskForPages):
			asked = true
			if err := t.f.askForPage(l, t.attrs, iova, t.toMemory); err != nil {
				return err
			}
		case err != nil:
			return err
		}
	}
	return errNotGranted
}

// invalidate implements soft.ATS.
func (f *Function) invalidate(r soft.ATCRange) {
	f.mu.Lock()
	l, hang := f.life, f.hang
	f.mu.Unlock()
	if hang != nil {
		select {
		case <-hang:
		case <-l.Done():
			return // the reset has emptied the ATC
		}
	}
	f.atc.invalidate(r)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values.invalidations++
	if len(f.drops) < regs.LogSize {
		f.drops = append(f.drops, r)
	}
}
