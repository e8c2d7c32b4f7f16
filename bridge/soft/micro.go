package soft

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// microTLB is a small cache of the memory that recent accesses reached. A hit skips the rest of the
// path.
//
// Each place of guestmem.Sections has one. It belongs to the goroutine that holds the place, so
// it takes no lock, and no other processor writes to it. Invalidations do not touch it: each
// drains the sections, which starts an epoch, and entries of an earlier epoch are stale.
type microTLB [microEntries]microEntry

// microEntries is the number of entries of a micro-TLB. They take 64 KiB, which fits a processor's
// L2 cache, and hold the pages of 4 MiB.
const microEntries = 1024

// placeCache holds the caches of the goroutine that holds a place of guestmem.Sections.
type placeCache struct {
	micro  microTLB
	tables tableCache
}

// cacheOf returns the caches of a section's place, or nil if the section has no place.
func (h *Host) cacheOf(s guestmem.Section) *placeCache {
	place := s.Place()
	if place >= guestmem.Places {
		return nil
	}
	c := h.caches[place]
	if c == nil {
		c = new(placeCache)
		h.caches[place] = c
	}
	return c
}

type microEntry struct {
	binding *binding // nil if there is no entry
	who     uint64   // access.who
	epoch   uint64
	iova    uint64
	mem     []byte // from iova on: one translation, one piece of memory
	count   *moved // of the endpoint, in this place
}

// who returns the attributes of an access on which its translation depends, besides the address.
func (a *access) who() uint64 { return a.attrs.who(a.need) }

func (t Attrs) who(need permissions) uint64 {
	who := uint64(need)
	if t.HasSubstream {
		who |= 1<<8 | uint64(t.Substream)<<16
	}
	return who
}

// at returns the entry for an access. Reads and writes have different entries.
func (m *microTLB) at(iova, who uint64) *microEntry {
	return &m[(iova>>smmuv3.Granule4K+who)%microEntries] // no page is smaller
}

// microLookup returns the memory from iova on, or nil, and where to count the access. It returns nil
// for a nil binding.
func (b *binding) microLookup(s guestmem.Section, iova, who uint64) ([]byte, *moved) {
	place := s.Place()
	if b == nil || place >= guestmem.Places || b.host.caches[place] == nil {
		return nil, nil
	}
	e := b.host.caches[place].micro.at(iova, who)
	off := iova - e.iova
	if e.binding != b || e.who != who || e.epoch != s.Epoch() || off >= uint64(len(e.mem)) {
		return nil, nil
	}
	return e.mem[off:], e.count
}

// microInsert stores the memory that an access in the section reached. It returns where to count
// the access, or nil if the section has no place.
func (b *binding) microInsert(s guestmem.Section, iova, who uint64, mem []byte) *moved {
	c := b.host.cacheOf(s)
	if c == nil {
		return nil
	}
	e := c.micro.at(iova, who)
	same := e.binding == b && e.who == who
	e.binding, e.who, e.epoch, e.iova, e.mem = b, who, s.Epoch(), iova, mem
	if !same {
		e.count = b.ep.counts.at(s, permissions(who)&anyWrite != 0)
	}
	return e.count
}
