package soft

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// walkAt returns the state of a walk that begins at a time.
func walkAt(now uint64) *walkState { return &walkState{now: now} }

func TestTLBSize(t *testing.T) {
	assert.EqualValues(t, 128, unsafe.Sizeof(tlbSet{}), "two cache lines a set")
	for _, entries := range []int{1, 8, 9, 4096, 4097, MaxTLBEntries} {
		held := len(newTLB(entries).sets) * ways
		assert.GreaterOrEqual(t, held, entries)
		assert.Less(t, held, 2*max(entries, 2*ways))
	}
}

// A lookup never returns another address's entry, while a writer gives one way alternately to two
// addresses.
func TestLookupsSeeWholeEntries(t *testing.T) {
	const enough, most = 500_000, 100_000_000
	tl := newDomain(newTLB(8), 0, ofStage1)
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

// The same address in different address spaces has separate entries, in any set.
func TestEntriesBelongToOneAddressSpace(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
	var clock atomic.Uint64
	for asid := range smmuv3.ASID(64) {
		tl.insert(space{asid: asid}, 0x1000, leaf{pa: uint64(asid) << 12, size: 12, perms: unprivRead}, walkAt(0), &clock)
		for other := range smmuv3.ASID(64) {
			tr, ok := tl.lookup(space{asid: other}, 0x1000, unprivRead)
			assert.True(t, !ok && other != asid || tr.pa == uint64(other)<<12, "ASID %d", other)
		}
	}
}

func TestLookupOfALockedSetMisses(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
	var clock atomic.Uint64
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	tl.insert(s, 0, l, walkAt(0), &clock)
	_, ok := tl.lookup(s, 0, unprivRead)
	require.True(t, ok)

	set := tl.set(s.key(0, 12), 1)
	set.lock()
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.False(t, ok)
	other := uint64(0x1000)
	for tl.set(s.key(other, 12), 1) != set {
		other += 0x1000
	}
	tl.insert(s, other, l, walkAt(0), &clock) // does not wait for the writer of the set
	assert.False(t, set.tryLock())
	set.unlock()
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.True(t, ok)
	_, ok = tl.lookup(s, other, unprivRead)
	assert.False(t, ok)
}

// The TLB holds the result of a walk that begins after an invalidation.
func TestTranslationsAreHeldAfterAnInvalidation(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
	var clock atomic.Uint64
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	for name, invalidate := range map[string]func(now uint64){
		"all":   tl.invalidateAll,
		"ASID":  func(now uint64) { tl.invalidateASID(1, now) },
		"place": func(now uint64) { tl.invalidatePlace(0, 12, now) },
	} {
		invalidate(clock.Add(2))
		_, ok := tl.lookup(s, 0, unprivRead)
		require.False(t, ok, name)
		tl.insert(s, 0, l, walkAt(clock.Load()), &clock)
		_, ok = tl.lookup(s, 0, unprivRead)
		assert.True(t, ok, name)
	}
}

// A walk inserts nothing if any invalidation overtook it. The invalidation may apply to this entry,
// and may be complete.
func TestInsertDropsAnOvertakenWalk(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
	var clock atomic.Uint64
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	now := clock.Load()
	clock.Add(2)
	tl.insert(s, 0, l, walkAt(now), &clock)
	_, ok := tl.lookup(s, 0, unprivRead)
	assert.False(t, ok)
	tl.insert(s, 0, l, walkAt(clock.Load()), &clock)
	_, ok = tl.lookup(s, 0, unprivRead)
	assert.True(t, ok)
}

// A walk that begins during a batch inserts nothing. It may use a table that the batch makes stale,
// and the batch may already have cleared this entry.
func TestInsertDropsAWalkThatBeginsDuringABatch(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
	s := space{asid: 1}
	l := leaf{pa: 0x5000, size: 12, perms: unprivRead}
	const batch = 6
	for now, want := range map[uint64]bool{batch - 1: false, batch: true} {
		var clock atomic.Uint64
		clock.Store(now)
		va := now << 12
		tl.insert(s, va, l, walkAt(now), &clock)
		_, ok := tl.lookup(s, va, unprivRead)
		assert.Equal(t, want, ok, "time %d", now)
	}
}

// clear does not lock a set without the key. But it waits for a set that is being written, since
// the writer may insert the key.
func TestClearWaitsForTheWriterOfASet(t *testing.T) {
	tl := newDomain(newTLB(8), 0, ofStage1)
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
		t.Fatal("clear did not wait")
	default:
	}
	set.ways[0].key.Store(key)
	set.ways[0].data.Store(tlbData(0x5000, 1, unprivRead))
	set.unlock()
	<-over
	assert.Zero(t, set.ways[0].key.Load())
}

// The counts of regions equal the ways in use after any sequence of inserts, replacements and
// clears. If a count were too low, an invalidation would skip an entry.
func TestRegionsCountTheWaysInUse(t *testing.T) {
	tl := newDomain(newTLB(64), 0, ofStage1)
	var clock atomic.Uint64
	dice := rand.New(rand.NewPCG(1, 2))
	used := 0
	for range 5000 {
		s := space{asid: smmuv3.ASID(dice.IntN(3)), aset: dice.IntN(2) == 0}
		page := dice.Uint64N(256)
		l := leaf{size: 12 + 9*uint(dice.IntN(2)), perms: unprivRead, global: dice.IntN(4) == 0}
		switch dice.IntN(8) {
		case 0:
			tl.invalidateRange(span{page << l.size, (page + dice.Uint64N(80)) << l.size, 1 << l.size}, s.asid, false, 0)
		case 1:
			tl.insert(s, page<<l.size, l, walkAt(clock.Load()-1), &clock) // overtaken
		default:
			tl.insert(s, page<<l.size, l, walkAt(clock.Load()), &clock)
		}
		want := make([]int32, len(tl.held))
		for i := range tl.sets {
			for j := range tl.sets[i].ways {
				w := &tl.sets[i].ways[j]
				if key := w.key.Load(); key != 0 {
					for k := range tl.held {
						if tl.region(key, smmuv3.ASID(w.data.Load()>>8)) == &tl.held[k] {
							want[k]++
							used++
						}
					}
				}
			}
		}
		for k := range want {
			require.Equal(t, want[k], tl.held[k].Load())
		}
	}
	assert.NotZero(t, used)
}

// §4.4.2.4: a range invalidates each of its pages and no other, for any start and end within its
// regions.
func TestClearPagesClearsItsRangeOnly(t *testing.T) {
	const pages = 4 << logRegion
	for _, r := range [][2]uint64{{0, 0}, {31, 31}, {31, 32}, {1, 31}, {0, 31}, {32, 63}, {5, 70}, {40, 127}, {127, 127}} {
		tl := newDomain(newTLB(1024), 0, ofStage1)
		var clock atomic.Uint64
		s := space{asid: 1}
		for page := range uint64(pages) {
			tl.insert(s, page<<12, leaf{pa: page << 12, size: 12, perms: unprivRead}, walkAt(0), &clock)
		}
		tl.clearPages(12, 2, r[0], r[1])
		tl.clearPages(21, 1, r[0], r[1])
		tl.clearPages(12, 1, r[0], r[1])
		for page := range uint64(pages) {
			_, ok := tl.lookup(s, page<<12, unprivRead)
			assert.Equal(t, page < r[0] || page > r[1], ok, "page %d of %d to %d", page, r[0], r[1])
		}
	}
}

// A range continues after a region that holds nothing.
func TestRangeContinuesPastAnEmptyRegion(t *testing.T) {
	const page = 5<<logRegion + 3
	for _, global := range []bool{false, true} {
		tl := newDomain(newTLB(1024), 0, ofStage1)
		var clock atomic.Uint64
		s := space{asid: 1}
		tl.insert(s, page<<12, leaf{pa: 0x5000, size: 12, perms: unprivRead, global: global}, walkAt(0), &clock)
		_, ok := tl.lookup(s, page<<12, unprivRead)
		require.True(t, ok)
		tl.invalidateRange(span{(page - 40) << 12, page << 12, 1 << 12}, 1, false, 1)
		_, ok = tl.lookup(s, page<<12, unprivRead)
		assert.False(t, ok, "global: %v", global)
	}
}
