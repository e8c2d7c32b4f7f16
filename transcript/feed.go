package transcript

import (
	"runtime"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// feed puts what decides on the fate of events in one order, which is that of
// the entries: the faults of hosts, and the guest's stores to EVENTQ_CONS and
// the like. One fault at a time is given to the device, and none while such a
// store has begun and has not reached its register.
//
// A store is not waited for beyond that: it may have its vCPU carry out commands
// afterwards, for which a host may wait until the fault has been delivered.
type feed struct {
	dev *vsmmu.Device

	mu      sync.Mutex
	idle    sync.Cond
	faulted bool // a fault is under way
	stores  map[*feedStore]bool
}

type feedStore struct {
	off uint64
	v   uint32
}

func newFeed(d *vsmmu.Device) *feed {
	f := &feed{dev: d, stores: map[*feedStore]bool{}}
	f.idle.L = &f.mu
	return f
}

// feeds reports whether a store decides on what becomes of events.
func feeds(off uint64) bool {
	switch word(off) {
	case smmuv3.RegEVENTQ_PROD, smmuv3.RegEVENTQ_CONS, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS, smmuv3.RegIRQ_CTRL:
		return true
	}
	return false
}

// store makes a store. begin is called first, in order with the faults.
func (f *feed) store(off uint64, size int, v uint64, begin, store func()) {
	s := &feedStore{word(off), uint32(v)}
	if size == 8 && s.off != smmuv3.RegIRQ_CTRL {
		s = &feedStore{word(off + 4), uint32(v >> 32)} // CONS, which comes after PROD
	}
	f.mu.Lock()
	for f.faulted {
		f.idle.Wait()
	}
	begin()
	f.stores[s] = true
	f.mu.Unlock()
	store()
	f.mu.Lock()
	delete(f.stores, s)
	f.mu.Unlock()
}

// fault gives the device a fault. Both functions are called in order with the
// stores.
func (f *feed) fault(begin, deliver func()) {
	f.mu.Lock()
	for f.faulted || !f.landed() {
		if f.faulted {
			f.idle.Wait()
			continue
		}
		f.mu.Unlock()
		runtime.Gosched() // a store is on its way to a register: it takes no time
		f.mu.Lock()
	}
	f.faulted = true
	begin()
	f.mu.Unlock()
	deliver()
	f.mu.Lock()
	f.faulted = false
	f.idle.Broadcast()
	f.mu.Unlock()
}

// landed reports whether the stores under way have reached their registers, as
// far as these take them. f.mu is held.
func (f *feed) landed() bool {
	for s := range f.stores {
		mask := uint32(smmuv3.IRQ_CTRL_GERROR_IRQEN | smmuv3.IRQ_CTRL_EVENTQ_IRQEN)
		switch s.off {
		case smmuv3.RegEVENTQ_CONS:
			mask = smmuv3.OverflowFlag | 1<<(f.dev.IDs().Get(smmuv3.EVENTQS)+1) - 1
		case smmuv3.RegEVENTQ_PROD, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS:
			return false // they may be ignored; but they return at once, and are done then
		}
		if (uint32(f.dev.Load(s.off, 4))^s.v)&mask != 0 {
			return false
		}
	}
	return true
}
