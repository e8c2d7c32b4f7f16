package soft_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Streams that do not translate, and the events of their transactions: §5.2.1, §6.3.9.6, §3.4,
// §7.3.3 to §7.3.5, §7.3.9.
func TestStreamsThatDoNotTranslate(t *testing.T) {
	const (
		fits = 0xffff_ffff_fff8
		over = 1 << 48
	)
	type event = smmuv3.Event
	with := func(d bridge.Disposition, cause smmuv3.EventType) bridge.GuestStage {
		return bridge.GuestStage{Disposition: d, Cause: cause}
	}
	abort, bypass := with(bridge.Abort, 0), with(bridge.Bypass, 0)
	fetch := with(bridge.Abort, smmuv3.FSTEFetch)
	fetch.FetchAddr = 0x1_2345_6040
	off, open := abort, bypass
	off.Disabled, open.Disabled = true, true

	for _, c := range []struct {
		name  string
		stage bridge.GuestStage
		pasid bool // SubstreamID 5
		iova  uint64
		ok    bool
		want  []event
	}{
		{"Config 0xx aborts without an event", abort, false, 0, false, nil},
		{"C_BAD_STREAMID", with(bridge.Abort, smmuv3.CBadStreamID), false, 0, false, []event{{0x42_00000002}}},
		{"C_BAD_STE, with the SubstreamID", with(bridge.Abort, smmuv3.CBadSTE), true, 0, false, []event{{0x42_00005804}}},
		{"F_STE_FETCH, with FetchAddr", fetch, false, 0, false, []event{{0x42_00000003, 0, 0, 0x1_2345_6040}}},
		{"bypass", bypass, false, fits, true, nil},
		{"bypass beyond the output address size", bypass, false, over, false, []event{{0x42_00000011, 1<<35 | 0b10<<40, over}}},
		{"bypass with a SubstreamID", bypass, true, 0, false, []event{{0x42_00005008}}},
		{"bypass: the SubstreamID is checked before the size", bypass, true, over, false, []event{{0x42_00005008}}},
		{"disabled, GBPA aborts", off, true, 0, false, nil},
		{"disabled, GBPA passes", open, false, fits, true, nil},
		{"disabled: a SubstreamID has no meaning", open, true, fits, true, nil},
		{"disabled, beyond the output address size", open, false, over, false, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.bind(c.stage)
			if c.ok {
				r.mem.SetWords(guestmem.GPA(c.iova), 0xfeed)
			}
			got, err := word(r.ep.With(soft.Attrs{Substream: 5, HasSubstream: c.pasid}), c.iova)
			if c.ok {
				require.NoError(t, err)
				assert.EqualValues(t, 0xfeed, got)
			} else {
				require.ErrorIs(t, err, soft.ErrFault)
			}
			assert.Equal(t, c.want, r.taken())
		})
	}
}

func TestBypassEndsAtTheOutputAddressSize(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
	var f *soft.Fault
	require.ErrorAs(t, r.ep.ReadAt(make([]byte, 16), 1<<48-8), &f)
	assert.Equal(t, 8, f.Done)
	assert.EqualValues(t, 1<<48, f.IOVA)
	assert.Equal(t, smmuv3.FAddrSize, f.Event.Type())
	assert.NoError(t, r.ep.ReadAt(make([]byte, 1), 1<<48-1), "the last address")
}

// §5.4: SubstreamIDs that differ in one bit have different CDs. Earlier uses of CDs have no effect
// on this.
func TestEachSubstreamHasItsCD(t *testing.T) {
	m := newRAM(t) // its slices let the micro-TLB keep accesses
	r := newRig(t, soft.Config{Memory: m})
	const max, cds = 10, 0x8_0000
	var ssids []smmuv3.SubstreamID
	for i := range uint64(max) {
		ssid := smmuv3.SubstreamID(1) << i
		ssids = append(ssids, ssid)
		page := 0x5000_0000 + i<<12
		// The CD's table has an input size of 16 bits.
		m.SetWords(gpa(cds+64*uint64(ssid)), 0x0000_6205_c000_0030|(i+1)<<48, 0x40000+i<<12)
		m.SetWords(gpa(0x40000+i<<12), page|pageRW)
		m.SetWords(gpa(page), 0x100+i)
	}
	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: cds, S1CDMax: max})
	for range 2 {
		for i, ssid := range ssids {
			got, err := word(r.ep.With(soft.Attrs{HasSubstream: true, Substream: ssid}), 0)
			require.NoError(t, err)
			assert.EqualValues(t, 0x100+i, got, "SubstreamID %#x", uint32(ssid))
		}
	}
}

// §5.2, S1DSS; §7.3.7; §7.3.9: the whole table. Each CD translates IOVA 0 to a page of its own.
func TestSubstreams(t *testing.T) {
	const (
		none     = -1
		useCD    = "CD "
		bypassed = "bypass"
		badID    = "C_BAD_SUBSTREAMID"
		disabled = "F_STREAM_DISABLED"
	)
	type row struct {
		max  uint8
		dss  smmuv3.S1DSS
		ssid int
		want string
	}
	rows := []row{
		{0, smmuv3.S1DSSTerminate, none, useCD + "0"},
		{0, smmuv3.S1DSSTerminate, 0, badID},
		{0, smmuv3.S1DSSTerminate, 1, badID},
		{3, smmuv3.S1DSSTerminate, none, disabled},
		{3, 0b11, none, disabled}, // reserved, behaves as 00
		{3, smmuv3.S1DSSBypass, none, bypassed},
		{3, smmuv3.S1DSSSubstream0, none, useCD + "0"},
		{3, smmuv3.S1DSSTerminate, 0, useCD + "0"},
		{3, smmuv3.S1DSSBypass, 0, useCD + "0"},
		{3, smmuv3.S1DSSSubstream0, 0, disabled},
		{3, smmuv3.S1DSSSubstream0, 7, useCD + "7"},
		{3, smmuv3.S1DSSTerminate, 7, useCD + "7"},
		{3, smmuv3.S1DSSTerminate, 8, badID},
		{3, smmuv3.S1DSSSubstream0, 8, badID},
		{20, smmuv3.S1DSSTerminate, 0x12345, useCD + "74565"},
		{20, smmuv3.S1DSSTerminate, 0xfffff, useCD + "1048575"},
		{20, smmuv3.S1DSSTerminate, 0x100000, badID},
		{7, smmuv3.S1DSSTerminate, 0x7f, useCD + "127"},
	}
	for _, f := range []smmuv3.S1Fmt{smmuv3.S1FmtLinear, smmuv3.S1Fmt4K, smmuv3.S1Fmt64K} {
		for _, c := range rows {
			t.Run(fmt.Sprintf("%v S1CDMax %d S1DSS %v SubstreamID %d", f, c.max, c.dss, c.ssid), func(t *testing.T) {
				r := newRig(t, soft.Config{})
				const ptr = 0x1000_0000
				r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: ptr, S1CDMax: c.max, S1Fmt: f, S1DSS: c.dss})

				// Find the place of the row's CD by §5.2 and §5.3.
				var n uint64
				if _, err := fmt.Sscanf(c.want, useCD+"%d", &n); err == nil {
					at := guestmem.GPA(ptr + 64*n)
					switch {
					case c.max == 0:
					case f == smmuv3.S1Fmt4K:
						r.mem.SetWords(guestmem.GPA(ptr+n/64*8), 0x2000_0000|1)
						at = guestmem.GPA(0x2000_0000 + n%64*64)
					case f == smmuv3.S1Fmt64K:
						r.mem.SetWords(guestmem.GPA(ptr+n/1024*8), 0x2000_0000|1)
						at = guestmem.GPA(0x2000_0000 + n%1024*64)
					}
					r.mem.SetWords(at, 0x0001_6205_c000_0030, 0x3000_0000)
					r.mem.SetWords(0x3000_0000, 0x5000_0c43)
					r.mem.SetWords(0x5000_0008, 0xfeed)
				}
				r.mem.SetWords(8, 0xb1)

				got, err := word(r.ep.With(soft.Attrs{Substream: smmuv3.SubstreamID(max(c.ssid, 0)), HasSubstream: c.ssid != none}), 8)
				switch c.want {
				case bypassed:
					require.NoError(t, err)
					assert.EqualValues(t, 0xb1, got)
				case badID:
					require.ErrorIs(t, err, soft.ErrFault)
					assert.Equal(t, []smmuv3.Event{{0x42_00000008 | uint64(c.ssid)&0xfffff<<12}}, r.taken())
				case disabled:
					require.ErrorIs(t, err, soft.ErrFault)
					assert.Equal(t, []smmuv3.Event{{0x42_00000006}}, r.taken())
				default:
					require.NoError(t, err)
					assert.EqualValues(t, 0xfeed, got)
				}
			})
		}
	}
}

// §3.4: S1DSS = 01 lets an address bypass stage 1 only if the address fits the output size.
func TestS1DSSBypassEndsAtTheAddressSize(t *testing.T) {
	r := newRig(t, soft.Config{})
	r.bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x1000, S1CDMax: 1, S1DSS: smmuv3.S1DSSBypass})
	require.ErrorIs(t, r.ep.WriteAt(make([]byte, 1), 1<<48), soft.ErrFault)
	assert.Equal(t, []smmuv3.Event{{0x42_00000011, 0b10 << 40, 1 << 48}}, r.taken())
}

// §7.3.9 to §7.3.11: the faults on the way to a CD.
func TestInvalidContextDescriptors(t *testing.T) {
	const ptr, leaf = 0x10000, 0x20000
	two := bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: ptr, S1CDMax: 8, S1Fmt: smmuv3.S1Fmt4K, S1DSS: smmuv3.S1DSSSubstream0,
	}
	const good = 0x0001_6205_c000_0030
	for _, c := range []struct {
		name  string
		stage bridge.GuestStage
		ssid  int
		mem   words
		bad   guestmem.GPA
		want  smmuv3.Event
	}{
		{"L1CD.V = 0", two, 0x41, nil, 0, smmuv3.Event{0x42_00041008}},
		{"L1CD.V = 0, by S1DSS: SubstreamID 0", two, -1, nil, 0, smmuv3.Event{0x42_00000008}},
		{"L1CD.L2Ptr is out of range", two, 0x41, words{ptr + 8: 1<<48 | 1}, 0, smmuv3.Event{0x42_00041008}},
		{"no memory at the L1CD", two, 0x41, nil, ptr + 8, smmuv3.Event{0x42_00041809, 0, 0, ptr + 8}},
		{"no memory at the CD", two, 0x41, words{ptr + 8: leaf | 1}, leaf + 64, smmuv3.Event{0x42_00041809, 0, 0, leaf + 64}},
		{"no memory at the CD, by S1DSS", two, -1, words{ptr: leaf | 1}, leaf, smmuv3.Event{0x42_00000009, 0, 0, leaf}},
		{"CD.V = 0", two, 0x41, words{ptr + 8: leaf | 1}, 0, smmuv3.Event{0x42_0004180a}},
		{"CD.V = 0, by S1DSS", two, -1, words{ptr: leaf | 1}, 0, smmuv3.Event{0x42_0000000a}},
		{"an illegal CD: S without stalls", two, 0x41, words{ptr + 8: leaf | 1, leaf + 64: good | 1<<44}, 0, smmuv3.Event{0x42_0004180a}},
		{"one CD, no memory", oneCD, -1, nil, cdAt, smmuv3.Event{0x42_00000009, 0, 0, cdAt}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			for at, w := range c.mem {
				r.mem.SetWords(at, w)
			}
			if c.bad != 0 {
				r.mem.FailReads(guestmem.Range{GPA: c.bad, Len: 8}, nil)
			}
			r.bind(c.stage)
			p := r.ep.With(soft.Attrs{Substream: smmuv3.SubstreamID(max(c.ssid, 0)), HasSubstream: c.ssid >= 0})
			for range 2 {
				_, err := word(p, 0)
				require.ErrorIs(t, err, soft.ErrFault)
				assert.Equal(t, []smmuv3.Event{c.want}, r.taken())
			}
			// A failed fetch is not cached: the guest repairs it without a command (§3.21.3).
			r.mem.Heal()
			r.mem.SetWords(ptr, leaf|1, leaf|1)
			r.mem.SetWords(leaf, good, 0x30000)
			r.mem.SetWords(leaf+64, good, 0x30000)
			r.mem.SetWords(cdAt, good, 0x30000)
			r.mem.SetWords(0x30000, 0x5000_0c43)
			_, err := word(p, 0)
			require.NoError(t, err)
		})
	}
}

func TestBindRejectsStagesWithoutALegalSTE(t *testing.T) {
	for name, g := range map[string]bridge.GuestStage{
		"disposition":  {Disposition: 5},
		"stage 2":      {Disposition: bridge.TranslateS2, S2: smmuv3.Stage2{T0SZ: 24, SL0: 1, PS: 5, AA64: true}},
		"S2VMID":       {Disposition: bridge.Translate, S2VMID: 1},
		"S1CDMax":      {Disposition: bridge.Translate, S1CDMax: 21},
		"S1CDMax wide": {Disposition: bridge.Translate, S1CDMax: 0x80},
		"S1ContextPtr": {Disposition: bridge.Translate, S1ContextPtr: 1 << 48},
		"alignment":    {Disposition: bridge.Translate, S1ContextPtr: 0x20},
		"S1STALLD":     {Disposition: bridge.Translate, S1STALLD: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, soft.Config{})
			r.bind(bridge.GuestStage{Disposition: bridge.Bypass})
			require.ErrorIs(t, r.stream.Bind(g), bridge.ErrRejected)
			require.NoError(t, r.ep.WriteAt([]byte{1}, 0), "the earlier stage stays in effect")
		})
	}

	for name, change := range map[string]func(*smmuv3.Stage2){
		"S2TTB beyond S2PS":               func(s *smmuv3.Stage2) { s.TTB = 1 << 48 },
		"S2TTB misaligned":                func(s *smmuv3.Stage2) { s.TTB = 8 },
		"S2SL0":                           func(s *smmuv3.Stage2) { s.SL0 = 0 },
		"S2SL0 wider than its field":      func(s *smmuv3.Stage2) { s.SL0 |= 8 },
		"S2T0SZ wider than its field":     func(s *smmuv3.Stage2) { s.T0SZ |= 64 },
		"S2TG wider than its field":       func(s *smmuv3.Stage2) { s.TG |= 4 },
		"AArch32":                         func(s *smmuv3.Stage2) { s.AA64 = false },
		"S2DS, which is RES0":             func(s *smmuv3.Stage2) { s.DS = true },
		"S2S, without stalls":             func(s *smmuv3.Stage2) { s.S = true },
		"S2PTW, without stage 1":          func(s *smmuv3.Stage2) { s.PTW = true },
		"S2HD alone, which has no effect": func(s *smmuv3.Stage2) { s.HD = true },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, soft.Config{IDs: soft.Stage2IDs()})
			g := bridge.GuestStage{Disposition: bridge.TranslateS2, S2: smmuv3.Stage2{T0SZ: 24, SL0: 1, PS: 5, AA64: true}}
			r.bind(g)
			change(&g.S2)
			assert.ErrorIs(t, r.stream.Bind(g), bridge.ErrRejected)
		})
	}

	ids := soft.DefaultIDs()
	ids.Set(smmuv3.CD2L, 0)
	r := newRig(t, soft.Config{IDs: ids})
	assert.ErrorIs(t, r.stream.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1, S1Fmt: smmuv3.S1Fmt64K}), bridge.ErrRejected)
	ids.Set(smmuv3.SSIDSIZE, 0)
	r = newRig(t, soft.Config{IDs: ids})
	assert.ErrorIs(t, r.stream.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1CDMax: 1}), bridge.ErrRejected)
}

func TestNewRefusesFeaturesThatAreNotImplemented(t *testing.T) {
	mem := new(guestmem.Fake)
	_, err := soft.New(soft.Config{})
	assert.Error(t, err)
	for f, v := range map[smmuv3.IDField]uint32{
		smmuv3.MTEPERM: 1, smmuv3.NS1ATS: 1, smmuv3.ATSRECERR: 1, smmuv3.PRI: 1, smmuv3.BTM: 1, smmuv3.Hyp: 1, smmuv3.D128: 1, smmuv3.S1PI: 1,
		smmuv3.TTF: 3, smmuv3.TTENDIAN: 1, smmuv3.StallModel: 0, smmuv3.OAS: 7, smmuv3.VAX: 2,
		smmuv3.AttrPermsOvr: 1, smmuv3.SSIDSIZE: 21,
	} {
		ids := soft.DefaultIDs()
		ids.Set(f, v)
		_, err := soft.New(soft.Config{Memory: mem, IDs: ids})
		assert.ErrorContains(t, err, f.String())
	}

	both := soft.Stage2IDs()
	both.Set(smmuv3.ATS, 1)
	_, err = soft.New(soft.Config{Memory: mem, IDs: both})
	assert.ErrorContains(t, err, "ATS", "split-stage ATS")
	both.Set(smmuv3.NS1ATS, 1)
	_, err = soft.New(soft.Config{Memory: mem, IDs: both})
	assert.NoError(t, err)

	plain := struct{ guestmem.Memory }{mem} // no Swapper
	h, err := soft.New(soft.Config{Memory: plain})
	require.NoError(t, err)
	caps, err := h.Capabilities()
	require.NoError(t, err)
	assert.False(t, caps.IDs.Has(smmuv3.HTTU))
	_, err = soft.New(soft.Config{Memory: plain, IDs: soft.DefaultIDs()})
	assert.ErrorContains(t, err, "HTTU")
}
