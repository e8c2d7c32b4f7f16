package guestmem

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Sections lets those who withdraw something from use, a slot of memory or a
// translation, wait for those who may still be using it. Users enter a section
// before they look for the thing, and leave it when they are done; whoever
// withdraws first sees to it that nobody finds the thing any more, and then
// drains. To enter never waits, and nor does to leave.
//
// The zero value is ready. All methods may be called from any goroutine.
type Sections struct {
	epoch atomic.Uint64 // how many drains have begun
	used  atomic.Uint64 // a bit for each place that ever was taken: drains look there
	_     [cacheLines - 16]byte

	// A section takes a place for itself, near where its goroutine's last one
	// was: there no other processor writes, and to leave needs no more than a
	// store. A taken place has the epoch that the section found, plus 1: a drain
	// waits for those from before it, and not for those who keep coming.
	places [Places]struct {
		mark atomic.Uint64
		_    [cacheLines - 8]byte
	}

	drain sync.Mutex
	// crowd counts the sections that found every place taken, by the parity of
	// their epoch.
	crowd [2]atomic.Int64
}

// cacheLines is what one processor's write takes away from the others: two
// lines, since processors fetch them in pairs.
const cacheLines = 128

const logPlaces = 5

// Places is how many sections at a time have a place for themselves.
const Places = 1 << logPlaces

// Section is a stretch of time of one user. The zero value is none at all.
type Section struct {
	mark  *atomic.Uint64
	crowd *atomic.Int64 // instead of a place
	place uint          // its index
	epoch uint64        // that was found in the place
}

// Place is a number below Places that no other section has at the same time, or
// Places if there were too many.
func (s Section) Place() uint { return s.place }

// Epoch is which drains had begun when the section had its place. What was found
// in one section may be used in any other of the same epoch, without being
// looked for again: whoever withdraws it waits for that one, too.
func (s Section) Epoch() uint64 { return s.epoch }

// Enter begins a section. Sections may lie inside each other.
func (s *Sections) Enter() Section {
	i := home()
	mark := &s.places[i].mark
	if s.used.Load()>>i&1 != 0 && mark.CompareAndSwap(0, s.epoch.Load()+1) {
		return Section{mark: mark, place: uint(i), epoch: s.epoch.Load()}
	}
	return s.enterElsewhere(i)
}

// enterElsewhere is Enter where the place at i is taken, or new.
func (s *Sections) enterElsewhere(i uint32) Section {
	for range Places {
		s.used.Or(1 << i)
		mark := &s.places[i].mark
		if mark.Load() == 0 && mark.CompareAndSwap(0, s.epoch.Load()+1) {
			return Section{mark: mark, place: uint(i), epoch: s.epoch.Load()}
		}
		i = (i + 1) % Places
	}
	n := &s.crowd[s.epoch.Load()&1]
	n.Add(1)
	return Section{crowd: n, place: Places}
}

// Leave ends the section: once, though in whichever goroutine.
func (s Section) Leave() {
	if s.crowd != nil {
		s.crowd.Add(-1)
		return
	}
	release(s.mark)
}

// home is the place to try first. It differs between goroutines that run at the
// same time, as no two of them have a stack in the same place, but for chance;
// and it may change from call to call.
func home() uint32 {
	const golden = 0x9e3779b1 // 2^32 over the golden ratio spreads what comes in strides
	var here byte
	return uint32(uintptr(unsafe.Pointer(&here))>>11) * golden >> (32 - logPlaces)
}

// Drain returns when all sections have ended that began before. Called from
// within one it never does.
func (s *Sections) Drain() {
	// A section may have found an epoch and taken its place only when that had
	// passed. If it did so too late for this drain to see it, then what was
	// withdrawn before the drain was out of its reach; and the next one takes it for
	// older than it is. Hence a section that has its place looks again, for Epoch:
	// what others have kept is not out of its reach. Of the crowd, which has but two
	// parities, such latecomers are waited for first.
	s.drain.Lock()
	defer s.drain.Unlock()
	old := s.epoch.Load()
	await(func() bool { return s.crowd[1-old&1].Load() == 0 })
	s.epoch.Store(old + 1)
	await(func() bool { return s.crowd[old&1].Load() == 0 })
	for used := s.used.Load(); used != 0; used &= used - 1 {
		mark := &s.places[bits.TrailingZeros64(used)].mark
		await(func() bool { m := mark.Load(); return m == 0 || m > old+1 })
	}
}

// await returns when done does. Most sections last less than a microsecond; one
// that is held up may last for long, and is not worth a processor.
func await(done func() bool) {
	for tries := 0; !done(); tries++ {
		if tries < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(time.Duration(min(tries, 1000)) * time.Microsecond)
		}
	}
}
