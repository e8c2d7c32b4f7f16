package soft

// tableCache holds tables of levels 2 and 3 that recent walks found, of either stage. A later walk
// in the same region begins at one of them.
//
// Each place of guestmem.Sections has one, as it has a micro-TLB. It holds no permission to use a
// leaf: a walk reads the leaf's descriptor from memory. Hence only an invalidation that applies to
// table descriptors concerns it (§4.4, Leaf = 0). An entry holds the time at which its walk began,
// and is stale if the last invalidation that concerns it is later.
type tableCache [tableEntries]tableEntry

const (
	logTableEntries = 7
	tableEntries    = 1 << logTableEntries
)

// tableEntry is a table, and the walks that pass through it.
type tableEntry struct {
	of     *tables // nil if there is no entry
	region uint64  // regionOfTable of the input addresses
	time   uint64  // when the walk that found it began
	step
}

// step is the state of a walk before it reads a descriptor.
type step struct {
	table  uint64 // its address, an IPA if another stage translates it
	level  int
	top    uint // log2 of the bytes that the table maps
	limits hierarchy
}

// root returns the first step of a walk.
func (t *tables) root() step { return step{table: t.base, level: t.level, top: t.input} }

// entry returns the entry for the table that maps an address and covers 2^top bytes.
func (c *tableCache) entry(t *tables, addr uint64, top uint) (e *tableEntry, region uint64) {
	region = addr & vaMask >> (top & 63)
	return &c[(region+uint64(top)<<56+t.base)*hashFactor>>(64-logTableEntries)], region
}

// walkState is the use that a transaction makes of a tableCache. The zero value uses none.
type walkState struct {
	cache *tableCache
	since uint64 // older entries are stale
	now   uint64 // before the search for the CD
}

// find returns the table of the highest level that an earlier walk to the address found.
func (w *walkState) find(t *tables, addr uint64) (step, bool) {
	if w.cache == nil {
		return step{}, false
	}
	for level := 3; level >= 2; level-- {
		top := t.format.Granule.LevelShift(level - 1)
		e, region := w.cache.entry(t, addr, top)
		if e.of == t && e.region == region && e.level == level && e.time >= w.since {
			return e.step, true
		}
	}
	return step{}, false
}

// keep stores a table that a walk to the address found. It omits tables above level 2, which would
// save little, and tables whose descriptors have Access flags.
func (w *walkState) keep(t *tables, addr uint64, s step) {
	if w.cache == nil || s.level < 2 || t.haft {
		return
	}
	e, region := w.cache.entry(t, addr, s.top)
	*e = tableEntry{of: t, region: region, time: w.now, step: s}
}
