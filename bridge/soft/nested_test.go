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

// The stage 2 of these tests has 39 bits and 4 KiB pages. IPAs below 2 MiB hold the guest's CD and
// tables, and map page by page from structsAt on. The GiB from 1 GiB on is a block at dataAt.
const (
	s2At      = 0x8_0000_0000
	s2Pages   = s2At + 0x2000 // descriptors of the pages below 2 MiB
	structsAt = 0x1_0000_0000
	dataAt    = 0x2_0000_0000

	s2DW2 = 0x040d_0059_0000_0000 // S2T0SZ 25, S2SL0 1, S2PS 48 bits, S2AA64, S2R
)

// nestedGuest writes at IPAs.
type nestedGuest struct{ mem *guestmem.Fake }

func (g nestedGuest) pa(ipa guestmem.GPA) guestmem.GPA {
	if ipa < 1<<30 {
		return structsAt + ipa
	}
	return dataAt + ipa - 1<<30
}

func (g nestedGuest) SetWords(ipa guestmem.GPA, words ...uint64) { g.mem.SetWords(g.pa(ipa), words...) }

func (g nestedGuest) Words(ipa guestmem.GPA, n int) []uint64 { return g.mem.Words(g.pa(ipa), n) }

// newNestedRig returns a rig whose guest runs under a hypervisor, with a stage 2.
func newNestedRig(t *testing.T, cfg soft.Config) *rig {
	if cfg.IDs == (smmuv3.IDRegs{}) {
		cfg.IDs = soft.Stage2IDs()
	}
	r := newRig(t, cfg)
	r.guest = nestedGuest{r.mem}
	r.mem.SetWords(s2At, s2At+0x1003, dataAt|0x7fd)
	r.mem.SetWords(s2At+0x1000, s2Pages|3)
	for page := range guestmem.GPA(512) {
		r.mem.SetWords(s2Pages+8*page, structsAt|uint64(page)<<12|0x7ff)
	}
	return r
}

// s2Page returns the address of the descriptor of a page below 2 MiB.
func s2Page(ipa guestmem.GPA) guestmem.GPA { return s2Pages + ipa>>12*8 }

func nested(flags uint64) bridge.GuestStage {
	return stage2(bridge.TranslateNested, s2DW2|flags, s2At)
}

// Stage 2 translates the addresses of the CD, the tables and the page.
func TestNestedWalk(t *testing.T) {
	r := newNestedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	r.guest.SetWords(0x5000_0678, 0xfeed)
	assert.Equal(t, []uint64{0xfeed}, r.mem.Words(0x2_1000_0678, 1))
	r.bind(nested(0))
	for range 2 {
		got, err := word(r.ep, 0x678)
		require.NoError(t, err)
		assert.EqualValues(t, 0xfeed, got)
	}
	require.NoError(t, r.ep.WriteAt([]byte{1}, 0x678))
	assert.Equal(t, []uint64{0xfe01}, r.mem.Words(0x2_1000_0678, 1))
	assert.Empty(t, r.taken())
}

// Each fault has the stage and class of the specification: the order of §7.3.22, the fields of
// §7.3.10 to §7.3.16, and whole records.
func TestGoldenNestedFaults(t *testing.T) {
	const (
		iova   = 0x5678
		leaf   = 0x5000_5000 | pageRW
		noRead = structsAt | 0x73f // no S2AP
		device = structsAt | 0x7c7 // MemAttr 0b0001: Device-nGnRE
		ptw    = 1 << 54
	)
	for _, c := range []struct {
		name  string
		cd0   uint64
		flags uint64 // of dw2
		fwb   bool
		mem   words // changes to valid structures
		bad   guestmem.GPA
		want  smmuv3.Event
	}{
		{"the CD's page is not mapped", cd4K, 0, false, words{s2Page(0x1000): 0}, 0, smmuv3.Event{0x42_00000010, evRead | evS2 | evCD, iova, 0x1000}},
		{"the CD's page is not readable", cd4K, 0, false, words{s2Page(0x1000): noRead}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evCD, iova, 0x1000}},
		{"the CD's page has not been accessed", cd4K, 0, false, words{s2Page(0x1000): structsAt | 0x3ff}, 0, smmuv3.Event{0x42_00000012, evRead | evS2 | evCD, iova, 0x1000}},
		{"the descriptor of the CD's page cannot be read", cd4K, 0, false, nil, s2Page(0x1000), smmuv3.Event{0x42_0000000b, evRead | evS2 | evCD, iova, s2Pages + 8}},
		{"the CD cannot be read: its physical address", cd4K, 0, false, nil, structsAt + 0x1000, smmuv3.Event{0x42_00000009, 0, 0, structsAt + 0x1000}},
		{"the CD is illegal", cd4K &^ (1 << 31), 0, false, nil, 0, smmuv3.Event{0x42_0000000a}},
		{"a table's page is not mapped", cd4K, 0, false, words{s2Page(0x30000): 0}, 0, smmuv3.Event{0x42_00000010, evRead | evS2 | evTT, iova, 0x30000}},
		{"a table's page is not mapped: IPA[11:0] are no part of the record", cd4K, 0, false, words{s2Page(0x40000): 0}, 0, smmuv3.Event{0x42_00000010, evRead | evS2 | evTT, iova, 0x40000}},
		{"a table's page is not readable", cd4K, 0, false, words{s2Page(0x20000): noRead}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evTT | evTTRnW, iova, 0x20000}},
		{"the descriptor of a table's page cannot be read", cd4K, 0, false, nil, s2Page(0x20000), smmuv3.Event{0x42_0000000b, evRead | evS2 | evTT, iova, s2Pages + 0x100}},
		{"a descriptor of stage 1 cannot be read", cd4K, 0, false, nil, structsAt + 0x30000, smmuv3.Event{0x42_0000000b, evRead | evTT, iova, structsAt + 0x30000}},
		{"a table beyond what stage 2 translates", cd4K, 0, false, words{structsAt + 0x20000: 0x80_0000_0003}, 0, smmuv3.Event{0x42_00000010, evRead | evS2 | evTT, iova, 0x80_0000_0000}},
		{"a table beyond IPS is a fault of stage 1", cd4K &^ (7 << 32), 0, false, words{structsAt + 0x20000: 0x80_0000_0003}, 0, smmuv3.Event{0x42_00000011, evRead | evIN, iova}},
		{"stage 1 has no mapping", cd4K, 0, false, words{structsAt + 0x40028: 0}, 0, smmuv3.Event{0x42_00000010, evRead | evIN, iova}},
		{"stage 1 denies permission", cd4K, 0, false, words{structsAt + 0x40028: leaf &^ (1 << 6)}, 0, smmuv3.Event{0x42_00000013, evRead | evIN, iova}},
		{"stage 1's Access flag", cd4K, 0, false, words{structsAt + 0x40028: leaf &^ (1 << 10)}, 0, smmuv3.Event{0x42_00000012, evRead | evIN, iova}},
		{"stage 1's fault comes before the page's of stage 2", cd4K, 0, false, words{structsAt + 0x40028: leaf &^ (1 << 6), s2At + 8: 0}, 0, smmuv3.Event{0x42_00000013, evRead | evIN, iova}},
		{"the page is not mapped", cd4K, 0, false, words{s2At + 8: 0}, 0, smmuv3.Event{0x42_00000010, evRead | evS2 | evIN, iova, 0x5000_5000}},
		{"the page is not readable", cd4K, 0, false, words{s2At + 8: dataAt | 0x73d}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evIN, iova, 0x5000_5000}},
		{"the page's descriptor cannot be read", cd4K, 0, false, nil, s2At + 8, smmuv3.Event{0x42_0000000b, evRead | evS2 | evIN, iova, s2At + 8}},

		{"flags of stage 1 on a page that stage 2 has read-only", cd4K | 1<<43, 0, false,
			words{structsAt + 0x40028: leaf &^ (1 << 10), s2Page(0x40000): structsAt | 0x40000 | 0x77f}, 0,
			smmuv3.Event{0x42_00000013, evRead | evS2 | evTT, iova, 0x40000}},

		{"S2PTW: a CD in Device memory", cd4K, ptw, false, words{s2Page(0x1000): device | 0x1000}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evCD, iova, 0x1000}},
		{"S2PTW: a table in Device memory", cd4K, ptw, false, words{s2Page(0x20000): device | 0x20000}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evTT | evTTRnW, iova, 0x20000}},
		{"S2PTW with S2FWB: MemAttr[2] = 0 is Device memory", cd4K, ptw, true, words{s2Page(0x20000): structsAt | 0x20000 | 0x7e7}, 0, smmuv3.Event{0x42_00000013, evRead | evS2 | evTT | evTTRnW, iova, 0x20000}},
		{"S2PTW without S2FWB: MemAttr 0b1001 is not", cd4K, ptw, false, words{s2Page(0x20000): structsAt | 0x20000 | 0x7e7}, 0, smmuv3.Event{}},
		{"S2PTW: the page itself may be Device memory", cd4K, ptw, false, words{s2At + 8: dataAt | 0x7c5}, 0, smmuv3.Event{}},
		{"S2PTW = 0: a table in Device memory", cd4K, 0, false, words{s2Page(0x20000): device | 0x20000}, 0, smmuv3.Event{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newNestedRig(t, soft.Config{})
			r.map4K(c.cd0, 0, 0, 0, 0, 0, leaf)
			r.guest.SetWords(0x5000_5678, 0xfeed)
			for at, w := range c.mem {
				r.mem.SetWords(at, w)
			}
			if c.bad != 0 {
				r.mem.FailReads(guestmem.Range{GPA: c.bad, Len: 8}, nil)
			}
			g := nested(c.flags)
			g.S2.FWB = c.fwb
			r.bind(g)
			got, err := word(r.ep, iova)
			if c.want == (smmuv3.Event{}) {
				require.NoError(t, err)
				assert.EqualValues(t, 0xfeed, got)
				return
			}
			require.ErrorIs(t, err, soft.ErrFault)
			assert.Equal(t, []smmuv3.Event{c.want}, r.taken())

			g.S2.R = false
			r.bind(g)
			_, err = word(r.ep, iova)
			require.ErrorIs(t, err, soft.ErrFault)
			suppressed := c.want[1]&evS2 != 0 && c.want.Type() != smmuv3.FWalkEABT
			assert.Equal(t, suppressed, len(r.taken()) == 0, "S2R = 0 applies to faults of stage 2 only")
		})
	}
}

// CD.A does not apply to faults of stage 2 (§5.5).
func TestStage2FaultIgnoresTheCDsA(t *testing.T) {
	r := newNestedRig(t, soft.Config{})
	r.map4K(cd4K&^(1<<46), 0x5000_0000|pageRW) // A = 0
	r.bind(nested(0))
	_, err := word(r.ep, 0x1000)
	require.NoError(t, err, "a fault of stage 1 is RAZ/WI")
	r.mem.SetWords(s2At+8, 0)
	_, err = word(r.ep, 0)
	assert.ErrorIs(t, err, soft.ErrFault)
}

// S1DSS = bypass: the address is an IPA, which stage 2 alone translates (§5.2).
func TestNestedStage1Bypass(t *testing.T) {
	r := newNestedRig(t, soft.Config{})
	r.guest.SetWords(0x5000_0678, 0xfeed)
	g := nested(0)
	g.S1CDMax, g.S1DSS = 4, smmuv3.S1DSSBypass
	r.bind(g)
	for range 2 {
		got, err := word(r.ep, 0x5000_0678)
		require.NoError(t, err)
		assert.EqualValues(t, 0xfeed, got)
	}
	_, err := word(r.ep, 0x8000_0000)
	require.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00000010, evRead | evS2 | evIN, 0x8000_0000, 0x8000_0000}}, r.taken())
	_, err = word(r.ep, 1<<48)
	require.ErrorIs(t, err, soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00000011, evRead | evIN, 1 << 48}}, r.taken(), "a bypass of stage 1 faults at stage 1 (§3.4)")
}

// Stage 2 translates the addresses of an L1CD and of the CD to which it points.
func TestNestedTwoLevelCDTable(t *testing.T) {
	r := newNestedRig(t, soft.Config{})
	r.map4K(cd4K, 0x5000_0000|pageRW)
	cd := r.guest.Words(cdAt, 2)
	r.guest.SetWords(0x2000+8, 0x60001) // the second L1CD, of 4 KiB leaves
	r.guest.SetWords(0x60000+5*64, cd...)
	r.guest.SetWords(0x5000_0678, 0xfeed)
	g := nested(0)
	g.S1ContextPtr, g.S1CDMax, g.S1Fmt = 0x2000, 8, smmuv3.S1Fmt4K
	r.bind(g)
	port := r.ep.With(soft.Attrs{Substream: 64 + 5, HasSubstream: true})
	got, err := word(port, 0x678)
	require.NoError(t, err)
	assert.EqualValues(t, 0xfeed, got)

	for _, page := range []guestmem.GPA{0x2000, 0x60000} {
		d := r.mem.Words(s2Page(page), 1)[0]
		r.mem.SetWords(s2Page(page), 0)
		r.bind(g)
		_, err = word(port, 0x678)
		require.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, []smmuv3.Event{{0x42_00045810, evRead | evS2 | evCD, 0x678, uint64(page)}}, r.taken())
		r.mem.SetWords(s2Page(page), d)
	}
}

// The leaf of either stage may be the larger one. Both must permit an access.
func TestNestedPermissions(t *testing.T) {
	for _, c := range []struct {
		name   string
		s1, s2 uint64
		want   string // letters of accesses, in their order
	}{
		{"both permit data accesses", pageRW, 0x7ff, "RWrwx"},
		{"stage 2 is read-only", pageRW, 0x77f, "Rrx"},
		{"stage 2 is write-only", pageRW, 0x7bf, "Wwx"},
		{"stage 1 is read-only", pageRW | 1<<7, 0x7ff, "RXrx"},
		{"stage 1 is for privileged software", pageRW &^ (1 << 6), 0x7ff, "RWXx"},
		{"the same, and XN of stage 2 for unprivileged", pageRW &^ (1 << 6), 0x7ff | 3<<53, "RWX"},
		{"the same, and XN for privileged", pageRW &^ (1 << 6), 0x7ff | 1<<53, "RWx"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newNestedRig(t, soft.Config{})
			r.map4K(cd4K, 0x70000|c.s1)
			r.mem.SetWords(s2Page(0x70000), structsAt|0x70000|c.s2)
			r.bind(nested(0))
			for _, how := range []string{"by a walk", "from the TLB"} {
				var got string
				for _, a := range accesses {
					p := r.ep.With(a.attrs)
					do := p.ReadAt
					if a.write {
						do = p.WriteAt
					}
					if do(make([]byte, 4), 0) == nil {
						got += a.letter
					}
				}
				assert.Equal(t, c.want, got, how)
			}
		})
	}
}

// §4.4.2, §4.4.3: an invalidation reaches the entries of the VMID that it names, and no others.
func TestInvalidationByVMID(t *testing.T) {
	const (
		vmid1 = 1 << 32
		vmid2 = 2 << 32
		asid1 = 1 << 48
		s1    = "stage 1"
		s2    = "stage 2"
		both  = "nested"
	)
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
		want []string // the streams of VMID 1 whose translations are invalidated
		all  bool     // the streams of VMID 2 lose their translations, too
	}{
		{"TLBI_NH_ALL", smmuv3.Command{0x10 | vmid1}, []string{s1, both}, false},
		{"TLBI_NH_ASID", smmuv3.Command{0x11 | vmid1 | asid1}, []string{s1, both}, false},
		{"TLBI_NH_ASID of another ASID", smmuv3.Command{0x11 | vmid1 | 2<<48}, nil, false},
		{"TLBI_NH_VA", smmuv3.Command{0x12 | vmid1 | asid1, 0}, []string{s1, both}, false},
		{"TLBI_NH_VA of another page", smmuv3.Command{0x12 | vmid1 | asid1, 0x1000}, nil, false},
		{"TLBI_NH_VAA", smmuv3.Command{0x13 | vmid1, 0}, []string{s1, both}, false},
		{"TLBI_S2_IPA of the input address", smmuv3.Command{0x2a | vmid1, 0x7_0000}, []string{s2}, false},
		{"TLBI_S2_IPA of another page", smmuv3.Command{0x2a | vmid1, 0x7_1000}, nil, false},
		{"TLBI_S2_IPA of a range", smmuv3.Command{0x2a | vmid1 | 31<<12, 0x6_0000 | 1<<10}, []string{s2}, false},
		{"TLBI_S12_VMALL", smmuv3.Command{0x28 | vmid1}, []string{s1, s2, both}, false},
		{"TLBI_NSNH_ALL", smmuv3.Command{0x30}, []string{s1, s2, both}, true},
		{"TLBI_NH_ALL of an unused VMID", smmuv3.Command{0x10 | 0xffff<<32}, nil, false},
		{"TLBI_S12_VMALL of VMID 0", smmuv3.Command{0x28}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newNestedRig(t, soft.Config{})
			// Stage 2 maps page 0 of the guest and IPA 0x70000 to one of two physical addresses.
			r.map4K(cd4K, 0x7_0000|pageRW)
			r.mem.SetWords(0x1000, r.guest.Words(cdAt, 2)...) // for stage 1 alone
			for at, n := range map[guestmem.GPA]int{0x10000: 1, 0x20000: 1, 0x30000: 1} {
				r.mem.SetWords(at, r.guest.Words(at, n)...)
			}
			move := func(pa uint64) {
				r.mem.SetWords(s2Page(0x70000), pa|0x7ff)
				r.mem.SetWords(0x40000, pa|pageRW)
			}
			r.mem.SetWords(0x6000_0000, 1)
			r.mem.SetWords(0x6000_1000, 2)
			move(0x6000_0000)

			type stream struct {
				kind string
				vmid smmuv3.VMID
				read func() uint64
			}
			var streams []stream
			for i := range 6 {
				vmid, kind := smmuv3.VMID(1+i%2), []string{s1, s2, both}[i/2]
				ep := soft.NewEndpoint()
				st, err := r.host.Attach(sid+1+smmuv3.StreamID(i), ep)
				require.NoError(t, err)
				g := map[string]bridge.GuestStage{s1: oneCD, s2: stage2(bridge.TranslateS2, s2DW2, s2At), both: nested(0)}[kind]
				g.S2VMID = vmid
				require.NoError(t, st.Bind(g))
				iova := map[string]uint64{s2: 0x7_0000}[kind]
				streams = append(streams, stream{kind, vmid, func() uint64 {
					v, err := word(ep, iova)
					require.NoError(t, err)
					return v
				}})
			}
			for _, s := range streams {
				require.EqualValues(t, 1, s.read())
			}
			move(0x6000_1000)
			for _, s := range streams {
				require.EqualValues(t, 1, s.read(), "the TLB holds the translation of %s", s.kind)
			}
			r.invalidate(c.cmd)
			for _, s := range streams {
				gone := c.all && s.vmid == 2
				for _, kind := range c.want {
					gone = gone || s.vmid == 1 && kind == s.kind
				}
				want := map[bool]uint64{true: 2, false: 1}[gone]
				assert.Equal(t, want, s.read(), "%s of VMID %d", s.kind, s.vmid)
			}
		})
	}
}

// All streams of a VMID share a domain of the TLB. It exists while one of them is attached.
func TestStreamsOfOneVMIDShareTranslations(t *testing.T) {
	r := newNestedRig(t, soft.Config{})
	g := stage2(bridge.TranslateS2, s2DW2|7, s2At)
	r.mem.SetWords(structsAt, 1)
	r.mem.SetWords(structsAt+0x1000, 2)
	r.bind(g)
	_, err := word(r.ep, 0)
	require.NoError(t, err)
	r.mem.SetWords(s2Pages, structsAt|0x17ff)

	other := soft.NewEndpoint()
	st, err := r.host.Attach(sid+1, other)
	require.NoError(t, err)
	require.NoError(t, st.Bind(g))
	got, err := word(other, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 1, got, "both use the same translation")

	// A domain that has no stream is freed. A later one of the same VMID holds none of its entries.
	require.NoError(t, st.Close())
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	g.S2VMID = 8
	r.bind(g)
	got, err = word(r.ep, 0)
	require.NoError(t, err)
	assert.EqualValues(t, 2, got)
}

// The TLB holds a block of stage 1 on smaller pages of stage 2 in parts. An address in the block
// invalidates all parts, for any level hint.
func TestInvalidationOfAFracturedBlock(t *testing.T) {
	for _, c := range []struct {
		name string
		cmd  smmuv3.Command
	}{
		{"by address", smmuv3.Command{0x12 | 1<<48, 0}},
		{"by another address", smmuv3.Command{0x12 | 1<<48, 0x1f_f000}},
		{"by address and level", smmuv3.Command{0x12 | 1<<48, 1<<10 | 2<<8}},
		{"by address for all ASIDs", smmuv3.Command{0x13, 0x10_0000}},
	} {
		for _, global := range []uint64{0, 1 << 11} {
			t.Run(c.name, func(t *testing.T) {
				r := newNestedRig(t, soft.Config{})
				r.map4K(cd4K)
				r.guest.SetWords(0x30000, blockRW&^global) // IPA 0 to 2 MiB
				r.mem.SetWords(structsAt+0x9_0678, 1)
				r.guest.SetWords(0x4009_0678, 2)
				r.bind(nested(0))
				got, err := word(r.ep, 0x9_0678)
				require.NoError(t, err)
				require.EqualValues(t, 1, got)
				r.guest.SetWords(0x30000, 0x4000_0000|blockRW)
				got, err = word(r.ep, 0x9_0678)
				require.NoError(t, err)
				require.EqualValues(t, 1, got, "the TLB holds the translation")
				r.invalidate(c.cmd)
				got, err = word(r.ep, 0x9_0678)
				require.NoError(t, err)
				assert.EqualValues(t, 2, got)
			})
		}
	}
}
