package soft_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Two address spaces, ASID 1 and 2, share tables: two pages, a global page and a block. The TLB
// holds all of them when the guest changes every leaf and issues one command. fresh lists the
// places that then read the new leaf: the places that the command names, and no others (§4.4,
// §4.3).
func TestEachCommandInvalidatesItsEntries(t *testing.T) {
	const (
		asid1 = 1 << 48
		asid2 = 2 << 48
		tg4K  = 0b01 << 10
		tg16K = 0b10 << 10
		all   = "1.p 1.q 1.g 1.b 2.p 2.q 2.g 2.b"
	)
	spots := []struct {
		name string
		iova uint64
	}{{"p", 0x8}, {"q", 0x1008}, {"g", 0x2008}, {"b", 0x25_5008}}

	for _, c := range []struct {
		name  string
		cmd   smmuv3.Command
		fresh string
	}{
		{"none", smmuv3.Command{0x40}, ""}, // ATC_INV
		{"TLBI_NH_ALL", smmuv3.Command{0x10}, all},
		{"TLBI_NSNH_ALL", smmuv3.Command{0x30}, all},
		{"TLBI_NH_ASID: no global entry", smmuv3.Command{0x11 | asid1}, "1.p 1.q 1.b"},
		{"TLBI_NH_ASID of another ASID", smmuv3.Command{0x11 | 3<<48}, ""},
		{"TLBI_NH_VA", smmuv3.Command{0x12 | asid1, 0}, "1.p"},
		{"TLBI_NH_VA of the other ASID", smmuv3.Command{0x12 | asid2, 0x1001}, "2.q"},
		{"TLBI_NH_VA of a global page, with any ASID", smmuv3.Command{0x12 | 3<<48, 0x2000}, "1.g 2.g"},
		{"TLBI_NH_VA anywhere in a block", smmuv3.Command{0x12 | asid2, 0x3f_f000}, "2.b"},
		{"TLBI_NH_VA next to a block", smmuv3.Command{0x12 | asid2, 0x40_0000}, ""},
		{"TLBI_NH_VAA", smmuv3.Command{0x13, 0x1000}, "1.q 2.q"},
		{"TLBI_NH_VAA of a global page", smmuv3.Command{0x13, 0x2000}, "1.g 2.g"},
		{"TLBI_NH_VAA in a block", smmuv3.Command{0x13, 0x20_0000}, "1.b 2.b"},
		{"range: NUM = 1, SCALE = 0, two pages", smmuv3.Command{0x12 | asid1 | 1<<12, tg4K}, "1.p 1.q"},
		{"range: NUM = 0, SCALE = 1, two pages from the second on", smmuv3.Command{0x12 | asid1 | 1<<20, tg4K | 0x1000}, "1.q 1.g 2.g"},
		{"range of another granule", smmuv3.Command{0x12 | asid1 | 1<<12, tg16K}, ""},
		{"range for all ASIDs", smmuv3.Command{0x13 | 1<<12, tg4K}, "1.p 1.q 2.p 2.q"},
		{"level hint: 3", smmuv3.Command{0x12 | asid1 | 1<<12, tg4K | 0b11<<8}, "1.p 1.q"},
		{"level hint: 2, a block", smmuv3.Command{0x12 | asid1, tg4K | 0b10<<8 | 1 | 0x20_0000}, "1.b"},
		{"level hint: 2, at pages", smmuv3.Command{0x12 | asid1, tg4K | 0b10<<8 | 1}, ""},
		{"range that reaches the block", smmuv3.Command{0x12 | asid1 | 1<<12 | 9<<20, tg4K | 0b10<<8 | 1}, "1.b"},
		{"a long range: everything, since there are global entries", smmuv3.Command{0x12 | asid1 | 31<<12 | 31<<20, tg4K}, all},
		{"a range beyond the last address", smmuv3.Command{0x12 | asid1 | 1<<12, tg4K | 0xffff_ffff_ffff_f000}, ""},
		{"CFGI_CD: no translations", smmuv3.Command{0x42_00001005}, ""},
		{"CFGI_CD_ALL: no translations", smmuv3.Command{0x42_00000006}, ""},
		{"CFGI_CD of an unknown stream", smmuv3.Command{0x43_00000005}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			const leaf, level2 = 0x40000, 0x30000
			r.map4K(0)
			r.mem.SetWords(cdAt+64, 0x0001_6205_c000_0010, 0x10000)
			r.mem.SetWords(cdAt+128, 0x0002_6205_c000_0010, 0x10000)
			point := func(page uint64) {
				r.mem.SetWords(leaf, page|pageRW, page|0x1000|pageRW, page|0x2000|0x443)
				r.mem.SetWords(level2+8, page|0x20_0000|blockRW)
			}
			point(0x5000_0000)
			for _, at := range []uint64{0x5000_0000, 0x6000_0000} {
				for _, off := range []uint64{0x8, 0x1008, 0x2008, 0x25_5008} {
					r.mem.SetWords(gpa(at+off), at)
				}
			}
			r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 2})

			read := func() (fresh []string) {
				for ssid := range 2 {
					p := r.ep.With(soft.Attrs{HasSubstream: true, Substream: smmuv3.SubstreamID(ssid + 1)})
					for _, s := range spots {
						got, err := word(p, s.iova)
						require.NoError(t, err)
						if got == 0x6000_0000 {
							fresh = append(fresh, string(rune('1'+ssid))+"."+s.name)
						}
					}
				}
				return fresh
			}
			read() // the TLB notes the forms of its entries
			read() // the TLB holds the translations
			point(0x6000_0000)
			require.Empty(t, read(), "the TLB is used until it is invalidated")

			r.invalidate(c.cmd)
			assert.Equal(t, c.fresh, strings.Join(read(), " "))
		})
	}
}

// §4.3.4: a cached CD is used until a command invalidates it by stream and SubstreamID.
func TestCFGI_CDInvalidatesItsCDs(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
		want [2]bool // of SubstreamIDs 1 and 2
	}{
		{"CFGI_CD", smmuv3.Command{0x42_00001005}, [2]bool{true, false}},
		{"CFGI_CD, Leaf", smmuv3.Command{0x42_00002005, 1}, [2]bool{false, true}},
		{"CFGI_CD of another stream", smmuv3.Command{0x43_00001005}, [2]bool{}},
		{"CFGI_CD_ALL", smmuv3.Command{0x42_00000006}, [2]bool{true, true}},
		{"TLBI_NSNH_ALL", smmuv3.Command{0x30}, [2]bool{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.map4K(0, 0x5000_0000|pageRW)
			r.mem.SetWords(cdAt+64, 0x0001_6205_c000_0010, 0x10000)
			r.mem.SetWords(cdAt+128, 0x0002_6205_c000_0010, 0x10000)
			r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 2})
			invalidated := func() (w [2]bool) {
				for i := range w {
					_, err := word(r.ep.With(soft.Attrs{HasSubstream: true, Substream: smmuv3.SubstreamID(i + 1)}), 0)
					w[i] = err != nil
				}
				return w
			}
			require.Equal(t, [2]bool{}, invalidated())
			r.mem.SetWords(cdAt+64, 0)
			r.mem.SetWords(cdAt+128, 0)
			require.Equal(t, [2]bool{}, invalidated())
			r.invalidate(c.cmd)
			assert.Equal(t, c.want, invalidated())
		})
	}
}

func TestInvalidateWithoutAnythingCached(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.invalidate()
	// The stream aborts, so it has no CDs.
	r.invalidate(smmuv3.Command{0x42_00001005}, smmuv3.Command{0x42_00000006})
	err := r.host.Invalidate([]smmuv3.Command{{0x46}, {0x03}})
	assert.ErrorContains(t, err, "SYNC")
	err = r.host.Invalidate([]smmuv3.Command{{0x46}, {0x42_00000040}}) // the ATC_INV succeeds, but the error remains
	assert.ErrorContains(t, err, "SYNC")
}

// When the guest makes a page writable, no TLBI is needed: an entry without the permission is a
// miss.
func TestRelaxedPermissionsNeedNoTLBI(t *testing.T) {
	r := newRig(t, soft.Config{})
	leaf := r.map4K(cd4K, 0x5000_0cc3) // read-only
	r.bind(oneCD)
	for range 2 {
		_, err := word(r.ep, 0)
		require.NoError(t, err)
	}
	require.ErrorIs(t, r.ep.WriteAt([]byte{1}, 0), soft.ErrFault)
	r.mem.SetWords(leaf, 0x5000_0c43)
	assert.NoError(t, r.ep.WriteAt([]byte{1}, 0))
}

// A TLB that is too small for the translations in use holds as many as fit. Every access translates
// correctly.
func TestSmallTLBTranslatesRight(t *testing.T) {
	r := newRig(t, soft.Config{TLBEntries: 8})
	var leaves [512]uint64
	for i := range uint64(512) {
		leaves[i] = 0x5000_0000 + i<<12 | pageRW
		r.mem.SetWords(gpa(0x5000_0000+i<<12), i)
	}
	r.map4K(cd4K, leaves[:]...)
	r.bind(oneCD)
	for range 3 {
		for i := range uint64(512) {
			got, err := word(r.ep, i<<12)
			require.NoError(t, err)
			require.Equal(t, i, got)
		}
	}
}

// §4.4.1: without IDR3.RIL the fields of ranges and levels are RES0, and ignored.
func TestRangesAndLevelsWithoutRIL(t *testing.T) {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.RIL, 0)
	ids.Set(smmuv3.ArchMinor, 1)
	r := newRig(t, soft.Config{IDs: ids})
	leaf := r.map4K(cd4K, 0x5000_0000|pageRW, 0x5000_0000|pageRW)
	r.bind(oneCD)
	r.mem.SetWords(0x5000_0000, 0x01d)
	r.mem.SetWords(0x6000_0000, 0x2e3)
	read := func(iova uint64) uint64 {
		got, err := word(r.ep, iova)
		require.NoError(t, err)
		return got
	}
	for range 2 {
		require.EqualValues(t, 0x01d, read(0))
		require.EqualValues(t, 0x01d, read(0x1000))
	}
	r.mem.SetWords(leaf, 0x6000_0000|pageRW, 0x6000_0000|pageRW)
	// NUM = 1, TG = 4 KiB, TTL = 2.
	r.invalidate(smmuv3.Command{0x12 | 1<<48 | 1<<12, 0b01<<10 | 0b10<<8 | 1})
	assert.EqualValues(t, 0x2e3, read(0), "a page, though TTL says block")
	assert.EqualValues(t, 0x01d, read(0x1000), "the next one, though NUM says two")
}

// Without global entries, a long range invalidates its ASID and no other.
func TestLongRangeInvalidatesItsASIDOnly(t *testing.T) {
	r := newRig(t, soft.Config{})
	leaf := r.map4K(0, 0x5000_0000|pageRW)
	r.mem.SetWords(cdAt+64, 0x0001_6205_c000_0010, 0x10000)
	r.mem.SetWords(cdAt+128, 0x0002_6205_c000_0010, 0x10000)
	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 2})
	r.mem.SetWords(0x5000_0000, 0x01d)
	r.mem.SetWords(0x6000_0000, 0x2e3)
	read := func(ssid smmuv3.SubstreamID) uint64 {
		got, err := word(r.ep.With(soft.Attrs{HasSubstream: true, Substream: ssid}), 0)
		require.NoError(t, err)
		return got
	}
	for range 2 {
		read(1)
		read(2)
	}
	r.mem.SetWords(leaf, 0x6000_0000|pageRW)
	// NUM = 31, SCALE = 2, TG = 4 KiB: 128 pages from 0x1000 on, one by one.
	r.invalidate(smmuv3.Command{0x12 | 1<<48 | 31<<12 | 2<<20, 1<<10 | 0x1000})
	assert.EqualValues(t, 0x01d, read(1))
	// SCALE = 3: 256 pages.
	r.invalidate(smmuv3.Command{0x12 | 1<<48 | 31<<12 | 3<<20, 1<<10 | 0x1000})
	assert.EqualValues(t, 0x2e3, read(1))
	assert.EqualValues(t, 0x01d, read(2))
}

// §4.4.1.1: TTL = 1 with the 16 KiB granule is reserved without IDR5.DS, and behaves as 0.
func TestTTL1Of16KiBIsNoHintWithoutDS(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.mem.SetWords(cdAt, 0x0001_6205_c000_00a7, 0x40000) // T0SZ = 39: level 3 alone
	r.mem.SetWords(0x40000, 0x5000_0c43)
	r.mem.SetWords(0x5000_0000, 0x01d)
	r.mem.SetWords(0x6000_0000, 0x2e3)
	r.bind(oneCD)
	for range 2 {
		_, err := word(r.ep, 0)
		require.NoError(t, err)
	}
	r.mem.SetWords(0x40000, 0x6000_0c43)
	got, err := word(r.ep, 0)
	require.NoError(t, err)
	require.EqualValues(t, 0x01d, got)
	r.invalidate(smmuv3.Command{0x12 | 1<<48 | 1<<12, 0b10<<10 | 0b01<<8 | 1})
	got, err = word(r.ep, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 0x2e3, got)
}

// §4.4.1.1: with IDR5.DS, TTL can name blocks of 64 GiB, and SCALE has six bits. TTL = 0 means any
// level, including level 0 of the 4 KiB granule.
func TestRangesWithDS(t *testing.T) {
	const asid, tg4K, tg16K, ds = 1 << 48, 0b01 << 10, 0b10 << 10, 1 << 58
	for _, c := range []struct {
		name        string
		cd0         uint64
		table       uint64 // the word of the first table without its address bits
		cmd         smmuv3.Command
		invalidated bool
	}{
		{"TTL = 1, 16 KiB: its blocks", 0x0001_6206_c000_0091, 0xc41, smmuv3.Command{0x12 | asid, tg16K | 0b01<<8}, true},
		{"TTL = 2, 16 KiB: not its blocks", 0x0001_6206_c000_0091, 0xc41, smmuv3.Command{0x12 | asid, tg16K | 0b10<<8 | 1}, false},
		{"a range, 16 KiB", 0x0001_6206_c000_0091, 0xc41, smmuv3.Command{0x12 | asid | 1<<12, tg16K}, true},
		{"a range, 4 KiB: blocks at level 0", 0x0001_6206_c000_0010, 0xc41, smmuv3.Command{0x12 | asid | 1<<12, tg4K}, true},
		{"TTL = 1, 4 KiB: not its blocks at level 0", 0x0001_6206_c000_0010, 0xc41, smmuv3.Command{0x12 | asid | 1<<12, tg4K | 0b01<<8 | 1}, false},
		{"SCALE = 32", 0x0001_6206_c000_0010, 0xc41, smmuv3.Command{0x12 | asid | 32<<20, tg4K | 0b11<<8 | 1}, false},
		{"SCALE = 32, any level", 0x0001_6206_c000_0010, 0xc41, smmuv3.Command{0x12 | asid | 32<<20, tg4K}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: idsDS()})
			r.mem.SetWords(cdAt, c.cd0, 0x40000, ds)
			block := func(at uint64) { r.mem.SetWords(0x40000, at|c.table) }
			block(0)
			r.mem.SetWords(0x5000_0000, 0x01d)
			r.mem.SetWords(1<<39|0x5000_0000, 0x2e3)
			r.bind(oneCD)
			read := func() uint64 {
				got, err := word(r.ep, 0x5000_0000)
				require.NoError(t, err)
				return got
			}
			require.EqualValues(t, 0x01d, read())
			block(1 << 39)
			require.EqualValues(t, 0x01d, read())
			r.invalidate(c.cmd)
			assert.Equal(t, c.invalidated, read() == 0x2e3)
		})
	}
}

// A range has 2^32 pages and begins far below the entry. SCALE has its sixth bit with IDR5.DS only.
func TestSixthBitOfSCALE(t *testing.T) {
	for _, c := range []struct {
		ids  smmuv3.IDRegs
		cmd  uint64
		want uint64
	}{
		{idsDS(), 32 << 20, 0x2e3},
		{ids52(), 32 << 20, 0x01d},
		{idsDS(), 63<<20 | 31<<12, 0x2e3}, // SCALE counts as 39
	} {
		r := newRig(t, soft.Config{IDs: c.ids})
		r.mem.SetWords(cdAt, 0x0001_6205_c000_0010, 0x10000)
		r.mem.SetWords(0x10000+8*3, 0x20003)
		r.mem.SetWords(0x20000, 0x4000_0c41)
		r.mem.SetWords(0x4000_0000, 0x01d)
		r.mem.SetWords(0x8000_0000, 0x2e3)
		r.bind(oneCD)
		const iova = 3 << 39
		_, err := word(r.ep, iova)
		require.NoError(t, err)
		r.mem.SetWords(0x20000, 0x8000_0c41)
		r.invalidate(smmuv3.Command{0x12 | 1<<48 | c.cmd, 0x1000 | 0b01<<10 | 0b01<<8})
		got, err := word(r.ep, iova)
		require.NoError(t, err)
		assert.Equal(t, c.want, got)
	}
}

// §5.4, ASET: the same ASID with the other ASET is another address space. A TLBI by ASID reaches
// both.
func TestASETSeparatesAddressSpaces(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.map4K(0, 0x5000_0000|pageRW)
	r.mem.SetWords(cdAt+64, 0x0001_6205_c000_0030, 0x70000)
	r.mem.SetWords(cdAt+128, 0x0001_e205_c000_0030, 0x78000)
	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cdAt, S1CDMax: 2})
	for _, global := range []uint64{0, 1 << 11} {
		r.mem.SetWords(0x70000, 0x5000_0c43^global)
		r.mem.SetWords(0x78000, 0x6000_0c43^global)
		r.mem.SetWords(0x5000_0000, 0x5e1)
		r.mem.SetWords(0x6000_0000, 0x6e1)
		for range 3 {
			for ssid, want := range map[smmuv3.SubstreamID]uint64{1: 0x5e1, 2: 0x6e1} {
				got, err := word(r.ep.With(soft.Attrs{HasSubstream: true, Substream: ssid}), 0)
				require.NoError(t, err)
				assert.Equal(t, want, got)
			}
		}
		r.mem.SetWords(0x70000, 0)
		r.mem.SetWords(0x78000, 0)
		r.invalidate(smmuv3.Command{0x12 | 1<<48, 0})
		for ssid := range smmuv3.SubstreamID(2) {
			_, err := word(r.ep.With(soft.Attrs{HasSubstream: true, Substream: ssid + 1}), 0)
			assert.ErrorIs(t, err, soft.ErrFault)
		}
	}
}

// §3.21.1.3: with IDR3.BBML = 2 a guest may change a block into a table and back while it is in
// use. Cached entries of either stay in use until they are invalidated, and no access faults.
func TestBlockChangesIntoTableWhileInUse(t *testing.T) {
	r := newRig(t, soft.Config{})
	var leaves [512]uint64
	for i := range uint64(512) {
		leaves[i] = 0x4020_0000 + i<<12 | pageRW
		r.mem.SetWords(gpa(0x4020_0000+i<<12), i)
	}
	r.map4K(cd4K, leaves[:]...)
	r.bind(oneCD)
	for turn := range 6 {
		if turn%2 == 0 {
			r.mem.SetWords(0x30000, 0x4020_0000|blockRW)
		} else {
			r.mem.SetWords(0x30000, 0x40003)
		}
		for i := range uint64(512) {
			got, err := word(r.ep, i<<12)
			require.NoError(t, err)
			require.Equal(t, i, got)
		}
	}
	r.mem.SetWords(0x30000, 0)
	r.invalidate(smmuv3.Command{0x12 | 1<<48, 0x5000})
	_, err := word(r.ep, 0x5000)
	assert.ErrorIs(t, err, soft.ErrFault, "page and block are the same")
}
