package soft_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stage2 returns the stage of an STE with these double-words 2 and 3. Its Config is 110, or 111
// with a CD at cdAt.
func stage2(d bridge.Disposition, dw2, dw3 uint64) bridge.GuestStage {
	ids := idsDS()
	ste := smmuv3.STE{2: dw2, 3: dw3}
	g := bridge.GuestStage{Disposition: d, S2VMID: ste.S2VMID(), S2: ste.Stage2()}
	if d.Stage1() {
		g.S1ContextPtr = cdAt
	}
	g.S2 = g.S2.Effective(&ids, d.Stage1())
	return g
}

// withStage2 adds the features of a stage 2 to ID registers.
func withStage2(ids smmuv3.IDRegs) smmuv3.IDRegs {
	for _, f := range []smmuv3.IDField{smmuv3.S2P, smmuv3.VMID16, smmuv3.XNX, smmuv3.FWB, smmuv3.PTWNNC} {
		ids.Set(f, 1)
	}
	return ids
}

// Every word here is written by hand. In dw2, S2T0SZ is [37:32], S2SL0 [39:38], S2TG [47:46], S2PS
// [50:48], S2AA64 51, S2R 58. Pages have AF, S2AP = 0b11, MemAttr = 0b1111 and SH set, 0x7ff, and
// blocks 0x7fd.
func TestGoldenWalksOfStage2(t *testing.T) {
	for _, c := range []struct {
		name     string
		ids      smmuv3.IDRegs
		dw2, dw3 uint64
		mem      words
		ipa      uint64
		pa       guestmem.GPA
	}{
		{"4 KiB, 39 bits begin at level 1", soft.Stage2IDs(), 0x040d_0059_0000_0000, 0x20000,
			words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_07ff}, 0x7f_1234_5ab8, 0x5000_0ab8},
		{"4 KiB, 40 bits: two tables at level 1", soft.Stage2IDs(), 0x040d_0058_0000_0000, 0x20000,
			words{0x21000: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_07ff}, 0x80_1234_5ab8, 0x5000_0ab8},
		{"S2TTB is aligned to both tables", soft.Stage2IDs(), 0x040d_0058_0000_0000, 0x21ff0,
			words{0x21000: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_07ff}, 0x80_1234_5ab8, 0x5000_0ab8},
		{"4 KiB, 43 bits: 16 tables at level 1", soft.Stage2IDs(), 0x040d_0055_0000_0000, 0x10000,
			words{0x1ffe0: 0x30003, 0x30488: 0x40003, 0x40a28: 0x5000_07ff}, 0x7ff_1234_5ab8, 0x5000_0ab8},
		{"4 KiB, 48 bits begin at level 0", soft.Stage2IDs(), 0x040d_0090_0000_0000, 0x10000,
			words{0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x40003, 0x403c0: 0xabcd_ef98_77ff}, 0x8123_4567_8ab8, 0xabcd_ef98_7ab8},
		{"4 KiB, 2 MiB block", soft.Stage2IDs(), 0x040d_0090_0000_0000, 0x10000,
			words{0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x7fe0_07fd}, 0x8123_4567_8ab8, 0x7fe7_8ab8},
		{"4 KiB, 1 GiB block", soft.Stage2IDs(), 0x040d_0090_0000_0000, 0x10000,
			words{0x10810: 0x20003, 0x20468: 0xc000_07fd}, 0x8123_4567_8ab8, 0xc567_8ab8},
		{"4 KiB, 34 bits: 16 tables at level 2", soft.Stage2IDs(), 0x040d_001e_0000_0000, 0x30000,
			words{0x3fff8: 0x40003, 0x40ff8: 0x5000_07ff}, 0x3_ffff_fab8, 0x5000_0ab8},
		{"4 KiB, 25 bits: 16 tables at level 3", soft.Stage2IDs(), 0x040d_00e7_0000_0000, 0x40000,
			words{0x4e018: 0x5000_07ff}, 0x1c0_3ab8, 0x5000_0ab8},
		{"16 KiB, 40 bits: 16 tables at level 2", soft.Stage2IDs(), 0x040d_8058_0000_0000, 0x80000,
			words{0xbffb0: 0x40003, 0x43970: 0x5000_07ff}, 0xff_edcb_aab8, 0x5000_2ab8},
		{"16 KiB, 32 MiB block", soft.Stage2IDs(), 0x040d_8058_0000_0000, 0x80000,
			words{0xbffb0: 0x4200_07fd}, 0xff_edcb_aab8, 0x43cb_aab8},
		{"16 KiB, 48 bits: two tables at level 1", soft.Stage2IDs(), 0x040d_8090_0000_0000, 0x10000,
			words{0x14090: 0x30003, 0x30d10: 0x40003, 0x42cf0: 0x5000_47ff}, 0x8123_4567_8ab8, 0x5000_4ab8},
		{"64 KiB, 42 bits begin at level 2", soft.Stage2IDs(), 0x040d_4056_0000_0000, 0x20000,
			words{0x2ffc8: 0x30003, 0x31a28: 0x5001_07ff}, 0x3ff_2345_6ab8, 0x5001_6ab8},
		{"64 KiB, 512 MiB block", soft.Stage2IDs(), 0x040d_4056_0000_0000, 0x20000,
			words{0x2ffc8: 0x6000_07fd}, 0x3ff_2345_6ab8, 0x6345_6ab8},
		{"64 KiB, 52-bit input", withStage2(ids52()), 0x040e_408c_0000_0000, 0x10000,
			words{0x11f00: 0x20003, 0x248d0: 0x30003, 0x32b38: 0x5001_07ff}, 0xf_8123_4567_8ab8, 0x5001_8ab8},
		{"64 KiB, 52-bit output", withStage2(ids52()), 0x040e_4056_0000_0000, 0x20000,
			words{0x2ffc8: 0x30003, 0x31a28: 0x5001_a7ff}, 0x3ff_2345_6ab8, 0xa_0000_5001_6ab8},
		{"4 KiB with S2DS, 52 bits begin at level -1", withStage2(idsDS()), 0x040e_000c_0000_0000, 0xf000 | 1<<3 | 1<<2,
			words{0xf078: 0x10003, 0x10810: 0x20003, 0x20468: 0x30003, 0x30158: 0x40003, 0x403c0: 0x0002_abcd_ef98_75ff},
			0xf_8123_4567_8ab8, 0x6_abcd_ef98_7ab8},
		{"S2ENDI: descriptors are big-endian", soft.Stage2IDs(), 0x041d_00e7_0000_0000, 0x40000,
			words{0x40018: 0xff07_0050_0000_0000}, 0x3ab8, 0x5000_0ab8},
		{"bits for software, and ignored bits", soft.Stage2IDs(), 0x040d_00e7_0000_0000, 0x40000,
			words{0x40018: 0xf798_0000_5000_07ff}, 0x3ab8, 0x5000_0ab8},
		{"S2PS beyond OAS behaves as OAS", soft.Stage2IDs(), 0x040f_00e7_0000_0000, 0x40000,
			words{0x40018: 0xffff_5000_07ff}, 0x3ab8, 0xffff_5000_0ab8},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: c.ids})
			for at, w := range c.mem {
				r.mem.SetWords(at, w)
			}
			r.mem.SetWords(c.pa, 0xfeed)
			g := stage2(bridge.TranslateS2, c.dw2, c.dw3)
			g.S2 = g.S2.Effective(&c.ids, false)
			r.bind(g)
			for _, how := range []string{"by a walk", "from the TLB"} {
				got, err := word(r.ep, c.ipa)
				require.NoError(t, err, how)
				assert.EqualValues(t, 0xfeed, got, how)
			}
			assert.Empty(t, r.taken())
		})
	}
}

// Bits of dw1 of events: RnW 35, S2 39, CLASS [41:40], TTRnW 44.
const (
	evRead  = 1 << 35
	evS2    = 1 << 39
	evCD    = 0b00 << 40
	evTT    = 0b01 << 40
	evIN    = 0b10 << 40
	evTTRnW = 1 << 44
)

// §7.3.12 to §7.3.16 and §3.4: whole records of failed walks of stage 2 alone.
func TestGoldenFaultsOfStage2(t *testing.T) {
	const (
		dw2  = 0x040d_0059_0000_0000 // 39 bits: levels 1 to 3
		ps36 = 0x0409_0059_0000_0000
		iova = 0x7f_1234_5ab8
		ipa  = 0x7f_1234_5000
		page = 0x5000_07ff
	)
	good := words{0x20fe0: 0x30003, 0x30488: 0x40003, 0x40a28: page}
	for _, c := range []struct {
		name string
		dw2  uint64
		mem  words // changes to good
		bad  guestmem.GPA
		iova uint64
		want []smmuv3.Event
	}{
		{"beyond S2T0SZ", dw2, nil, 0, 0x80_0000_0000, []smmuv3.Event{{0x42_00000010, evRead | evS2 | evIN, 0x80_0000_0000, 0x80_0000_0000}}},
		{"an address beyond the IPA size is a fault of stage 1", dw2, nil, 0, 1 << 48, []smmuv3.Event{{0x42_00000011, evRead | evIN, 1 << 48}}},
		{"invalid at level 1", dw2, words{0x20fe0: 0x30002}, 0, iova, []smmuv3.Event{{0x42_00000010, evRead | evS2 | evIN, iova, ipa}}},
		{"invalid at level 3", dw2, words{0x40a28: page &^ 2}, 0, iova, []smmuv3.Event{{0x42_00000010, evRead | evS2 | evIN, iova, ipa}}},
		{"a table beyond S2PS", ps36, words{0x20fe0: 0x10_0003_0003}, 0, iova, []smmuv3.Event{{0x42_00000011, evRead | evS2 | evIN, iova, ipa}}},
		{"a page beyond S2PS", ps36, words{0x40a28: 0x10_5000_07ff}, 0, iova, []smmuv3.Event{{0x42_00000011, evRead | evS2 | evIN, iova, ipa}}},
		{"Access flag 0", dw2, words{0x40a28: page &^ 0x400}, 0, iova, []smmuv3.Event{{0x42_00000012, evRead | evS2 | evIN, iova, ipa}}},
		{"Access flag 0 comes before permissions", dw2, words{0x40a28: page &^ 0x4c0}, 0, iova, []smmuv3.Event{{0x42_00000012, evRead | evS2 | evIN, iova, ipa}}},
		{"Access flag 0 with S2AFFD", dw2 | 1<<53, words{0x40a28: page &^ 0x4c0}, 0, iova, []smmuv3.Event{{0x42_00000013, evRead | evS2 | evIN, iova, ipa}}},
		{"no permission", dw2, words{0x40a28: page &^ 0x40}, 0, iova, []smmuv3.Event{{0x42_00000013, evRead | evS2 | evIN, iova, ipa}}},
		{"no memory at level 1", dw2, nil, 0x20fe0, iova, []smmuv3.Event{{0x42_0000000b, evRead | evS2 | evIN, iova, 0x20fe0}}},
		{"no memory at level 3", dw2, nil, 0x40a28, iova, []smmuv3.Event{{0x42_0000000b, evRead | evS2 | evIN, iova, 0x40a28}}},

		{"S2R = 0: no record", dw2 &^ (1 << 58), words{0x40a28: 0}, 0, iova, nil},
		{"S2R = 0 does not apply to external aborts", dw2 &^ (1 << 58), nil, 0x40a28, iova, []smmuv3.Event{{0x42_0000000b, evRead | evS2 | evIN, iova, 0x40a28}}},
		{"S2R = 0 does not apply to stage 1", dw2 &^ (1 << 58), nil, 0, 1 << 48, []smmuv3.Event{{0x42_00000011, evRead | evIN, 1 << 48}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: soft.Stage2IDs()})
			for _, m := range []words{good, c.mem} {
				for at, w := range m {
					r.mem.SetWords(at, w)
				}
			}
			if c.bad != 0 {
				r.mem.FailReads(guestmem.Range{GPA: c.bad, Len: 8}, nil)
			}
			r.bind(stage2(bridge.TranslateS2, c.dw2, 0x20000))
			_, err := word(r.ep, c.iova)
			require.ErrorIs(t, err, soft.ErrFault, "stage 2 has no RAZ/WI (§5.5)")
			assert.Equal(t, c.want, r.taken())
		})
	}
	t.Run("a SubstreamID, without stage 1", func(t *testing.T) {
		r := newRig(t, soft.Config{IDs: soft.Stage2IDs()})
		r.bind(stage2(bridge.TranslateS2, dw2, 0x20000))
		_, err := word(r.ep.With(soft.Attrs{Substream: 5, HasSubstream: true}), iova)
		require.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, []smmuv3.Event{{0x42_00005008}}, r.taken())
	})
}

// Table D8-58 and, with XNX, Table D8-60: by S2AP [7:6] and XN [54:53].
func TestPermissionsOfStage2(t *testing.T) {
	read := map[uint64]string{0b00: "", 0b01: "Rr", 0b10: "Ww", 0b11: "RWrw"}
	for _, xnx := range []uint32{0, 1} {
		execute := map[uint64]string{0b00: "Xx", 0b01: "x", 0b10: "", 0b11: "X"}
		if xnx == 0 {
			execute = map[uint64]string{0b00: "Xx", 0b01: "Xx", 0b10: "", 0b11: ""}
		}
		ids := soft.Stage2IDs()
		ids.Set(smmuv3.XNX, xnx)
		for ap, rw := range read {
			for xn, x := range execute {
				t.Run(fmt.Sprintf("XNX %d S2AP %02b XN %02b", xnx, ap, xn), func(t *testing.T) {
					r := newRig(t, soft.Config{IDs: ids})
					r.mem.SetWords(0x40000, 0x5000_043f|ap<<6|xn<<53)
					r.bind(stage2(bridge.TranslateS2, 0x040d_00e7_0000_0000, 0x40000))
					var got strings.Builder
					for _, a := range accesses {
						p := r.ep.With(a.attrs)
						do := p.ReadAt
						if a.write {
							do = p.WriteAt
						}
						if err := do(make([]byte, 4), 0); err == nil {
							got.WriteString(a.letter)
						}
					}
					assert.ElementsMatch(t, strings.Split(rw+x, ""), strings.Split(got.String(), ""))
				})
			}
		}
	}
}

// §3.13: S2HA sets AF. S2HD sets S2AP[1] if DBM is set and the access is a write.
func TestFlagsOfStage2(t *testing.T) {
	const ha, hd, haft = 1 << 56, 1 << 55, 1 << 59
	for _, c := range []struct {
		name       string
		flags      uint64
		leaf       uint64
		write      bool
		want       uint64
		ok         bool
		table      uint64
		afterTable uint64
	}{
		{"S2HA: the Access flag", ha, 0x5000_03ff, false, 0x5000_07ff, true, 0x40003, 0x40003},
		{"S2HA: a fault changes nothing", ha, 0x5000_033f, false, 0x5000_033f, false, 0x40003, 0x40003},
		{"S2HD: a write makes it dirty", ha | hd, 0x0008_0000_5000_077f, true, 0x0008_0000_5000_07ff, true, 0x40003, 0x40003},
		{"S2HD: a read does not", ha | hd, 0x0008_0000_5000_077f, false, 0x0008_0000_5000_077f, true, 0x40003, 0x40003},
		{"S2HD without DBM", ha | hd, 0x5000_077f, true, 0x5000_077f, false, 0x40003, 0x40003},
		{"DBM without S2HD", ha, 0x0008_0000_5000_077f, true, 0x0008_0000_5000_077f, false, 0x40003, 0x40003},
		{"S2HAFT: tables, too", ha | haft, 0x5000_03ff, false, 0x5000_07ff, true, 0x40003, 0x40403},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := soft.Stage2IDs()
			ids.Set(smmuv3.HTTU, 3)
			r := newRig(t, soft.Config{IDs: ids})
			r.mem.SetWords(0x30000, c.table)
			r.mem.SetWords(0x40000, c.leaf)
			g := stage2(bridge.TranslateS2, 0x040d_0027_0000_0000|c.flags, 0x30000) // 25 bits from level 2
			ste := smmuv3.STE{2: 0x040d_0027_0000_0000 | c.flags, 3: 0x30000}
			g.S2 = ste.Stage2()
			r.bind(g)
			var err error
			if c.write {
				err = r.ep.WriteAt([]byte{1}, 0)
			} else {
				err = r.ep.ReadAt([]byte{1}, 0)
			}
			assert.Equal(t, c.ok, err == nil, "%v", err)
			assert.Equal(t, []uint64{c.want}, r.mem.Words(0x40000, 1))
			assert.Equal(t, []uint64{c.afterTable}, r.mem.Words(0x30000, 1))
		})
	}
	t.Run("a write walks again after a read of a clean page", func(t *testing.T) {
		r := newRig(t, soft.Config{IDs: soft.Stage2IDs()})
		r.mem.SetWords(0x40000, 0x0008_0000_5000_077f)
		r.bind(stage2(bridge.TranslateS2, 0x040d_00e7_0000_0000, 0x40000))
		g := stage2(bridge.TranslateS2, 0x040d_00e7_0000_0000, 0x40000)
		g.S2.HA, g.S2.HD = true, true
		r.bind(g)
		_, err := word(r.ep, 0)
		require.NoError(t, err)
		require.NoError(t, r.ep.WriteAt([]byte{1}, 0))
		assert.Equal(t, []uint64{0x0008_0000_5000_07ff}, r.mem.Words(0x40000, 1))
	})
	withHA := func(ids smmuv3.IDRegs, mem guestmem.Memory, fake *guestmem.Fake) *rig {
		r := newRig(t, soft.Config{IDs: ids, Memory: mem})
		r.mem = fake
		r.mem.SetWords(0x40000, 0x5000_03ff)
		g := stage2(bridge.TranslateS2, 0x040d_00e7_0000_0000, 0x40000)
		g.S2.HA = true
		r.bind(g)
		return r
	}
	t.Run("an update that aborts", func(t *testing.T) {
		mem := new(guestmem.Fake)
		r := withHA(soft.Stage2IDs(), mem, mem)
		mem.FailWrites(guestmem.Range{GPA: 0x40000, Len: 8}, nil)
		_, err := word(r.ep, 0)
		require.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, []smmuv3.Event{{0x42_0000000b, evRead | evS2 | evIN, 0, 0x40000}}, r.taken())
	})
	t.Run("a page replaced during the update is read again", func(t *testing.T) {
		mem := &replacing{Fake: new(guestmem.Fake), at: 0x40000, by: 0x6000_03ff}
		r := withHA(soft.Stage2IDs(), mem, mem.Fake)
		r.mem.SetWords(0x6000_0000, 0x2e3)
		got, err := word(r.ep, 0)
		require.NoError(t, err)
		assert.EqualValues(t, 0x2e3, got)
		assert.Equal(t, []uint64{0x6000_07ff}, r.mem.Words(0x40000, 1))
	})
	t.Run("a walk ends if updates never succeed", func(t *testing.T) {
		mem := &racing{Fake: new(guestmem.Fake)}
		r := withHA(soft.Stage2IDs(), mem, mem.Fake)
		_, err := word(r.ep, 0)
		require.ErrorIs(t, err, soft.ErrFault)
		assert.Equal(t, 16, mem.swaps)
		assert.Equal(t, []smmuv3.Event{{0x42_0000000b, evRead | evS2 | evIN, 0, 0x40000}}, r.taken())
	})
}
