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
		{"§5.2 Config 000 aborts in silence", on, Entry{STE: smmuv3.STE{steAbort}}, abort(0)},
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

// TestDecideIsCanonical: whatever the guest wrote, a stage carries nothing that
// has no meaning in it, so that stages which mean the same are equal.
func TestDecideIsCanonical(t *testing.T) {
	ids := testIDs()
	ids.IDR[0] |= 1 << 10
	rapid.Check(t, func(t *rapid.T) {
		var e Entry
		for i := range e.STE {
			e.STE[i] = rapid.Uint64().Draw(t, "dw")
		}
		e.STE[0] |= 1
		regs := Regs{Enabled: true, RecInvSID: rapid.Bool().Draw(t, "recinvsid")}
		g := Decide(&regs, &e, &ids)
		if g.Disposition != bridge.Translate {
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
	})
}
