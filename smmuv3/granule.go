package smmuv3

// Granule is log2 of the size in bytes of the smallest page, and of a translation table. Sections
// that begin with a letter refer to the Arm Architecture Reference Manual, DDI 0487.
type Granule uint8

// The granules, by log2 of their size in bytes.
const (
	Granule4K  Granule = 12
	Granule16K Granule = 14
	Granule64K Granule = 16
)

// HasGranule reports whether the SMMU walks tables of a granule (§6.3.6).
func (r IDRegs) HasGranule(g Granule) bool {
	switch g {
	case Granule4K:
		return r.Has(GRAN4K)
	case Granule16K:
		return r.Has(GRAN16K)
	case Granule64K:
		return r.Has(GRAN64K)
	}
	return false
}

// stride returns the number of address bits that a full table resolves: a descriptor has eight
// bytes.
func (g Granule) stride() uint { return uint(g) - 3 }

// LevelShift returns log2 of the bytes that a descriptor at a level maps. The last level is 3.
func (g Granule) LevelShift(level int) uint { return uint(g) + g.stride()*uint(3-level) }

// StartLevel returns the level at which the walk of an input address of this size begins: -1 for
// more than 48 bits and the 4 KiB granule (D8.2.8.1, D8.2.9.1, D8.2.10.1). inputBits is greater
// than the granule.
func (g Granule) StartLevel(inputBits uint) int {
	return 3 - int((inputBits-uint(g)-1)/g.stride())
}

// Format is the layout of the descriptors of a set of tables.
type Format struct {
	Granule Granule
	// Wide means that addresses have 52 bits. CD.DS decides for granules of 4 and 16 KiB (§5.4),
	// IDR5.OAS for 64 KiB.
	Wide bool
}

// leafLevel reports whether descriptors of a level may map memory: pages at level 3, and blocks
// above it where the granule has them (Tables D8-17, D8-27 and D8-36). The largest blocks need
// 52-bit addresses.
func (f Format) leafLevel(level int) bool {
	switch level {
	case 3, 2:
		return true
	case 1:
		return f.Granule == Granule4K || f.Wide
	case 0:
		return f.Granule == Granule4K && f.Wide
	}
	return false
}
