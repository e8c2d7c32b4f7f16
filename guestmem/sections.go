package guestmem

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Sections is sleepable RCU (SRCU). It protects an object that an updater removes while readers use
// it, such as a slot of memory or a translation. Enter begins a read-side critical section, and
// Leave ends it. Drain is the synchronize operation: it waits for the sections that began before
// it.
//
// A reader enters a section, looks the object up, uses it, and leaves. A section may sleep, and may
// end in another goroutine. Enter and Leave never wait. An updater makes the object unreachable,
// calls Drain, and then frees it.
//
// The zero value is ready for use. All methods may be called from any goroutine.
type Sections struct {
	epoch atomic.Uint64 // number of drains that have begun
	used  atomic.Uint64 // a bit for each place that was ever taken; Drain looks at no other
	_     [cacheLines - 16]byte

	// A section takes a place of its own. No other processor writes to it, so Leave is a plain
	// store. The mark of a taken place is the epoch at Enter, plus 1. Drain waits for marks of
	// earlier epochs only, and not for sections that begin during the Drain.
	places [Places]struct {
		mark atomic.Uint64
		_    [cacheLines - 8]byte
	}

	drain sync.Mutex
	// overflow counts the sections that have no place, by the parity of their epoch.
	overflow [2]atomic.Int64
}

// cacheLines is the number of bytes that one processor's write invalidates in other caches. It is
// two lines, since processors prefetch lines in pairs.
const cacheLines = 128

const logPlaces = 5

// Places is the number of sections that can have a place of their own at the same time.
const Places = 1 << logPlaces

// Section is a read-side critical section. The zero value is none.
type Section struct {
	mark     *atomic.Uint64 // of its place
	overflow *atomic.Int64  // if it has no place
	place    uint           // the index of its place
	epoch    uint64         // read after it took its place
}

// Place returns a number below Places that no other section has at the same time, or Places if
// there were too many sections.
func (s Section) Place() uint { return s.place }

// Epoch returns the number of drains that had begun when the section took its place. Other sections
// of the same epoch may use the result of a lookup in this section, if it has a place: an updater's
// Drain waits for all of them.
func (s Section) Epoch() uint64 { return s.epoch }

// Enter begins a section. Sections may nest.
func (s *Sections) Enter() Section {
	i := preferredPlace()
	mark := &s.places[i].mark
	if s.used.Load()>>i&1 != 0 && mark.CompareAndSwap(0, s.epoch.Load()+1) {
		return Section{mark: mark, place: uint(i), epoch: s.epoch.Load()}
	}
	return s.enterElsewhere(i)
}

// enterElsewhere enters a section if the place at i is taken or was never used.
func (s *Sections) enterElsewhere(i uint32) Section {
	for range Places {
		s.used.Or(1 << i)
		mark := &s.places[i].mark
		if mark.Load() == 0 && mark.CompareAndSwap(0, s.epoch.Load()+1) {
			return Section{mark: mark, place: uint(i), epoch: s.epoch.Load()}
		}
		i = (i + 1) % Places
	}
	n := &s.overflow[s.epoch.Load()&1]
	n.Add(1)
	return Section{overflow: n, place: Places}
}

// Leave ends the section. Call it once, from any goroutine. It has no effect on a zero Section.
func (s Section) Leave() {
	switch {
	case s.mark != nil:
		release(s.mark)
	case s.overflow != nil:
		s.overflow.Add(-1)
	}
}

// preferredPlace returns the place to try first. It derives the place from the address of the
// goroutine's stack. Goroutines that run at the same time thus rarely share a place. It may differ
// from call to call.
func preferredPlace() uint32 {
	const golden = 0x9e3779b1 // 2^32 over the golden ratio spreads equal strides
	var here byte
	return uint32(uintptr(unsafe.Pointer(&here))>>11) * golden >> (32 - logPlaces)
}

// Drain waits until all sections that began before it have ended. It must not be called within a
// section, since it would wait for that section forever.
func (s *Sections) Drain() {
	// A section may read the epoch, and then take its place only after that epoch has ended.
	//
	// If Drain has already looked at the place, the section began too late to reach the removed
	// object. Its mark is too old, so the next Drain waits for it without need. Its Epoch must not
	// be too old, or it would use earlier lookups of other sections. Enter therefore reads the
	// epoch again once it has the place.
	//
	// An overflow count has only two parities, so such late sections would count as sections of the
	// new epoch. Drain waits for them first.
	s.drain.Lock()
	defer s.drain.Unlock()
	old := s.epoch.Load()
	waitUntil(func() bool { return s.overflow[1-old&1].Load() == 0 })
	s.epoch.Store(old + 1)
	waitUntil(func() bool { return s.overflow[old&1].Load() == 0 })
	for used := s.used.Load(); used != 0; used &= used - 1 {
		mark := &s.places[bits.TrailingZeros64(used)].mark
		waitUntil(func() bool { m := mark.Load(); return m == 0 || m > old+1 })
	}
}

// waitUntil waits until done reports true. It yields first, since most sections last less than a
// microsecond. It sleeps later, since a section that sleeps may last long.
func waitUntil(done func() bool) {
	for tries := 0; !done(); tries++ {
		if tries < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(time.Duration(min(tries, 1000)) * time.Microsecond)
		}
	}
}
