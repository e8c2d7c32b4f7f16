package soft

import (
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tlb caches translations. Lookups take no lock; inserting one, and clearing
// one, lock the set of four that it is in.
//
// Invalidating an ASID, or everything, is a store: an entry has the time at
// which its walk began, and counts while that is not before the last
// invalidation that concerns it. By address the entry itself is found and
// cleared, in regions that hold any: a range costs no more for what is not there.
// By address for all ASIDs the entries are in many sets, so there the time is kept
// by address, as a hash. What a walk found is not inserted if there was any
// invalidation since it began, lest it bring back what was cleared.
type tlb struct {
	all   atomic.Uint64 // time of the last invalidation of everything
	forms atomic.Uint64 // what lookups and invalidations have to look for
	_     [cacheLine - 16]byte

	asids  *[1 << 16]atomic.Uint64        // time of the last invalidation of each ASID
	places *[1 << logPlaces]atomic.Uint64 // time of the last one for all ASIDs, by placeOf
	sets   []tlbSet                       // a power of two of them
	held   []atomic.Int32                 // ways in use, by regionOf: as many as there are sets
	shift  uint                           // 64 - log2 of the number of sets

	place **tlb // these belong to tlbs
	users int
}

// Bits of forms. They are set before the first entry of the form is inserted,
// and stay set: an entry that is not looked for would outlive its invalidation.
const (
	formSizes     = 1<<61 - 1 // bit n: there may be entries of 2^n bytes
	formFractured = 1 << 61   // there may be entries for less than stage 1 translates alike
	formPlaces    = 1 << 62   // places has been used
	formGlobal    = 1 << 63   // there may be global entries
)

const (
	ways      = 4
	logPlaces = 12
)

type tlbSet struct {
	seq  atomic.Uint64 // odd while the set is being written, another one after
	ways [ways]tlbWay
	next uint64 // the way to replace next; belongs to the writer
	_    [2]uint64
}

type tlbWay struct{ key, data, time atomic.Uint64 }

// A key is the number of the page or block, of the address less its top byte,
// from bit 8 on, and below it the following. An empty way has key 0.
const (
	keySize   = 0x3f   // log2 of the entry's size, 12 or more
	keyGlobal = 1 << 6 // nG = 0: of every ASID, and so kept as of ASID 0
	keyASET   = 1 << 7 // which of the two sets of ASIDs (§3.17)
	keyPage   = 8      // the lowest bit of the number
)

// vaMask cuts the top byte off. The rest tells addresses apart that are in
// range, as bit 55 chooses the table (§3.4.1).
const vaMask = 1<<56 - 1

// A data word is the output address [63:24], the ASID [23:8] and the
// permissions [5:0].
func tlbData(pa uint64, asid smmuv3.ASID, p permissions) uint64 {
	return pa>>12<<24 | uint64(asid)<<8 | uint64(p)
}

func (w *tlbWay) holds(key uint64, asid smmuv3.ASID) bool {
	return w.key.Load() == key && smmuv3.ASID(w.data.Load()>>8) == asid
}

// holdsAny is holds with either ASET.
func (w *tlbWay) holdsAny(key uint64, asid smmuv3.ASID) bool {
	return w.key.Load()&^keyASET == key && smmuv3.ASID(w.data.Load()>>8) == asid
}

func newTLB(entries int) *tlb {
	sets := uint64(1) << bits.Len(uint(max((entries-1)/ways, 1)))
	return &tlb{
		asids:  new([1 << 16]atomic.Uint64),
		places: new([1 << logPlaces]atomic.Uint64),
		sets:   make([]tlbSet, sets),
		held:   make([]atomic.Int32, sets),
		shift:  uint(64 - bits.TrailingZeros64(sets)),
	}
}

// space is what tells address spaces apart.
type space struct {
	asid smmuv3.ASID
	aset bool
}

func (s space) key(va uint64, size uint) uint64 {
	k := va&vaMask>>(size&63)<<keyPage | uint64(size)
	if s.aset {
		k |= keyASET
	}
	return k
}

const hashFactor = 0x9e3779b97f4a7c15 // 2^64 over the golden ratio

// set is where a key lies: by its page and ASID, not by its flags.
func (t *tlb) set(key uint64, asid smmuv3.ASID) *tlbSet {
	return &t.sets[(key>>keyPage+uint64(asid)<<44)*hashFactor>>(t.shift&63)]
}

// logRegion is log2 of the pages or blocks in a region: as many as one command is
// mostly for.
const logRegion = 5

// regionOf counts the ways in use for a region of an address space, and now and then
// for others: regions are hashes.
func (t *tlb) regionOf(key uint64, asid smmuv3.ASID) *atomic.Int32 {
	region, size := key>>(keyPage+logRegion), key&keySize
	return &t.held[(region+uint64(asid)<<40+size<<56)*hashFactor>>(t.shift&63)]
}

func (t *tlb) placeOf(key uint64) *atomic.Uint64 {
	page, size := key>>keyPage, key&keySize
	return &t.places[(page+size<<48)*hashFactor>>(64-logPlaces)]
}

// translation is an output address, and how many bytes from there on are
// translated alike.
type translation struct{ pa, len uint64 }

// lookup finds a translation that has one of the permissions in need. Others
// are as good as none: a walk then says what is wrong, or that the guest has
// relaxed them.
func (t *tlb) lookup(s space, va uint64, need permissions) (translation, bool) {
	forms := t.forms.Load()
	for m := forms & formSizes; m != 0; m &= m - 1 {
		size := uint(bits.TrailingZeros64(m))
		key := s.key(va, size)
		data, ok := t.probe(forms, key, s.asid, t.asids[s.asid].Load())
		if (!ok || permissions(data)&need == 0) && forms&formGlobal != 0 {
			data, ok = t.probe(forms, key|keyGlobal, 0, 0)
		}
		if ok && permissions(data)&need != 0 {
			offset := va & (1<<(size&63) - 1)
			return translation{data>>24<<12 | offset, 1<<(size&63) - offset}, true
		}
	}
	return translation{}, false
}

// probe returns the data of a key, if there is an entry from no earlier than
// since, the last invalidation of the ASID, and than those of everything and
// of the place.
func (t *tlb) probe(forms, key uint64, asid smmuv3.ASID, since uint64) (uint64, bool) {
	s := t.set(key, asid)
	seq := s.seq.Load()
	for i := range s.ways {
		w := &s.ways[i]
		if w.key.Load() != key {
			continue
		}
		data, time := w.data.Load(), w.time.Load()
		if smmuv3.ASID(data>>8) != asid {
			continue
		}
		// A set that was written meanwhile may have shown halves of two entries.
		if seq&1 != 0 || s.seq.Load() != seq || time < since || time < t.all.Load() {
			return 0, false
		}
		return data, forms&formPlaces == 0 || time >= t.placeOf(key).Load()
	}
	return 0, false
}

// insert holds what a walk found that began when clock was now. It may choose
// not to: if the clock has moved on since, or if another writer has the set,
// which is not worth waiting for.
//
// The clock moves before an invalidation looks at anything. So one that this
// does not see on the clock, with the set locked, comes to the form and to the
// set later.
func (t *tlb) insert(s space, va uint64, l leaf, now uint64, clock *atomic.Uint64) {
	form, key, asid := uint64(1)<<l.size, s.key(va, l.size), s.asid
	if l.global {
		form, key, asid = form|formGlobal, key|keyGlobal, 0
	}
	if t.forms.Load()&form != form {
		t.forms.Or(form)
	}
	set := t.set(key, asid)
	if !set.tryLock() {
		return
	}
	defer set.unlock()
	region := t.regionOf(key, asid)
	region.Add(1)
	if clock.Load() != now {
		region.Add(-1)
		return
	}
	w := set.victim(key, asid)
	t.uncount(w)
	store(&w.key, key)
	store(&w.data, tlbData(l.pa, asid, l.perms))
	store(&w.time, now)
}

// fracture says that there will be entries for parts of a block. An invalidation by
// an address in the block is for all of them.
func (t *tlb) fracture() {
	if t.forms.Load()&formFractured == 0 {
		t.forms.Or(formFractured)
	}
}

// uncount takes what a way holds out of its region's count. The set is locked.
func (t *tlb) uncount(w *tlbWay) {
	if key := w.key.Load(); key != 0 {
		t.regionOf(key, smmuv3.ASID(w.data.Load()>>8)).Add(-1)
	}
}

// victim is the way that holds the key already, or an empty one, or the next
// in turn.
func (s *tlbSet) victim(key uint64, asid smmuv3.ASID) *tlbWay {
	var empty *tlbWay
	for i := range s.ways {
		w := &s.ways[i]
		switch {
		case w.holds(key, asid):
			return w
		case empty == nil && w.key.Load() == 0:
			empty = w // the first one, since lookups begin there
		}
	}
	if empty != nil {
		return empty
	}
	s.next++
	return &s.ways[s.next%ways]
}

func (s *tlbSet) tryLock() bool {
	seq := s.seq.Load()
	return seq&1 == 0 && s.seq.CompareAndSwap(seq, seq+1)
}

func (s *tlbSet) lock() {
	for !s.tryLock() {
		runtime.Gosched() // held for some nanoseconds at a time
	}
}

func (s *tlbSet) unlock() { store(&s.seq, s.seq.Load()+1) }

// invalidateAll takes every entry (§4.4.2.1).
func (t *tlb) invalidateAll(now uint64) { t.all.Store(now) }

// invalidateASID takes the entries of an ASID, which global ones are not
// (§4.4.2.2).
func (t *tlb) invalidateASID(asid smmuv3.ASID, now uint64) { t.asids[asid].Store(now) }

// clearPages takes the entries of an ASID, or global ones, from one page to another,
// with these flags in their keys (§4.4.2.4): region by region.
func (t *tlb) clearPages(flags uint64, asid smmuv3.ASID, first, last uint64) {
	for first <= last {
		end := min(first|(1<<logRegion-1), last)
		if t.regionOf(first<<keyPage|flags, asid).Load() != 0 {
			for page := first; page <= end; page++ {
				t.clear(page<<keyPage|flags, asid)
			}
		}
		first = end + 1
	}
}

// clear empties the ways that hold a key, with ASET or without.
func (t *tlb) clear(key uint64, asid smmuv3.ASID) {
	s := t.set(key, asid)
	if seq := s.seq.Load(); seq&1 == 0 && !s.has(key, asid) && s.seq.Load() == seq {
		return
	}
	s.lock()
	defer s.unlock()
	for i := range s.ways {
		if w := &s.ways[i]; w.holdsAny(key, asid) {
			t.uncount(w)
			store(&w.key, 0)
		}
	}
}

func (s *tlbSet) has(key uint64, asid smmuv3.ASID) bool {
	for i := range s.ways {
		if s.ways[i].holdsAny(key, asid) {
			return true
		}
	}
	return false
}

// invalidatePlace takes the entries of one size at an address, of every ASID
// and global (§4.4.2.3), and now and then others: places are hashes.
func (t *tlb) invalidatePlace(va uint64, size uint, now uint64) {
	if t.forms.Load()&formPlaces == 0 {
		t.forms.Or(formPlaces)
	}
	t.placeOf(space{}.key(va, size)).Store(now)
}
