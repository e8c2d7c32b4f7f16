package soft

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// microTLB is a small cache in front of everything that an access passes: it has
// the memory that accesses met lately.
//
// There is one for each place of guestmem.Sections, which belongs to whoever has
// the place: it takes no lock, and no other processor writes to it. Nor is it
// told of any withdrawal: each is followed by a drain of the sections, and what
// is from another epoch counts for nothing.
type microTLB [microEntries]microEntry

// microEntries are 16 KiB for each place: the pages of a megabyte that is in use, and
// few enough to stay in a processor's nearer caches.
const microEntries = 256

type microEntry struct {
	binding *binding // nil if there is no entry
	who     uint64   // access.who
	epoch   uint64
	iova    uint64
	mem     []byte // from iova on: what is translated alike and lies in one piece
	_       uint64 // up to a cache line
}

// who is all that a translation depends on of an access but its address.
func (a *access) who() uint64 {
	who := uint64(a.need)
	if a.attrs.HasSubstream {
		who |= 1<<8 | uint64(a.attrs.Substream)<<16
	}
	return who
}

// at is where an access may be found. Reads have another entry than writes.
func (m *microTLB) at(iova, who uint64) *microEntry {
	return &m[(iova>>smmuv3.Granule4K+who)%microEntries] // no page is smaller
}

// recall is the memory from iova on, or nil.
func (b *binding) recall(s guestmem.Section, iova, who uint64) []byte {
	place := s.Place()
	if place >= guestmem.Places || b.host.micro[place] == nil {
		return nil
	}
	e := b.host.micro[place].at(iova, who)
	off := iova - e.iova
	if e.binding != b || e.who != who || e.epoch != s.Epoch() || off >= uint64(len(e.mem)) {
		return nil
	}
	return e.mem[off:]
}

// remember keeps the memory that was found for an access in the section.
func (b *binding) remember(s guestmem.Section, iova, who uint64, mem []byte) {
	place := s.Place()
	if place >= guestmem.Places {
		return
	}
	m := b.host.micro[place]
	if m == nil {
		m = new(microTLB)
		b.host.micro[place] = m
	}
	e := m.at(iova, who)
	e.binding, e.who, e.epoch, e.iova, e.mem = b, who, s.Epoch(), iova, mem
}
