package soft

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// run translates the pages of a large DMA, after the first. It reads their descriptors from a table
// of level 3. It does not use the TLB, since the pages of a large DMA would only fill the TLB.
//
// It covers the usual case: stage 1 alone, a cached CD, and pages that permit the access without an
// update of their descriptors. It leaves all other pages, and every fault, to translate. A run
// belongs to a section.
type run struct {
	desc   *contextDesc // nil until the run has a table
	half   *halfSpace
	region uint64 // number of the region that the table maps
	table  []byte
	limits hierarchy
	plain  uint64 // a descriptor that permits the access, without its address
}

// minRun is the size in bytes above which a DMA tries a run.
const minRun = 1 << smmuv3.Granule4K

// maxRun is the largest number of bytes that a DMA copies in one section by a run.
const maxRun = 64 << 10

// moveRun moves the start of p as far as a run covers it, and returns the number of bytes.
func (b *binding) moveRun(s guestmem.Section, p []byte, iova uint64, a *access) (done int) {
	var u run
	p = p[:min(len(p), maxRun)]
	for done < len(p) {
		mem := u.memory(s, b, iova+uint64(done), len(p)-done, a)
		if mem == nil {
			break
		}
		done += move(p[done:], mem, a.write)
	}
	return done
}

// memory returns the memory of the start of a DMA of n bytes, and counts it: pages that are adjacent
// in one piece of memory. It returns nil if the run does not cover the first page.
func (u *run) memory(s guestmem.Section, b *binding, iova uint64, n int, a *access) []byte {
	start, size, granule := uint64(0), 0, smmuv3.Granule4K
	for size < n {
		pa, left, ok := u.page(s, b, iova+uint64(size), a)
		if !ok || size > 0 && pa != start+uint64(size) {
			break
		}
		if size == 0 {
			start, granule = pa, u.half.format.Granule
		}
		size += min(n-size, left)
	}
	if size == 0 {
		return nil
	}
	mem, err := b.host.mapper.Slice(guestmem.GPA(start), size, a.write)
	if err != nil {
		return nil // translate finds out
	}
	pages := int((iova&(1<<granule-1)+uint64(len(mem))-1)>>granule) + 1
	b.ep.count(s, pages, len(mem), a.write)
	return mem
}

// page translates an address. left is the number of bytes up to the end of its page.
func (u *run) page(s guestmem.Section, b *binding, iova uint64, a *access) (pa uint64, left int, ok bool) {
	if !u.has(iova) && !u.begin(s, b, iova, a) {
		return 0, 0, false
	}
	t := &u.half.tables
	g := t.format.Granule & 63
	page := uint64(1) << g
	at := iova >> g * 8 & (page - 1)
	word := t.swapped(guestmem.LoadWord(u.table[at:], 8))
	addr := word & (1<<48 - page)
	if plain := word - addr; plain != u.plain {
		if !u.permits(smmuv3.Desc(word), addr, a) {
			return 0, 0, false
		}
		u.plain = plain
	}
	if addr>>(t.outputBits&63) != 0 {
		return 0, 0, false
	}
	off := iova & (page - 1)
	return addr | off, int(page - off), true
}

// permits reports whether a descriptor permits the access as it is, and has no more address bits
// than those of addr.
func (u *run) permits(d smmuv3.Desc, addr uint64, a *access) bool {
	f := u.half.format
	if d.Kind(f, 3) != smmuv3.DescLeaf || d.Addr(f, 3) != addr {
		return false
	}
	_, update, event := judge(d, u.limits, u.desc, a)
	return event == 0 && update == d
}

func (u *run) has(iova uint64) bool { return u.desc != nil && u.regionOf(iova) == u.region }

func (u *run) regionOf(iova uint64) uint64 {
	return iova >> (u.half.format.Granule.LevelShift(2) & 63)
}

// begin finds the table for an address.
func (u *run) begin(s guestmem.Section, b *binding, iova uint64, a *access) bool {
	u.desc = nil
	if b.host.mapper == nil || b.stage.Disposition != bridge.Translate {
		return false
	}
	index, use := substream(&b.stage, a.attrs)
	if use != useContext {
		return false
	}
	now := b.host.clock.Load()
	c := b.cachedCD(index)
	if c == nil {
		return false
	}
	half, ok := c.half(iova)
	if !ok || !half.walk || half.e0pd {
		return false
	}
	b.beginWalk(s, b.vas, c.asid, now, a)
	from, _ := a.walk.find(&half.tables, iova)
	if from.level != 3 {
		// The TLB served the pages before. A walk finds the table, if there is one.
		if _, r := b.walk(c, iova, a); r != nil {
			return false
		}
		if from, _ = a.walk.find(&half.tables, iova); from.level != 3 {
			return false
		}
	}
	size := 1 << half.format.Granule
	table, err := b.host.mapper.Slice(guestmem.GPA(from.table), size, false)
	if err != nil || len(table) != size {
		return false
	}
	*u = run{desc: c, half: half, table: table, limits: from.limits, plain: ^uint64(0)}
	u.region = u.regionOf(iova)
	return true
}
