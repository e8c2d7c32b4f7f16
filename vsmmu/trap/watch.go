package trap

import (
	"cmp"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// path has the guest-physical ranges of the L1STD and of the STE that a lookup read. The range of a
// structure that it did not read has length 0.
type path [2]guestmem.Range

// touches reports whether a write to r may change the result of the lookup.
func (p *path) touches(r guestmem.Range) bool {
	return p[0].Overlaps(r) || p[1].Overlaps(r)
}

// Watched returns the guest-physical ranges that hold the configuration of the attached streams,
// sorted and without duplicates. It returns none while the SMMU is disabled. A VMM can
// write-protect the ranges, to detect a change before the guest's CFGI command.
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

// Written returns the streams whose configuration a write to r may change.
func (s *Streams) Written(r guestmem.Range) []*Stream {
	var hit []*Stream
	for _, st := range s.sorted {
		if st.walked.touches(r) {
			hit = append(hit, st)
		}
	}
	return hit
}
