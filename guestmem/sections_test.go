package guestmem

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// repeat has goroutines repeat a step, until it says that it is no use or stop is called, which
// waits for them.
func repeat(goroutines int, step func() bool) (stop func()) {
	var wg sync.WaitGroup
	var stopped atomic.Bool
	for range goroutines {
		wg.Go(func() {
			for !stopped.Load() && step() {
				runtime.Gosched() // who waits would get a few processors only every 10 ms
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}

// drained starts a drain and returns what says that it is over.
func drained(s *Sections) *atomic.Bool {
	over := new(atomic.Bool)
	go func() {
		s.Drain()
		over.Store(true)
	}()
	synctest.Wait()
	return over
}

// settle lets the bubble's time go on until over; the bubble sees to it that
// this ends, by a deadlock if need be.
func settle(over *atomic.Bool) {
	for range 10000 {
		if over.Load() {
			return
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
	}
	panic("it is never over")
}

func TestDrainWaitsForSectionsFromBeforeAndNoOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		for range 3 { // the phase turns each time
			before := s.Enter()
			over := drained(&s)
			assert.False(t, over.Load())
			after := s.Enter()
			before.Leave()
			settle(over)
			after.Leave()
		}
	})
}

func TestDrainWaitsForSectionsInsideOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		outer := s.Enter()
		over := drained(&s)
		inner := s.Enter()
		inner.Leave()
		synctest.Wait()
		assert.False(t, over.Load())
		outer.Leave()
		settle(over)
	})
}

// Who found an epoch, and then was held up until it had passed, is waited for
// all the same.
func TestDrainWaitsForStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		stale := s.epoch.Load()
		first := s.Enter()
		first.Leave()
		settle(drained(&s))
		settle(drained(&s))

		first.mark.Store(stale + 1)
		over := drained(&s)
		assert.False(t, over.Load(), "in a place")
		first.Leave()
		settle(over)

		crowd := Section{overflow: &s.overflow[1-s.epoch.Load()&1]}
		crowd.overflow.Add(1)
		over = drained(&s)
		assert.False(t, over.Load(), "in the crowd")
		crowd.Leave()
		settle(over)
	})
}

// More sections at a time than there are places.
func TestDrainWaitsForTheCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		for range 3 {
			var before []Section
			for range Places + 3 {
				before = append(before, s.Enter())
			}
			over := drained(&s)
			after := s.Enter()
			for _, section := range before {
				time.Sleep(time.Second) // the drain looks again and again
				assert.False(t, over.Load())
				section.Leave()
			}
			settle(over)
			after.Leave()
		}
		for i := range s.places {
			assert.Zero(t, s.places[i].mark.Load())
		}
		assert.Zero(t, s.overflow[0].Load()|s.overflow[1].Load())
	})
}

// A section that ends in another goroutine than it began in.
func TestSectionsMayChangeHands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		section := s.Enter()
		over := drained(&s)
		assert.False(t, over.Load())
		go section.Leave()
		settle(over)
	})
}

// What is withdrawn before a drain is used by nobody after it: here a word that
// is set to garbage when the drain is over.
func TestDrainIsAGracePeriod(t *testing.T) {
	const rounds, good, gone = 2000, 1, 0
	var s Sections
	var current atomic.Pointer[atomic.Int32]
	fresh := func() *atomic.Int32 { v := new(atomic.Int32); v.Store(good); return v }
	current.Store(fresh())
	defer repeat(3, func() bool {
		section := s.Enter()
		defer section.Leave()
		v := current.Load()
		for range 3 {
			if v.Load() == gone {
				return assert.Fail(t, "used after the drain")
			}
		}
		return true
	})()
	for range rounds {
		old := current.Swap(fresh())
		s.Drain()
		old.Store(gone)
	}
}

func TestPlacesAreOfOneSectionAtATime(t *testing.T) {
	var s Sections
	var all []Section
	taken := map[uint]bool{}
	for range Places {
		section := s.Enter()
		assert.Less(t, section.Place(), uint(Places))
		assert.False(t, taken[section.Place()])
		taken[section.Place()] = true
		all = append(all, section)
	}
	assert.EqualValues(t, Places, s.Enter().Place(), "one too many")
	all[7].Leave()
	assert.Equal(t, all[7].Place(), s.Enter().Place())
}

func TestADrainEndsAnEpoch(t *testing.T) {
	var s Sections
	enter := func() uint64 {
		section := s.Enter()
		defer section.Leave()
		return section.Epoch()
	}
	first := enter()
	assert.Equal(t, first, enter())
	s.Drain()
	assert.NotEqual(t, first, enter())
}

// The same as TestDrainIsAGracePeriod, for who does not look again in the same
// epoch, but keeps what was found in the place.
func TestDrainIsAGracePeriodForWhatIsKept(t *testing.T) {
	const rounds, good, gone = 20000, 1, 0
	var s Sections
	var current atomic.Pointer[atomic.Int32]
	var kept [Places]struct {
		epoch uint64
		v     *atomic.Int32
	}
	fresh := func() *atomic.Int32 { v := new(atomic.Int32); v.Store(good); return v }
	current.Store(fresh())
	defer repeat(3, func() bool {
		section := s.Enter()
		defer section.Leave()
		k := &kept[section.Place()]
		if k.v == nil || k.epoch != section.Epoch() {
			k.epoch, k.v = section.Epoch(), current.Load()
		}
		return k.v.Load() != gone || assert.Fail(t, "used after the drain")
	})()
	for range rounds {
		old := current.Swap(fresh())
		s.Drain()
		old.Store(gone)
	}
}
