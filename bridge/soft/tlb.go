package soft

import (
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tlb holds a host's translations, for all VMIDs. Its size is fixed by Config.TLBEntries. Each VMID
// and kind of input address has a domain in it.
//
// Lookups take no lock. Inserting or clearing an entry locks its set of four entries.
//
// Invalidating an ASID, or a whole domain, is a store. An entry holds the time at which its walk
// began, and is stale if the last invalidation that concerns it is later. The times for ASIDs are
// kept by hash, so an invalidation may also affect another ASID's entries.
//
// An invalidation by address finds the entry and clears it. It visits only regions that hold
// entries, so empty parts of a range cost nothing. The entries for an address of all ASIDs lie in
// many sets, so their invalidation time is kept by a hash of the address.
//
// A walk's result is not inserted if any invalidation came after the walk began. The result could
// restore an entry that was just cleared.
type tlb struct {
	sets   []tlbSet                      // a power of two of them
	held   []atomic.Int32                // ways in use, by regionOf: as many as there are sets
	asids  *[1 << logTimes]atomic.Uint64 // time of the last invalidation of an ASID, by asidTime
	places *[1 << logTimes]atomic.Uint64 // time of the last invalidation of an address for all ASIDs, by placeTime
	shift  uint                          // 64 - log2 of the number of sets
}

// domain is the part of a TLB that holds one kind of translations of one VMID.
type domain struct {
	all    atomic.Uint64 // time of the last invalidation of everything
	forms  atomic.Uint64 // the forms of entries that lookups and invalidations look for
	tables atomic.Uint64 // time of the last invalidation by address that applies to tables
	tlb
	salt uint64 // spreads the domains over the sets
	tag  uint32 // VMID [15:0], kind [17:16]

	// These belong to domains.
	users int
	index int
}

func newDomain(t *tlb, vmid smmuv3.VMID, kind int) *domain {
	tag := uint32(vmid) | uint32(kind)<<16
	return &domain{tlb: *t, tag: tag, salt: saltOf(tag)}
}

// Bits of forms. A bit is set before the first entry of its form is inserted, and stays set.
// Otherwise an invalidation would miss the entry.
const (
	formSizes     = 1<<61 - 1 // bit n: there may be entries of 2^n bytes
	formFractured = 1 << 61   // there may be entries smaller than their stage 1 block
	formPlaces    = 1 << 62   // places has been used
	formGlobal    = 1 << 63   // there may be global entries
)

const (
	ways     = 4
	logTimes = 12
)

type tlbSet struct {
	seq  atomic.Uint64 // odd while the set is being written; each write changes it
	ways [ways]tlbWay
	tags [ways]atomic.Uint32 // each way's domain
	next uint64              // the way to replace next; belongs to the writer
}

type tlbWay struct{ key, data, time atomic.Uint64 }

// A key holds the number of the page or block from bit 8 on, and these fields below. The number
// comes from the address without its top byte. An empty way has key 0.
const (
	keySize   = 0x3f   // log2 of the entry's size, 12 or more
	keyGlobal = 1 << 6 // nG = 0: valid for every ASID, and stored as ASID 0
	keyASET   = 1 << 7 // which of the two sets of ASIDs (§3.17)
	keyPage   = 8      // the lowest bit of the number
)

// vaMask removes the top byte. The rest identifies a valid address, since bit 55 selects the table
// (§3.4.1).
const vaMask = 1<<56 - 1

// tlbData packs the output address [63:24], the ASID [23:8] and the permissions [5:0].
func tlbData(pa uint64, asid smmuv3.ASID, p permissions) uint64 {
	return pa>>12<<24 | uint64(asid)<<8 | uint64(p)
}

func (w *tlbWay) holds(key uint64, asid smmuv3.ASID) bool {
	return w.key.Load() == key && smmuv3.ASID(w.data.Load()>>8) == asid
}

// holdsAny ignores ASET.
func (w *tlbWay) holdsAny(key uint64, asid smmuv3.ASID) bool {
	return w.key.Load()&^keyASET == key && smmuv3.ASID(w.data.Load()>>8) == asid
}

func newTLB(entries int) *tlb {
	sets := uint64(1) << bits.Len(uint(max((entries-1)/ways, 1)))
	return &tlb{
		asids:  new([1 << logTimes]atomic.Uint64),
		places: new([1 << logTimes]atomic.Uint64),
		sets:   make([]tlbSet, sets),
		held:   make([]atomic.Int32, sets),
		shift:  uint(64 - bits.TrailingZeros64(sets)),
	}
}

// space identifies an address space of stage 1. At stage 2 it is zero.
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

func saltOf(tag uint32) uint64 { return uint64(tag) * hashFactor }

// set returns the set of a key. It does not depend on the key's flags.
func (d *domain) set(key uint64, asid smmuv3.ASID) *tlbSet {
	return &d.sets[(key>>keyPage+uint64(asid)<<44+d.salt)*hashFactor>>(d.shift&63)]
}

// logRegion is log2 of the pages or blocks in a region. Most range commands fit in one region.
const logRegion = 5

// regionOf returns the number of ways in use for a region of an address space. Regions are hashes,
// so the count may include other regions.
func (t *tlb) regionOf(key uint64, asid smmuv3.ASID, salt uint64) *atomic.Int32 {
	region, size := key>>(keyPage+logRegion), key&keySize
	return &t.held[(region+uint64(asid)<<40+size<<56+salt)*hashFactor>>(t.shift&63)]
}

func (d *domain) region(key uint64, asid smmuv3.ASID) *atomic.Int32 {
	return d.regionOf(key, asid, d.salt)
}

func (d *domain) placeTime(key uint64) *atomic.Uint64 {
	page, size := key>>keyPage, key&keySize
	return &d.places[(page+size<<48+d.salt)*hashFactor>>(64-logTimes)]
}

func (d *domain) asidTime(asid smmuv3.ASID) *atomic.Uint64 {
	return &d.asids[(uint64(asid)+d.salt>>40)%(1<<logTimes)]
}

// translation is an output address. From this address on, the same entry translates len bytes.
type translation struct{ pa, len uint64 }

// lookup finds a translation that has one of the permissions in need. It reports a miss if a
// translation lacks them. A walk then finds the fault, or the permissions that the guest has
// relaxed.
func (d *domain) lookup(s space, va uint64, need permissions) (translation, bool) {
	forms := d.forms.Load()
	for m := forms & formSizes; m != 0; m &= m - 1 {
		size := uint(bits.TrailingZeros64(m))
		key := s.key(va, size)
		data, ok := d.probe(forms, key, s.asid, d.asidTime(s.asid).Load())
		if (!ok || permissions(data)&need == 0) && forms&formGlobal != 0 {
			data, ok = d.probe(forms, key|keyGlobal, 0, 0)
		}
		if ok && permissions(data)&need != 0 {
			offset := va & (1<<(size&63) - 1)
			return translation{data>>24<<12 | offset, 1<<(size&63) - offset}, true
		}
	}
	return translation{}, false
}

// probe returns the data of a key. The entry must not be older than the last invalidation of the
// ASID (since), of the domain, or of the address.
func (d *domain) probe(forms, key uint64, asid smmuv3.ASID, since uint64) (uint64, bool) {
	s := d.set(key, asid)
	seq := s.seq.Load()
	for i := range s.ways {
		w := &s.ways[i]
		if w.key.Load() != key {
			continue
		}
		data, time := w.data.Load(), w.time.Load()
		if smmuv3.ASID(data>>8) != asid || s.tags[i].Load() != d.tag {
			continue
		}
		// If another goroutine wrote the set at the same time, these may be halves of two entries.
		if seq&1 != 0 || s.seq.Load() != seq || time < since || time < d.all.Load() {
			return 0, false
		}
		return data, forms&formPlaces == 0 || time >= d.placeTime(key).Load()
	}
	return 0, false
}

// insert stores the result of a walk. It stores nothing if the walk began during a batch of
// invalidations, if the clock has moved since, or if another writer holds the set.
//
// A batch advances the clock before it looks at CDs, tables, forms and sets. If insert, with the set
// locked, sees the clock of the walk's begin, a later batch will find the form and the set. A walk
// that begins during a batch may use a stale CD or table after the batch has cleared the set.
func (d *domain) insert(s space, va uint64, l leaf, walk *walkState, clock *atomic.Uint64) {
	form, key, asid := uint64(1)<<l.size, s.key(va, l.size), s.asid
	if l.global {
		form, key, asid = form|formGlobal, key|keyGlobal, 0
	}
	if d.forms.Load()&form != form {
		d.forms.Or(form)
	}
	set := d.set(key, asid)
	if !set.tryLock() {
		return
	}
	defer set.unlock()
	region := d.region(key, asid)
	region.Add(1)
	if walk.now&1 != 0 || clock.Load() != walk.now {
		region.Add(-1)
		return
	}
	i := set.victim(key, asid, d.tag)
	d.uncount(set, i)
	w := &set.ways[i]
	store(&w.key, key)
	store(&w.data, tlbData(l.pa, asid, l.perms))
	store(&w.time, walk.now)
	store32(&set.tags[i], d.tag)
}

// fracture records that there may be entries for parts of a block. An invalidation by an address in
// the block then covers all of them.
func (d *domain) fracture() {
	if d.forms.Load()&formFractured == 0 {
		d.forms.Or(formFractured)
	}
}

// uncount removes a way from its region's count. The set is locked.
func (t *tlb) uncount(s *tlbSet, i int) {
	w := &s.ways[i]
	if key := w.key.Load(); key != 0 {
		t.regionOf(key, smmuv3.ASID(w.data.Load()>>8), saltOf(s.tags[i].Load())).Add(-1)
	}
}

// victim returns the way that already holds the key. Otherwise it returns an empty way, or the next
// way in the order of replacement.
func (s *tlbSet) victim(key uint64, asid smmuv3.ASID, tag uint32) int {
	empty := -1
	for i := range s.ways {
		w := &s.ways[i]
		switch {
		case w.holds(key, asid) && s.tags[i].Load() == tag:
			return i
		case empty < 0 && w.key.Load() == 0:
			empty = i // the first empty way, since lookups begin there
		}
	}
	if empty >= 0 {
		return empty
	}
	s.next++
	return int(s.next % ways)
}

func (s *tlbSet) tryLock() bool {
	seq := s.seq.Load()
	return seq&1 == 0 && s.seq.CompareAndSwap(seq, seq+1)
}

func (s *tlbSet) lock() {
	for !s.tryLock() {
		runtime.Gosched() // the set is locked only briefly
	}
}

func (s *tlbSet) unlock() { store(&s.seq, s.seq.Load()+1) }

// invalidateTables executes an invalidation by address for tableCaches: with Leaf = 0 it invalidates
// all entries, and otherwise none. The invalidation of leaves comes later (see insert).
func (d *domain) invalidateTables(c *smmuv3.Command, now uint64) {
	if !c.Leaf() && d.tables.Load() != now {
		d.tables.Store(now)
	}
}

// tablesSince returns the time of the last invalidation that concerns the entries of a tableCache,
// for walks of an ASID.
func (d *domain) tablesSince(asid smmuv3.ASID) uint64 {
	return max(d.tables.Load(), d.all.Load(), d.asidTime(asid).Load())
}

// invalidateAll invalidates every entry (§4.4.2.1).
func (d *domain) invalidateAll(now uint64) { d.all.Store(now) }

// invalidateASID invalidates the entries of an ASID except global entries (§4.4.2.2).
func (d *domain) invalidateASID(asid smmuv3.ASID, now uint64) { d.asidTime(asid).Store(now) }

// clearPages clears the entries of an ASID, or global entries, from the first page to the last
// whose keys have these flags (§4.4.2.4). It proceeds region by region.
func (d *domain) clearPages(flags uint64, asid smmuv3.ASID, first, last uint64) {
	for first <= last {
		end := min(first|(1<<logRegion-1), last)
		if d.region(first<<keyPage|flags, asid).Load() != 0 {
			for page := first; page <= end; page++ {
				d.clear(page<<keyPage|flags, asid)
			}
		}
		first = end + 1
	}
}

// clear empties the ways that hold a key, with either ASET.
func (d *domain) clear(key uint64, asid smmuv3.ASID) {
	s := d.set(key, asid)
	if seq := s.seq.Load(); seq&1 == 0 && !s.has(key, asid) && s.seq.Load() == seq {
		return
	}
	s.lock()
	defer s.unlock()
	for i := range s.ways {
		if w := &s.ways[i]; w.holdsAny(key, asid) && s.tags[i].Load() == d.tag {
			d.region(key, asid).Add(-1)
			store(&w.key, 0)
		}
	}
}

// has reports whether a way holds the key, with either ASET, in any domain.
func (s *tlbSet) has(key uint64, asid smmuv3.ASID) bool {
	for i := range s.ways {
		if s.ways[i].holdsAny(key, asid) {
			return true
		}
	}
	return false
}

// invalidatePlace invalidates the entries of one size at an address, of every ASID and global
// (§4.4.2.3). Places are hashes, so it may also invalidate other entries.
func (d *domain) invalidatePlace(va uint64, size uint, now uint64) {
	if d.forms.Load()&formPlaces == 0 {
		d.forms.Or(formPlaces)
	}
	d.placeTime(space{}.key(va, size)).Store(now)
}
