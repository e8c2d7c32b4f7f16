package soft

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestSizesOfTheTLB(t *testing.T) {
	assert.EqualValues(t, 128, unsafe.Sizeof(tlbSet{}), "two cache lines a set")
	for _, entries := range []int{1, 8, 9, 4096, 4097, MaxTLBEntries} {
		held := len(newTLB(entries).sets) * ways
		assert.GreaterOrEqual(t, held, entries)
		assert.Less(t, held, 2*max(entries, 2*ways))
	}
}

// What is found under an address is never another address's, while a writer
// gives one way to the one and to the other all the time.
func TestLookupsSeeWholeEntries(t *testing.T) {
	const enough, most = 500_000, 100_000_000
	tl := newTLB(8)
	s := space{asid: 1}
	tl.forms.Store(1 << 12)
	paOf := func(va uint64) uint64 { return va*3 + 1<<40 }
	var addresses []uint64 // two of one set
	for va := uint64(0); len(addresses) < 2; va += 1 << 12 {
		if tl.set(s.key(va, 12), s.asid) == &tl.sets[0] {
			addresses = append(addresses, va)
		}
	}

	var wg sync.WaitGroup
	var stop atomic.Bool
	wg.Go(func() {
		set := &tl.sets[0]
		for i := 0; !stop.Load(); i++ {
			va := addresses[i%2]
			set.lock()
			set.ways[0].key.Store(s.key(va, 12))
			set.ways[0].data.Store(tlbData(paOf(va), s.asid, unprivRead))
			set.unlock()
		}
	})
	hits := 0
	for i := 0; hits < enough && i < most; i++ {
		va := addresses[i%2]
		if tr, ok := tl.lookup(s, va, unprivRead); ok {
			hits++
			if tr.pa != paOf(va) {
				t.Errorf("%#x at %#x", tr.pa, va)
				break
			}
		}
	}
	stop.Store(true)
	wg.Wait()
	assert.NotZero(t, hits)
}

// The same address in other address spaces, whichever set it falls into.
func TestEntriesAreOfOneAddressSpace(t *testing.T) {
	tl := newTLB(8)
	var clock atomic.Uint64
	for asid := range smmuv3.ASID(64) {
		tl.insert(space{asid: asid}, 0x1000, leaf{pa: uint64(asid) << 12, size: 12, perms: unprivRead}, 0, &clock)
		for other := range smmuv3.ASID(64) {
			tr, ok := tl.lookup(space{asid: other}, 0x1000, unprivRead)
			assert.True(t, !ok && other != asid || tr.pa == uint64(other)<<12, "ASID %d", other)
		}
	}
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
