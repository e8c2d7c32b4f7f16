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

// repeat runs step again and again in each of some goroutines, until step returns false or stop is
// called. stop waits for the goroutines.
func repeat(goroutines int, step func() bool) (stop func()) {
	var wg sync.WaitGroup
	var stopped atomic.Bool
	for range goroutines {
		wg.Go(func() {
			for !stopped.Load() && step() {
				runtime.Gosched() // otherwise waiters would get a processor only every 10 ms
			}
		})
	}
	return func() {
		stopped.Store(true)
		wg.Wait()
	}
}

// drained starts a drain, and returns a flag that becomes true when it is over.
func drained(s *Sections) *atomic.Bool {
	over := new(atomic.Bool)
	go func() {
		s.Drain()
		over.Store(true)
	}()
	synctest.Wait()
	return over
}

// settle advances the bubble's time until over is true.
func settle(over *atomic.Bool) {
	for range 10000 {
		if over.Load() {
			return
		}
		synctest.Wait()
		time.Sleep(time.Millisecond)
	}
	panic("the drain does not end")
}

func TestDrainWaitsForEarlierSectionsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		for range 3 { // each in another epoch
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

func TestDrainWaitsForTheOuterOfNestedSections(t *testing.T) {
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

// A section may read an epoch and take its place, or be counted, after that epoch has ended.
func TestDrainWaitsForSectionsMarkedWithAnEndedEpoch(t *testing.T) {
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

		late := Section{overflow: &s.overflow[1-s.epoch.Load()&1]}
		late.overflow.Add(1)
		over = drained(&s)
		assert.False(t, over.Load(), "without a place")
		late.Leave()
		settle(over)
	})
}

func TestDrainWaitsForSectionsWithoutAPlace(t *testing.T) {
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
				time.Sleep(time.Second) // the drain looks again meanwhile
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

func TestSectionMayEndInAnotherGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s Sections
		section := s.Enter()
		over := drained(&s)
		assert.False(t, over.Load())
		go section.Leave()
		settle(over)
	})
}

// Readers use a word that an updater replaces. The old word is set to garbage after the drain.
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
				return assert.Fail(t, "used after its grace period")
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

func TestEachPlaceBelongsToOneSectionAtATime(t *testing.T) {
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
	assert.EqualValues(t, Places, s.Enter().Place(), "no place is left")
	all[7].Leave()
	assert.Equal(t, all[7].Place(), s.Enter().Place())
}

func TestDrainEndsTheEpoch(t *testing.T) {
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

// The same as TestDrainIsAGracePeriod, with readers that look up once in an epoch and keep the
// result in their place.
func TestDrainIsAGracePeriodForCachedLookups(t *testing.T) {
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
		return k.v.Load() != gone || assert.Fail(t, "used after its grace period")
	})()
	for range rounds {
		old := current.Swap(fresh())
		s.Drain()
		old.Store(gone)
	}
}

func TestLeaveOfAZeroSectionHasNoEffect(t *testing.T) {
	Section{}.Leave()
}
