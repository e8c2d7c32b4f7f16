package guestmem

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

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

		first.place.Store(stale + 1)
		over := drained(&s)
		assert.False(t, over.Load(), "in a place")
		first.Leave()
		settle(over)

		crowd := Section{crowd: &s.crowd[1-s.epoch.Load()&1]}
		crowd.crowd.Add(1)
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
			for range numPlaces + 3 {
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
		assert.Zero(t, s.crowd[0].Load()|s.crowd[1].Load())
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
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				section := s.Enter()
				v := current.Load()
				for range 3 {
					if v.Load() == gone {
						t.Error("used after the drain")
						section.Leave()
						return
					}
				}
				section.Leave()
			}
		})
	}
	for range rounds {
		old := current.Swap(fresh())
		s.Drain()
		old.Store(gone)
	}
	close(stop)
	wg.Wait()
}
