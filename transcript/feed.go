package transcript

import (
	"runtime"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// feed orders the inputs that decide the outcome of events: the faults of hosts, and the guest's
// stores to EVENTQ_CONS and similar registers. Their entries have the same order. The device
// receives one fault at a time, and none between the start of such a store and its effect on the
// register.
//
// A fault does not wait for the rest of a store. A store may execute commands on its vCPU, and a
// host may execute them only after the device has taken the fault.
type feed struct {
	dev *vsmmu.Device

	mu      sync.Mutex
	idle    sync.Cond
	faulted bool // a fault is in progress
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

// feeds reports whether a store decides the outcome of events.
func feeds(off uint64) bool {
	switch word(off) {
	case smmuv3.RegEVENTQ_PROD, smmuv3.RegEVENTQ_CONS, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS, smmuv3.RegIRQ_CTRL:
		return true
	}
	return false
}

// store makes a store. It calls begin first, in order with the faults.
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

// fault delivers a fault to the device. It calls both functions in order with the stores.
func (f *feed) fault(begin, deliver func()) {
	f.mu.Lock()
	for f.faulted || !f.landed() {
		if f.faulted {
			f.idle.Wait()
			continue
		}
		f.mu.Unlock()
		runtime.Gosched() // a store reaches its register at once
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

// landed reports whether the stores in progress have reached their registers, in the bits that the
// registers keep. f.mu is held.
func (f *feed) landed() bool {
	for s := range f.stores {
		mask := uint32(smmuv3.IRQ_CTRL_GERROR_IRQEN | smmuv3.IRQ_CTRL_EVENTQ_IRQEN)
		switch s.off {
		case smmuv3.RegEVENTQ_CONS:
			mask = smmuv3.OverflowFlag | 1<<(f.dev.IDs().Get(smmuv3.EVENTQS)+1) - 1
		case smmuv3.RegEVENTQ_PROD, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS:
			return false // the device may ignore them; they return at once
		}
		if (uint32(f.dev.Load(s.off, 4))^s.v)&mask != 0 {
			return false
		}
	}
	return true
}
