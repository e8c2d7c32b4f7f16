package vsmmutest

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Layout is the shape of a stage's translation tables.
type Layout struct {
	// Granule is the size of a table and of the smallest page. The zero value is the smallest
	// granule of the SMMU.
	Granule smmuv3.Granule
	// InputBits is the size of the addresses that the tables translate, at most 48. The zero value
	// is 48 bits, or for stage 2 the SMMU's output address size if that is smaller.
	InputBits uint
	// PagesOnly makes Map use pages where blocks fit.
	PagesOnly bool
}

var (
	// ErrMapped means that part of the range is already mapped.
	ErrMapped = errors.New("already mapped")
	// ErrUnsupported means that the SMMU does not support the layout.
	ErrUnsupported = errors.New("not supported by the SMMU")
)

// Tables are the translation tables of one stage in guest memory. Use them through Stage1 or
// Stage2.
type Tables struct {
	ram       *RAM
	root      guestmem.GPA
	granule   smmuv3.Granule
	inputBits uint
	start     int // the level at which a walk begins
	pagesOnly bool
}

const (
	lastLevel = 3
	maxBits   = 48
)

var granules = []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K}

// complete returns the layout with defaults in place of zero values.
func (l Layout) complete(ids *smmuv3.IDRegs, bits uint) (Layout, error) {
	for _, g := range granules {
		if l.Granule == 0 && ids.HasGranule(g) {
			l.Granule = g
		}
	}
	if l.InputBits == 0 {
		l.InputBits = min(bits, maxBits)
	}
	switch {
	case l.Granule == 0:
		return l, fmt.Errorf("%w: there is no granule (IDR5)", ErrUnsupported)
	case !ids.HasGranule(l.Granule):
		return l, fmt.Errorf("%w: a granule of 2^%d bytes (IDR5)", ErrUnsupported, l.Granule)
	case l.InputBits > maxBits || l.InputBits <= uint(l.Granule):
		return l, fmt.Errorf("%d input bits, not %d to %d", l.InputBits, l.Granule+1, maxBits)
	}
	return l, nil
}

// newTables allocates the table at which a walk begins. At stage 2 it may consist of concatenated
// tables.
func newTables(r *RAM, l Layout, start int) (Tables, error) {
	size := max(uint64(1)<<l.Granule, wordSize<<(l.InputBits-l.Granule.LevelShift(start)))
	root, err := r.Alloc(size)
	return Tables{
		ram: r, root: root, granule: l.Granule, inputBits: l.InputBits, start: start, pagesOnly: l.PagesOnly,
	}, err
}

// Root returns the address of the table at which a walk begins.
func (t *Tables) Root() guestmem.GPA { return t.root }

// Granule returns the granule of the tables.
func (t *Tables) Granule() smmuv3.Granule { return t.granule }

// PageSize returns the size in bytes of the smallest page.
func (t *Tables) PageSize() uint64 { return 1 << t.granule }

// InputBits returns the size of the addresses that the tables translate.
func (t *Tables) InputBits() uint { return t.inputBits }

func (t *Tables) format() smmuv3.Format { return smmuv3.Format{Granule: t.granule} }

// Entry returns the address of the descriptor for an input address at a level. It allocates missing
// tables above that level.
func (t *Tables) Entry(addr uint64, level int) (guestmem.GPA, error) {
	at, reached, err := t.walk(addr, level, true)
	if err == nil && reached != level {
		err = fmt.Errorf("vsmmutest: table entry for %#x: a block of level %d is in the way", addr, reached)
	}
	return at, err
}

// walk returns the descriptor for an address at a level, or a descriptor above it that is not a
// table. With make, it allocates tables in place of invalid descriptors.
func (t *Tables) walk(addr uint64, level int, make bool) (at guestmem.GPA, reached int, err error) {
	if addr>>t.inputBits != 0 || level < t.start || level > lastLevel {
		return 0, 0, fmt.Errorf("vsmmutest: table entry for %#x: no level %d, or beyond %d input bits",
			addr, level, t.inputBits)
	}
	table, index := t.root, addr
	for reached = t.start; ; reached++ {
		shift := t.granule.LevelShift(reached)
		at = table + guestmem.GPA(index>>shift*wordSize)
		if reached == level {
			return at, reached, nil
		}
		w, err := t.ram.Load(at)
		if err != nil {
			return 0, 0, err
		}
		switch d := smmuv3.Desc(w); d.Kind(t.format(), reached) {
		case smmuv3.DescLeaf:
			return at, reached, nil
		case smmuv3.DescTable:
			table = guestmem.GPA(d.Addr(t.format(), reached))
		default:
			if !make {
				return at, reached, nil
			}
			if table, err = t.ram.Alloc(t.PageSize()); err != nil {
				return 0, 0, err
			}
			if err := t.ram.Store(at, uint64(smmuv3.TableDesc(uint64(table)))); err != nil {
				return 0, 0, err
			}
		}
		index = addr & (1<<shift - 1)
	}
}

// SetEntry replaces the descriptor for an input address at a level by any word. It allocates
// missing tables above that level. It does not invalidate translations.
func (t *Tables) SetEntry(addr uint64, level int, d smmuv3.Desc) error {
	at, err := t.Entry(addr, level)
	if err != nil {
		return err
	}
	return t.ram.Store(at, uint64(d))
}

// check returns an error if a range cannot be mapped or unmapped.
func (t *Tables) check(addr, n uint64) error {
	switch size := t.PageSize(); {
	case n == 0 || addr%size != 0 || n%size != 0:
		return fmt.Errorf("not a range of pages of %#x bytes", size)
	case addr>>t.inputBits != 0 || n > 1<<t.inputBits-addr:
		return fmt.Errorf("beyond %d input bits", t.inputBits)
	}
	return nil
}

// leafAt reports whether descriptors of a level can map memory.
func (t *Tables) leafAt(level int) bool {
	return level == lastLevel || smmuv3.Desc(1).Kind(t.format(), level) == smmuv3.DescLeaf
}

// mapRange writes the leaves for a range, each as large as possible.
func (t *Tables) mapRange(addr uint64, to guestmem.GPA, n uint64, leaf func(to uint64, level int) smmuv3.Desc) error {
	if err := t.check(addr, n); err != nil {
		return err
	}
	if to>>maxBits != 0 || uint64(to)%t.PageSize() != 0 {
		return fmt.Errorf("output address %v: not a page below 2^%d", to, maxBits)
	}
	for n > 0 {
		level := lastLevel
		for l := t.start; l < lastLevel && !t.pagesOnly; l++ {
			size := uint64(1) << t.granule.LevelShift(l)
			if t.leafAt(l) && (addr|uint64(to))%size == 0 && n >= size {
				level = l
				break
			}
		}
		at, w, err := t.unmapped(addr, &level)
		if err != nil {
			return err
		}
		if w != 0 {
			return fmt.Errorf("%#x: %w", addr, ErrMapped)
		}
		if err := t.ram.Store(at, uint64(leaf(uint64(to), level))); err != nil {
			return err
		}
		size := uint64(1) << t.granule.LevelShift(level)
		addr, to, n = addr+size, to+guestmem.GPA(size), n-min(n, size)
	}
	return nil
}

// unmapped returns the descriptor for an address at a level, or at a lower level if such tables
// already exist.
func (t *Tables) unmapped(addr uint64, level *int) (at guestmem.GPA, w uint64, err error) {
	for ; ; *level++ {
		at, reached, err := t.walk(addr, *level, true)
		if err != nil {
			return 0, 0, err
		}
		if w, err = t.ram.Load(at); err != nil {
			return 0, 0, err
		}
		if reached == *level && smmuv3.Desc(w).Kind(t.format(), *level) == smmuv3.DescTable || !t.leafAt(*level) {
			continue
		}
		return at, w, nil
	}
}

// Unmap clears the leaves of a range. It fails if a block reaches beyond the range. It does not
// invalidate translations; Guest.Unmap does.
func (t *Tables) Unmap(addr, n uint64) error {
	if err := t.unmap(addr, n); err != nil {
		return fmt.Errorf("vsmmutest: unmap %#x bytes at %#x: %w", n, addr, err)
	}
	return nil
}

func (t *Tables) unmap(addr, n uint64) error {
	if err := t.check(addr, n); err != nil {
		return err
	}
	for end := addr + n; addr < end; {
		at, level, err := t.walk(addr, lastLevel, false)
		if err != nil {
			return err
		}
		w, err := t.ram.Load(at)
		if err != nil {
			return err
		}
		size := uint64(1) << t.granule.LevelShift(level)
		if w != 0 {
			if addr%size != 0 || size > end-addr {
				return fmt.Errorf("a block of %#x bytes reaches beyond the range", size)
			}
			if err := t.ram.Store(at, 0); err != nil {
				return err
			}
		}
		addr = (addr | (size - 1)) + 1
	}
	return nil
}

// Lookup walks the tables in memory and returns the output address and the leaf for an input
// address. It does not use an SMMU, and it checks neither permissions nor the Access flag.
func (t *Tables) Lookup(addr uint64) (to guestmem.GPA, leaf smmuv3.Desc, err error) {
	at, level, err := t.walk(addr, lastLevel, false)
	if err != nil {
		return 0, 0, err
	}
	w, err := t.ram.Load(at)
	if err != nil {
		return 0, 0, err
	}
	leaf = smmuv3.Desc(w)
	if leaf.Kind(t.format(), level) != smmuv3.DescLeaf {
		return 0, leaf, fmt.Errorf("vsmmutest: look up %#x: not mapped", addr)
	}
	offset := addr & (1<<t.granule.LevelShift(level) - 1)
	return guestmem.GPA(leaf.Addr(t.format(), level) | offset), leaf, nil
}

// Attributes of the tables that a driver chooses: cacheability and shareability as in CD.IR0,
// CD.OR0 and CD.SH0, and STE.S1CIR, S1COR, S1CSH (§5.2, §5.4).
const (
	writeBack      = 0b01
	innerShareable = 0b11
	// mairWriteBack is MAIR with attribute 0 normal memory, write-back.
	mairWriteBack = 0xff
	// memAttrWriteBack is MemAttr of a stage 2 leaf: normal memory, inner and outer write-back.
	memAttrWriteBack = 0b1111
)

// Stage1 is an address space of the guest: stage 1 tables with an ASID.
type Stage1 struct {
	Tables
	ASID smmuv3.ASID
	ids  smmuv3.IDRegs
}

// NewStage1 allocates the first table of an address space, for an SMMU with these ID registers.
func NewStage1(r *RAM, ids smmuv3.IDRegs, l Layout, asid smmuv3.ASID) (*Stage1, error) {
	l, err := l.complete(&ids, maxBits)
	if err != nil {
		return nil, fmt.Errorf("vsmmutest: new stage 1: %w", err)
	}
	t, err := newTables(r, l, l.Granule.StartLevel(l.InputBits))
	if err != nil {
		return nil, err
	}
	return &Stage1{Tables: t, ASID: asid, ids: ids}, nil
}

// Map maps n bytes of IOVAs to guest memory, by blocks where they fit. It fails with ErrMapped if
// part of the range is mapped. An SMMU caches no invalid entries, so no invalidation is needed.
func (s *Stage1) Map(iova uint64, to guestmem.GPA, n uint64, a smmuv3.LeafAttrs) error {
	err := s.mapRange(iova, to, n, func(to uint64, level int) smmuv3.Desc { return smmuv3.LeafDesc(to, level, a) })
	if err != nil {
		return fmt.Errorf("vsmmutest: map %#x bytes at %#x: %w", n, iova, err)
	}
	return nil
}

// maxIPS is the largest value of CD.IPS and S2PS that every architecture version has: 48 bits.
const maxIPS = 5

// CD returns the address space's Context Descriptor as Linux's driver writes it: TTB0 only, tables
// inner shareable and write-back, faults recorded and aborted.
func (s *Stage1) CD() (cd smmuv3.CD) {
	cd.SetV(true)
	cd.SetAA64(true)
	cd.SetA(true)
	cd.SetR(true)
	cd.SetASID(s.ASID)
	cd.SetIPS(uint8(min(s.ids.Get(smmuv3.OAS), maxIPS)))
	cd.SetTxSZ(0, 64-s.inputBits)
	cd.SetTGx(0, s.granule)
	cd.SetIRx(0, writeBack)
	cd.SetORx(0, writeBack)
	cd.SetSHx(0, innerShareable)
	cd.SetTTBx(0, uint64(s.root))
	cd.SetEPDx(1, true)
	cd.SetMAIR(mairWriteBack)
	return cd
}

// Stage2 is the guest's own stage 2: tables with a VMID.
type Stage2 struct {
	Tables
	VMID smmuv3.VMID
	ids  smmuv3.IDRegs
	s2   smmuv3.Stage2
}

// Access is the set of accesses that a stage 2 mapping permits. Its bits are the bits of S2AP.
type Access uint8

// The kinds of access.
const (
	Read      Access = 1 << 0
	Write     Access = 1 << 1
	ReadWrite        = Read | Write
)

// NewStage2 allocates the first table of a stage 2, for an SMMU with these ID registers.
func NewStage2(r *RAM, ids smmuv3.IDRegs, l Layout, vmid smmuv3.VMID) (*Stage2, error) {
	if !ids.Has(smmuv3.S2P) {
		return nil, fmt.Errorf("vsmmutest: new stage 2: %w: a stage 2 (IDR0.S2P)", ErrUnsupported)
	}
	l, err := l.complete(&ids, ids.IPABits())
	if err != nil {
		return nil, fmt.Errorf("vsmmutest: new stage 2: %w", err)
	}
	s2 := smmuv3.Stage2{
		T0SZ: uint8(64 - l.InputBits), PS: uint8(min(ids.Get(smmuv3.OAS), maxIPS)), AA64: true, R: true,
		IR0: writeBack, OR0: writeBack, SH0: innerShareable,
	}
	for s2.Granule() != l.Granule {
		s2.TG++
	}
	// If the SMMU does not support the start level of a single table, the walk begins one level
	// lower, at concatenated tables.
	least := l.Granule.StartLevel(l.InputBits)
	for start := least; start <= lastLevel; start++ {
		for s2.SL0 = range uint8(4) {
			if level, ok := s2.StartLevel(&ids); !ok || level != start {
				continue
			}
			t, err := newTables(r, l, start)
			if err != nil {
				return nil, err
			}
			s2.TTB = uint64(t.root)
			return &Stage2{Tables: t, VMID: vmid, ids: ids, s2: s2}, nil
		}
	}
	return nil, fmt.Errorf("vsmmutest: new stage 2: %w: %d input bits with a granule of 2^%d bytes (STE.S2SL0)",
		ErrUnsupported, l.InputBits, l.Granule)
}

// Map maps n bytes of IPAs to memory, by blocks where they fit. It fails with ErrMapped if part of
// the range is mapped.
func (s *Stage2) Map(ipa uint64, to guestmem.GPA, n uint64, a Access) error {
	err := s.mapRange(ipa, to, n, func(to uint64, level int) smmuv3.Desc { return Stage2Leaf(to, level, a) })
	if err != nil {
		return fmt.Errorf("vsmmutest: map %#x bytes at %#x: %w", n, ipa, err)
	}
	return nil
}

// Stage2Leaf returns a stage 2 leaf: normal write-back memory, inner shareable, with its Access
// flag set. The address is below 2^48 and aligned to the size that the level maps.
func Stage2Leaf(addr uint64, level int, a Access) smmuv3.Desc {
	d := smmuv3.Desc(addr | memAttrWriteBack<<2 | uint64(a)<<6 | innerShareable<<8 | 0b01)
	if level == lastLevel {
		d |= 0b10
	}
	return d.WithAF()
}

// Fields returns the stage-2 fields of an STE: tables inner shareable and write-back, faults
// recorded and aborted.
func (s *Stage2) Fields() smmuv3.Stage2 { return s.s2 }
