package trap

import (
	"cmp"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// path is where a lookup found the parts of a stream's configuration; a part
// that it did not reach has length 0.
type path [2]guestmem.Range

// touches reports whether a write to r may have changed what the lookup finds.
func (p *path) touches(r guestmem.Range) bool {
	return p[0].Overlaps(r) || p[1].Overlaps(r)
}

// Watched returns the guest-physical ranges that hold the configuration of the
// attached streams: what a VMM write-protects that would know of a change
// before the guest's CFGI command tells. Sorted, without repeats; empty while
// the SMMU is disabled.
func (s *Streams) Watched() []guestmem.Range {
	var all []guestmem.Range
	for _, st := range s.sorted {
		for _, r := range st.walked {
			if r.Len != 0 {
				all = append(all, r)
			}
		}
	}
	slices.SortFunc(all, func(a, b guestmem.Range) int { return cmp.Compare(a.GPA, b.GPA) })
	return slices.Compact(all)
}

// Written returns the streams whose configuration a write to r may have
// changed.
func (s *Streams) Written(r guestmem.Range) []*Stream {
	var hit []*Stream
	for _, st := range s.sorted {
		if st.walked.touches(r) {
			hit = append(hit, st)
		}
	}
	return hit
}
