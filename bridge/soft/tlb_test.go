package soft

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestSizesOfTheTLB(t *testing.T) {
	assert.EqualValues(t, 128, unsafe.Sizeof(tlbSet{}), "two cache lines a set")
	for _, entries := range []int{1, 8, 9, 4096, 4097, MaxTLBEntries} {
		held := len(newTLB(entries).sets) * ways
		assert.GreaterOrEqual(t, held, entries)
		assert.Less(t, held, 2*max(entries, 2*ways))
	}
}

// What is found under an address is never another address's, while writers
// replace entries all the time.
func TestLookupsSeeWholeEntries(t *testing.T) {
	const addresses = 64
	tl := newTLB(8)
	var clock atomic.Uint64
	paOf := func(va uint64) uint64 { return va*3 + 1<<40 }

	var wg sync.WaitGroup
	stop := make(chan struct{})
	for w := range uint64(2) {
		wg.Go(func() {
			for i := w; ; i += 7 {
				select {
				case <-stop:
					return
				default:
				}
				va := i % addresses << 12
				tl.insert(space{asid: 1}, va, leaf{pa: paOf(va), size: 12, perms: unprivRead}, 0, &clock)
			}
		})
	}
	hits := 0
	for i := 0; hits < 20000 && i < 50_000_000; i++ {
		va := uint64(i%addresses) << 12
		if tr, ok := tl.lookup(space{asid: 1}, va, unprivRead); ok {
			hits++
			require.Equal(t, paOf(va), tr.pa)
		}
	}
	close(stop)
	wg.Wait()
	assert.NotZero(t, hits)
}

func TestASetThatIsBeingWrittenIsAMiss(t *testing.T) {
	tl := newTLB(8)
	var clock atomic.Uint64
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	tl.insert(s, 0, l, 0, &clock)
	_, ok := tl.lookup(s, 0, unprivRead)
	require.True(t, ok)

	set := tl.set(s.key(0, 12), 1)
	set.lock()
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.False(t, ok)
	tl.insert(s, 0x1000, l, 0, &clock) // comes back, whichever set that is
	set.unlock()
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.True(t, ok)
}

// A walk that any invalidation overtook leaves nothing, whatever the
// invalidation was about: it may have been about this, and have come by already.
func TestAWalkThatWasOvertakenIsNotInserted(t *testing.T) {
	tl := newTLB(8)
	var clock atomic.Uint64
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	now := clock.Load()
	clock.Add(1)
	tl.insert(s, 0, l, now, &clock)
	_, ok := tl.lookup(s, 0, unprivRead)
	assert.False(t, ok)
	tl.insert(s, 0, l, clock.Load(), &clock)
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.True(t, ok)
}

// clear does not lock a set that has nothing to clear; one that is being written
// may be about to have it.
func TestClearWaitsForTheWriterOfASet(t *testing.T) {
	tl := newTLB(8)
	s := space{asid: 1}
	key := s.key(0, 12)
	set := tl.set(key, 1)
	set.lock()
	over := make(chan struct{})
	go func() {
		tl.clear(key, 1)
		close(over)
	}()
	for range 1000 {
		runtime.Gosched()
	}
	select {
	case <-over:
		t.Fatal("it has not waited")
	default:
	}
	set.ways[0].key.Store(key)
	set.ways[0].data.Store(tlbData(0x5000, 1, unprivRead))
	set.unlock()
	<-over
	assert.Zero(t, set.ways[0].key.Load())
}
