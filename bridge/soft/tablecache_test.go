package soft_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Contents of the pages that the tables of these tests map, by page of the IOVA.
const (
	oldPages = 0x5000_0000
	newPages = 0x6000_0000
)

// replaceTable replaces the table of a level and the tables below it with copies. The copies map
// the pages at newPages.
func replaceTable(mem guest, level int) {
	const shadow = 0x4_0000 // the copies lie behind the tables of map4K
	for i := range uint64(16) {
		mem.SetWords(gpa(0x40000+shadow+8*i), newPages+i<<12|pageRW)
	}
	for l := 2; l >= level; l-- {
		mem.SetWords(gpa(uint64(0x10000+l*0x10000+shadow)), uint64(0x20000+l*0x10000+shadow)|3)
	}
	mem.SetWords(gpa(uint64(level)*0x10000), uint64(0x10000+level*0x10000+shadow)|3)
}

// tableRig returns a rig whose pages 0 to 15 have their number at oldPages, and at newPages with
// bit 8 set.
func tableRig(t *testing.T, r *rig) {
	var leaves []uint64
	for i := range uint64(16) {
		leaves = append(leaves, oldPages+i<<12|pageRW)
		r.guest.SetWords(gpa(oldPages+i<<12), i)
		r.guest.SetWords(gpa(newPages+i<<12), 0x100|i)
	}
	r.map4K(cd4K, leaves...)
}

// untilCached repeats a case until it reports that the cache of tables was in use. The cache depends
// on the place of the section (guestmem.Sections), and the place on the address of the stack, which
// moves when the stack grows or the garbage collector shrinks it.
func untilCached(t *testing.T, attempt func() bool) {
	t.Helper()
	for range 100 {
		if attempt() {
			return
		}
	}
	t.Error("no walk used a cached table")
}

// reads returns the words at the IOVAs.
func (r *rig) reads(iovas ...uint64) (words []uint64) {
	r.t.Helper()
	for _, iova := range iovas {
		got, err := word(r.ep, iova)
		require.NoError(r.t, err)
		words = append(words, got)
	}
	return words
}

func (r *rig) wantWord(want, iova uint64, why ...any) {
	r.t.Helper()
	got, err := word(r.ep, iova)
	require.NoError(r.t, err, why...)
	assert.Equal(r.t, want, got, why...)
}

// §4.4: an invalidation by address with Leaf = 0 applies to the table descriptors of all levels
// that the address passes. An invalidation with Leaf = 1 applies to the leaf alone. The guest
// replaces a table that walks have used, and invalidates a page that no walk has used. Then the
// test reads the other pages of the table for the first time.
func TestInvalidationsOfTables(t *testing.T) {
	const (
		all  = true
		leaf = false
		asid = 1 << 48
		page = 5 << 12
	)
	for name, c := range map[string]struct {
		cmd    smmuv3.Command
		tables bool // the command applies to tables
	}{
		"TLBI_NH_VA, Leaf = 0":                      {smmuv3.Command{0x12 | asid, page}, all},
		"TLBI_NH_VA, Leaf = 1":                      {smmuv3.Command{0x12 | asid, page | 1}, leaf},
		"TLBI_NH_VA, Leaf = 0, TTL = 3":             {smmuv3.Command{0x12 | asid, page | 1<<10 | 3<<8}, all},
		"TLBI_NH_VA, Leaf = 1, TTL = 3":             {smmuv3.Command{0x12 | asid, page | 1<<10 | 3<<8 | 1}, leaf},
		"TLBI_NH_VA, Leaf = 0, range of 2 from 5":   {smmuv3.Command{0x12 | asid | 1<<12, page | 1<<10}, all},
		"TLBI_NH_VA, Leaf = 1, range of 2 from 5":   {smmuv3.Command{0x12 | asid | 1<<12, page | 1<<10 | 1}, leaf},
		"TLBI_NH_VA, Leaf = 0, range of 512 from 0": {smmuv3.Command{0x12 | asid | 15<<12 | 5<<20, 1 << 10}, all},
		"TLBI_NH_VAA, Leaf = 0":                     {smmuv3.Command{0x13, page}, all},
		"TLBI_NH_VAA, Leaf = 1":                     {smmuv3.Command{0x13, page | 1}, leaf},
		"TLBI_NH_ASID":                              {smmuv3.Command{0x11 | asid}, all},
		"TLBI_NH_ASID of another ASID":              {smmuv3.Command{0x11 | 2<<48}, leaf},
		"TLBI_NH_ALL":                               {smmuv3.Command{0x10}, all},
		"TLBI_S12_VMALL":                            {smmuv3.Command{0x28}, all},
		"TLBI_NSNH_ALL":                             {smmuv3.Command{0x30}, all},
	} {
		t.Run(name, func(t *testing.T) {
			for level := 1; level <= 3; level++ {
				untilCached(t, func() bool {
					r := newRig(t, soft.Config{})
					r.guest = r.mem
					tableRig(t, r)
					r.bind(oneCD)
					r.wantWord(0, 0)
					replaceTable(r.guest, level)
					before := r.reads(1 << 12)
					r.invalidate(c.cmd)
					after := r.reads(2<<12, 3<<12)
					if !c.tables {
						return before[0] == 1 && after[0] == 2 && after[1] == 3
					}
					assert.Equal(t, []uint64{0x102, 0x103}, after, "level %d", level)
					return before[0] == 1
				})
			}
		})
	}
}

// A CD that is read again has its own tables: another TTB0 takes effect with CFGI_CD, CFGI_CD_ALL
// or Bind.
func TestTablesBelongToTheirCD(t *testing.T) {
	for name, invalidate := range map[string]func(r *rig){
		"CFGI_CD":     func(r *rig) { r.invalidate(smmuv3.Command{0x42_00000005}) },
		"CFGI_CD_ALL": func(r *rig) { r.invalidate(smmuv3.Command{0x42_00000006}) },
		"Bind":        func(r *rig) { r.bind(oneCD) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.guest = r.mem
			tableRig(t, r)
			r.bind(oneCD)
			r.wantWord(0, 0)
			replaceTable(r.guest, 1)
			r.guest.SetWords(0x50000, r.guest.Words(0x10000, 1)...)
			r.guest.SetWords(0x10000, 0x20003)
			r.guest.SetWords(cdAt, cd4K, 0x50000)
			r.wantWord(1, 1<<12)
			invalidate(r)
			r.wantWord(0x102, 2<<12)
		})
	}
}

// CDs with the same tables share no cached table. Here one CD has HAD0 and therefore ignores
// APTable.
func TestCDsShareNoCachedTables(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.guest = r.mem
	tableRig(t, r)
	r.mem.SetWords(0x20000, 0x30003|1<<62) // APTable: read-only
	for ssid := range guestmem.GPA(3) {
		r.mem.SetWords(cdAt+0x40*ssid, cd4K, 0x10000|uint64(ssid&1)<<1)
	}
	g := oneCD
	g.S1CDMax, g.S1DSS = 2, smmuv3.S1DSSSubstream0
	r.bind(g)
	for i, ssid := range []smmuv3.SubstreamID{1, 2, 1} {
		p := r.ep.With(soft.Attrs{Substream: ssid, HasSubstream: true})
		_, err := word(p, uint64(4*i)<<12)
		require.NoError(t, err)
		err = p.WriteAt(make([]byte, 8), uint64(4*i+1)<<12)
		if ssid == 1 {
			assert.NoError(t, err)
		} else {
			assert.ErrorIs(t, err, soft.ErrFault)
		}
	}
}

// Each walk reads the descriptor of the last level from memory. It thus finds the current flags,
// and an invalid descriptor faults at once.
func TestCachedTablesHoldNoLeaf(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.guest = r.mem
	tableRig(t, r)
	r.bind(oneCD)
	r.wantWord(0, 0)
	r.guest.SetWords(0x40008, 0)
	_, err := word(r.ep, 1<<12)
	require.ErrorIs(t, err, soft.ErrFault)
	events := r.taken()
	require.Len(t, events, 1)
	assert.Equal(t, smmuv3.FTranslation, events[0].Type())
	r.guest.SetWords(0x40008, newPages|pageRW)
	r.wantWord(0x100, 1<<12)
}

// A walk that faults at a cached table starts again from the first table. A table that the guest
// replaced without an invalidation therefore causes no fault if the tables in memory translate.
func TestFaultsComeFromAWalkFromTheRoot(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.guest = r.mem
	tableRig(t, r)
	r.bind(oneCD)
	r.wantWord(0, 0)
	replaceTable(r.guest, 3)
	r.guest.SetWords(0x40000, make([]uint64, 16)...) // the old table is cleared
	r.wantWord(0x101, 1<<12)
}

// The limits of the table descriptors above a cached table apply to the walks that begin at it.
func TestCachedTablesKeepTheLimitsOfTheHierarchy(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.guest = r.mem
	tableRig(t, r)
	r.mem.SetWords(0x20000, 0x30003|1<<62) // APTable: read-only
	r.bind(oneCD)
	r.wantWord(0, 0)
	assert.ErrorIs(t, r.ep.WriteAt(make([]byte, 8), 1<<12), soft.ErrFault)
	r.wantWord(1, 1<<12)
}

// §4.4.3.1: TLBI_S2_IPA with Leaf = 0 applies to the tables of stage 2, also of nested
// translations. TLBI_S12_VMALL applies to the tables of both stages. The guest moves a table of
// stage 2. Then the test translates IPAs of this table for the first time.
func TestInvalidationsOfTablesOfStage2(t *testing.T) {
	const (
		vmid  = 7
		moved = s2At + 0x3000
	)
	for name, c := range map[string]struct {
		cmd    smmuv3.Command
		tables bool
	}{
		"TLBI_S2_IPA, Leaf = 0":                 {smmuv3.Command{0x2a | vmid<<32, 0x1f_f000}, true},
		"TLBI_S2_IPA, Leaf = 1":                 {smmuv3.Command{0x2a | vmid<<32, 0x1f_f001}, false},
		"TLBI_S2_IPA, Leaf = 0 of another VMID": {smmuv3.Command{0x2a | 8<<32, 0x1f_f000}, false},
		"TLBI_S12_VMALL":                        {smmuv3.Command{0x28 | vmid<<32}, true},
		"TLBI_NSNH_ALL":                         {smmuv3.Command{0x30}, true},
	} {
		for kind, stage := range map[string]bridge.GuestStage{
			"alone": stage2(bridge.TranslateS2, s2DW2, s2At), "nested": nested(0),
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				untilCached(t, func() bool {
					r := newNestedRig(t, soft.Config{})
					stage.S2VMID = vmid
					r.map4K(cd4K, 0x10_0000|pageRW, 0x10_1000|pageRW, 0x10_2000|pageRW)
					ipa := uint64(0x10_0000)
					if stage.Disposition == bridge.TranslateNested {
						ipa = 0
					}
					for i := range uint64(3) {
						r.guest.SetWords(gpa(0x10_0000+i<<12), i)
						r.mem.SetWords(gpa(dataAt+i<<12), 0x100|i)
					}
					r.bind(stage)
					r.wantWord(0, ipa)
					// A copy of the table of level 3 maps the pages of data to other addresses.
					for page := range guestmem.GPA(512) {
						r.mem.SetWords(moved+8*page, r.mem.Words(s2Pages+8*page, 1)...)
					}
					for i := range uint64(3) {
						r.mem.SetWords(moved+gpa(0x800+8*i), (dataAt+i<<12)|0x7ff)
					}
					r.mem.SetWords(s2At+0x1000, moved|3)
					before := r.reads(ipa + 1<<12)
					r.invalidate(c.cmd)
					after := r.reads(ipa + 2<<12)
					if !c.tables {
						return before[0] == 1 && after[0] == 2
					}
					assert.Equal(t, []uint64{0x102}, after)
					return before[0] == 1
				})
			})
		}
	}
}
