package trap

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestStageOfIsTheInverseOfSTE(t *testing.T) {
	// S1P, AArch64, ATS, CD2L, STALL_MODEL = both; SSIDSIZE 10; 44 bits.
	ids := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0808041a, 1: 0x00000290, 5: 0x00000074}}
	both := ids
	both.IDR[0] |= 1<<0 | 3<<6 | 1<<18 // S2P, HTTU, VMID16
	for _, tc := range []struct {
		ids *smmuv3.IDRegs
		g   bridge.GuestStage
		ste smmuv3.STE
	}{
		{&ids, bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x400000}, smmuv3.STE{0x40000b}},
		{&ids, bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0xfff_ffff_ffc0, S1CDMax: 10, S1Fmt: smmuv3.S1Fmt64K,
			S1DSS: smmuv3.S1DSSSubstream0, S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: smmuv3.EATSFull},
			smmuv3.STE{10<<59 | 0xfff_ffff_ffc0 | 2<<4 | 0xb, 1<<28 | 1<<27 | 3<<6 | 2<<4 | 1<<2 | 2}},
		{&both, bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x400000, S2VMID: 0xabcd},
			smmuv3.STE{0x40000b, 0, 0xabcd}},
		{&both, bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: 3, S2: linuxS2},
			smmuv3.STE{0xd, 0, 0x040c_3558_0000_0003, 0x8765_4000}},
		{&both, bridge.GuestStage{Disposition: bridge.TranslateNested, S1ContextPtr: 0x400000, S1CIR: 1, S2: nestedS2},
			smmuv3.STE{0x40000f, 1 << 2, 0x05cc_3558_0000_0000, 0x8765_4000}},
	} {
		ste := tc.g.STE()
		assert.Equal(t, tc.ste, ste, "%#x", ste)
		assert.Equal(t, tc.g, StageOf(ste, tc.ids))
	}
}

// Restore binds the saved stage in one call, or in none if it is bound already. The stream aborts
// if the host fails.
func TestRestore(t *testing.T) {
	translate := bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x400000, EATS: smmuv3.EATSFull}
	saved := Saved{ID: 3, Stage: translate, UsedATS: true, Walked: [2]guestmem.Range{1: {GPA: 0x1000, Len: 64}}}
	for _, tc := range []struct {
		name    string
		fail    func(n int, c record.Call) error
		outcome Outcome
		stage   bridge.GuestStage
		text    string
	}{
		{"success", func(int, record.Call) error { return nil }, Moved, translate, ""},
		{"second attempt", func(n int, _ record.Call) error {
			if n == 0 {
				return errors.New("again")
			}
			return nil
		}, Moved, translate, ""},
		{"rejected", func(_ int, c record.Call) error {
			if c.Stage == translate {
				return bridge.ErrRejected
			}
			return nil
		}, Refused, bridge.GuestStage{Cause: smmuv3.CBadSTE}, translate.String() + ": " + bridge.ErrRejected.Error()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host := record.New(bridge.Capabilities{})
			s := NewStreams(new(guestmem.Fake), smmuv3.IDRegs{}, nil)
			st, err := s.Attach(3, host, "disk")
			require.NoError(t, err)
			s.SetRegs(Regs{Enabled: true})
			host.Forget()
			n := -1
			host.FailWith(func(c record.Call) error { n++; return tc.fail(n, c) })
			outcome, err := s.Restore(st, saved)
			assert.Equal(t, tc.outcome, outcome)
			assert.Equal(t, tc.stage, st.Stage())
			assert.Equal(t, tc.outcome == Refused, err != nil)
			if err != nil {
				assert.ErrorContains(t, err, tc.text)
				return
			}
			assert.Equal(t, saved, st.Save())
			assert.Equal(t, []*Stream{st}, s.Written(guestmem.Range{GPA: 0x1000, Len: 8}))
			host.Forget()
			outcome, err = s.Restore(st, saved)
			assert.Equal(t, Kept, outcome)
			assert.NoError(t, err)
			assert.Empty(t, host.Forget())
		})
	}
}
