package soft

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
)

// drained starts a drain and returns what says that it is over.
func drained(r *readers) *atomic.Bool {
	over := new(atomic.Bool)
	go func() {
		r.drain()
		over.Store(true)
	}()
	synctest.Wait()
	return over
}

func TestDrainWaitsForThoseWhoEnteredBeforeAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReaders()
		for range 3 { // the phase turns each time
			before := r.enter()
			over := drained(r)
			assert.False(t, over.Load())
			after := r.enter()
			before.leave()
			wait(over)
			after.leave()
		}
	})
}

// A transaction that read the phase and then was held up enters by the set that
// two drains later is the idle one.
func TestDrainWaitsForStragglers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReaders()
		straggler := &r.stripes[0].n[r.phase.Load()&1]
		wait(drained(r))
		straggler.Add(1)
		over := drained(r)
		assert.False(t, over.Load())
		straggler.Add(-1)
		wait(over)
	})
}

// wait lets the bubble's time go on until over; the bubble sees to it that this
// ends, by a deadlock if need be.
func wait(over *atomic.Bool) {
	for range 10000 {
		if over.Load() {
			return
		}
		synctest.Wait()
		nap()
	}
	panic("it is never over")
}
