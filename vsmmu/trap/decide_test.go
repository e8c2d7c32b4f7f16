package trap

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Double-words 0 of STEs: V [0], Config [3:1], S1Fmt [5:4], S1ContextPtr, S1CDMax [63:59].
const (
	steAbort  = 0x1                         // V, Config 000
	steBypass = 0x9                         // V, Config 100
	steS1     = 0xb | 0x8765_4000           // V, Config 101
	steTable  = steS1 | 2<<4 | 10<<59       // with S1Fmt 64 KiB leaves, S1CDMax 10
	steS2     = 0xd                         // V, Config 110
	steBeyond = 0xb | 0x0001_0000_0000_0000 // S1ContextPtr has bit 48
)

func TestDecide(t *testing.T) {
	abort := func(cause smmuv3.EventType) bridge.GuestStage { return bridge.GuestStage{Cause: cause} }
	single := bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000}
	on := Regs{Enabled: true}
	for _, tc := range []struct {
		name  string
		regs  Regs
		entry Entry
		want  bridge.GuestStage
	}{
		{"§6.3.9.6 disabled: GBPA bypasses", Regs{}, Entry{STE: smmuv3.STE{steS1}},
			bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}},
		{"§6.3.14 disabled: GBPA.ABORT", Regs{GBPA: 1 << 20}, Entry{STE: smmuv3.STE{steS1}},
			bridge.GuestStage{Disposition: bridge.Abort, Disabled: true}},
		{"§7.3.3 bad StreamID, recorded", Regs{Enabled: true, RecInvSID: true}, Entry{Fault: smmuv3.CBadStreamID}, abort(smmuv3.CBadStreamID)},
		{"§7.3.3 bad StreamID, RECINVSID=0", on, Entry{Fault: smmuv3.CBadStreamID}, abort(0)},
		{"§7.3.4 fetch abort needs no RECINVSID", on, Entry{Fault: smmuv3.FSTEFetch, FetchAddr: 0x40},
			bridge.GuestStage{Cause: smmuv3.FSTEFetch, FetchAddr: 0x40}},
		{"§5.2 V=0", on, Entry{}, abort(smmuv3.CBadSTE)},
		{"§5.2 Config 000 aborts without an event", on, Entry{STE: smmuv3.STE{steAbort}}, abort(0)},
		{"§5.2 Config 0xx ignores the rest", on, Entry{STE: smmuv3.STE{steAbort | 0x6 | 31<<59, ^uint64(0)}}, abort(0)},
		{"§5.2 Config 100", on, Entry{STE: smmuv3.STE{steBypass}}, bridge.GuestStage{Disposition: bridge.Bypass}},
		{"§5.2 Config 100 ignores S1 fields", on, Entry{STE: smmuv3.STE{steBypass | 0xffff_f000 | 31<<59, 0x8ff}},
			bridge.GuestStage{Disposition: bridge.Bypass}},
		{"§5.2 Config 110 without stage 2", on, Entry{STE: smmuv3.STE{steS2}}, abort(smmuv3.CBadSTE)},
		{"§5.2 Config 101, one CD", on, Entry{STE: smmuv3.STE{steS1}}, single},
		{"§5.2 one CD: S1Fmt and S1DSS are ignored", on, Entry{STE: smmuv3.STE{steS1 | 1<<4, 2}}, single},
		{"§5.2 a table", on, Entry{STE: smmuv3.STE{steTable, 0xf6}}, // S1DSS 10, S1CIR 01, S1COR 11, S1CSH 11
			bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000, S1CDMax: 10,
				S1Fmt: smmuv3.S1Fmt64K, S1DSS: smmuv3.S1DSSSubstream0, S1CIR: 1, S1COR: 3, S1CSH: 3}},
		{"§5.2 reserved S1CSH behaves as 0", on, Entry{STE: smmuv3.STE{steS1, 1 << 6}}, single},
		{"§5.2 reserved S1Fmt and S1DSS behave as 0", on, Entry{STE: smmuv3.STE{steTable | 3<<4, 3}},
			bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000, S1CDMax: 10}},
		{"§5.2.2 S1CDMax beyond SSIDSIZE", on, Entry{STE: smmuv3.STE{steS1 | 11<<59}}, abort(smmuv3.CBadSTE)},
		{"§5.2.2 S1STALLD with the terminate model", on, Entry{STE: smmuv3.STE{steS1, 1 << 27}}, abort(smmuv3.CBadSTE)},
		{"§3.4.3 S1ContextPtr beyond the output size", on, Entry{STE: smmuv3.STE{steBeyond}}, abort(smmuv3.CBadSTE)},
		{"§5.2 EATS is ignored without ATS", on, Entry{STE: smmuv3.STE{steS1, 2 << 28}}, single},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ids := testIDs()
			assert.Equal(t, tc.want, Decide(&tc.regs, &tc.entry, &ids))
		})
	}
}

// linuxS2 is a stage 2 as Linux writes it, with 40 bits and 4 KiB granules. nestedS2 also has
// hardware updates of flags, and S2PTW.
var (
	linuxS2 = smmuv3.Stage2{TTB: 0x8765_4000, T0SZ: 24, SL0: 1, IR0: 1, OR0: 1, SH0: 3, PS: 4, AA64: true, R: true}

	nestedS2 = func() smmuv3.Stage2 {
		s := linuxS2
		s.HA, s.HD, s.PTW = true, true, true
		return s
	}()
)

func TestDecideWithStage2_5_2(t *testing.T) {
	plain := testIDs()
	ids := plain
	ids.Set(smmuv3.S2P, 1)
	hd := ids
	hd.Set(smmuv3.HTTU, 2)
	const (
		nested = 0xf | 0x8765_4000
		// S2VMID 3, S2T0SZ 24, S2SL0 1, S2IR0 1, S2OR0 1, S2SH0 3, S2PS 44 bits, S2AA64, S2R
		dw2 = 0x040c_3558_0000_0003
	)
	regs := Regs{Enabled: true}
	for _, tc := range []struct {
		name string
		ids  smmuv3.IDRegs
		ste  smmuv3.STE
		want bridge.GuestStage
	}{
		{"Config 110", ids, smmuv3.STE{steS2, 0, dw2, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: linuxS2}},
		{"reserved S2SH0 behaves as 0", ids, smmuv3.STE{steS2, 0, dw2 ^ 2<<44, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: func() smmuv3.Stage2 { s := linuxS2; s.SH0 = 0; return s }()}},
		{"S2HD without S2HA is reserved and has no effect", hd, smmuv3.STE{steS2, 0, dw2 | 1<<55, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: linuxS2}},
		{"Config 110 ignores S1 fields and S2PTW", ids, smmuv3.STE{steS2 | 0xffff_f000 | 31<<59, 0xff, dw2 | 1<<54, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: linuxS2}},
		{"Config 111", ids, smmuv3.STE{nested, 0, dw2, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.TranslateNested, S1ContextPtr: 0x8765_4000, S2VMID: 3, S2: linuxS2}},
		{"Config 101 is tagged with a VMID, and ignores the rest of S2", ids, smmuv3.STE{steS1, 1 << 25, dw2, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000, S2VMID: 3}},
		{"Config 101 without S2P has no VMID", plain, smmuv3.STE{steS1, 0, dw2, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000}},
		{"Config 100 ignores S2", ids, smmuv3.STE{steBypass, 0, dw2, 0x8765_4000},
			bridge.GuestStage{Disposition: bridge.Bypass}},
		{"RES0: S2DS, S2SL0_2, S2HAFT, and S2FWB without IDR3.FWB", ids,
			smmuv3.STE{steS2, 1 << 25, dw2 | 1<<59, 0x8765_4000 | 1<<3 | 1<<2},
			bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: linuxS2}},
		{"an illegal one", ids, smmuv3.STE{steS2, 0, dw2 &^ (1 << 51), 0x8765_4000}, bridge.GuestStage{Cause: smmuv3.CBadSTE}},
		{"Config 111 without S2P", plain, smmuv3.STE{nested, 0, dw2, 0x8765_4000}, bridge.GuestStage{Cause: smmuv3.CBadSTE}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			assert.Equal(t, tc.want, Decide(&regs, &Entry{STE: tc.ste}, &tc.ids))
		})
	}
}

func TestDecideWithATS_5_2(t *testing.T) {
	ids := testIDs()
	ids.IDR[0] |= 1 << 10 // ATS
	regs := Regs{Enabled: true}
	for eats, want := range map[uint64]bridge.GuestStage{
		0: {Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000},
		1: {Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000, EATS: smmuv3.EATSFull},
		2: {Cause: smmuv3.CBadSTE}, // split-stage ATS is for nested translation only
		3: {Disposition: bridge.Translate, S1ContextPtr: 0x8765_4000},
	} {
		e := Entry{STE: smmuv3.STE{steS1, eats << 28}}
		assert.Equal(t, want, Decide(&regs, &e, &ids), "EATS %d", eats)
	}
}

// For any STE, ignored fields of the stage are zero, and no field has a reserved value. Stages with
// the same effect are equal.
func TestDecideIsCanonical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := testIDs()
		ids.Set(smmuv3.ATS, 1)
		ids.Set(smmuv3.S2P, rapid.Uint32Range(0, 1).Draw(t, "S2P"))
		var e Entry
		for i := range e.STE {
			e.STE[i] = rapid.Uint64().Draw(t, "dw")
		}
		e.STE[0] |= 1
		// Few random values of stage 2 are legal.
		if rapid.Bool().Draw(t, "tame") {
			e.STE[2] = e.STE[2]&^(0x3f<<32|3<<46|7<<55|0xff00) | rapid.Uint64Range(20, 39).Draw(t, "S2T0SZ")<<32 | 1<<51
			e.STE[3] &= 0xffff_ffff
		}
		regs := Regs{Enabled: true, RecInvSID: rapid.Bool().Draw(t, "recinvsid")}
		g := Decide(&regs, &e, &ids)
		if !g.Disposition.Stage1() && !g.Disposition.Stage2() {
			assert.Equal(t, bridge.GuestStage{Disposition: g.Disposition, Cause: g.Cause}, g)
			return
		}
		assert.Zero(t, g.Cause)
		assert.LessOrEqual(t, uint32(g.S1CDMax), ids.Get(smmuv3.SSIDSIZE))
		assert.Zero(t, uint64(g.S1ContextPtr)&^ids.OutputMask())
		assert.Zero(t, g.S1ContextPtr&0x3f)
		assert.False(t, g.S1STALLD)
		assert.Contains(t, []smmuv3.EATS{smmuv3.EATSNone, smmuv3.EATSFull}, g.EATS)
		if g.S1CDMax == 0 {
			assert.Zero(t, g.S1Fmt)
			assert.Zero(t, g.S1DSS)
		}
		assert.NotEqual(t, uint8(1), g.S1CSH, "reserved")
		assert.NotEqual(t, uint8(1), g.S2.SH0, "reserved")
		assert.Equal(t, g, Decide(&regs, &Entry{STE: g.STE()}, &ids), "the inverse of STE")
		if !ids.Has(smmuv3.S2P) {
			assert.Equal(t, bridge.Translate, g.Disposition)
			assert.Zero(t, g.S2VMID)
		}
		if !g.Disposition.Stage1() {
			assert.Zero(t, [3]uint64{uint64(g.S1ContextPtr), uint64(g.S1CIR), uint64(g.S1CSH)})
			assert.False(t, g.S2.PTW)
		}
		if !g.Disposition.Stage2() {
			assert.Zero(t, g.S2)
		}
		assert.False(t, g.S2.S || g.S2.FWB || g.S2.DS || g.S2.HAFT)
	})
}
