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

// §3.9.1.2 with a stage 2: the response has the address after both stages and the permissions that
// both grant. Faults of stage 2 grant nothing and record no event. IOVA 0x1000 is IPA 0x5000.
func TestTranslationRequestsWithStage2(t *testing.T) {
	const readWrite, readOnly = 0x7ff, 0x77f // S2AP is [7:6]
	nested := func(edit func(*bridge.GuestStage)) bridge.GuestStage {
		g := stage2(bridge.TranslateNested, 0x040d_00e7_0000_0000, 0x60000)
		g.EATS = smmuv3.EATSFull
		edit(&g)
		return g
	}
	both := nested(func(*bridge.GuestStage) {})
	alone := nested(func(g *bridge.GuestStage) { g.Disposition, g.S1ContextPtr = bridge.TranslateS2, 0 })
	bypassing := nested(func(g *bridge.GuestStage) { g.S1CDMax, g.S1DSS = 4, smmuv3.S1DSSBypass })
	five := soft.Attrs{Substream: 5, HasSubstream: true}
	for _, c := range []struct {
		name  string
		stage bridge.GuestStage
		attrs soft.Attrs
		iova  uint64
		leaf  uint64 // of IPA 0x5000
		want  soft.Translation
		err   error
	}{
		{"both stages", both, soft.Attrs{}, 0x1abc, 0x5000_0000 | readWrite,
			soft.Translation{IOVA: 0x1000, Len: 0x1000, Addr: 0x5000_0000, Read: true, Write: true}, nil},
		{"stage 2 grants a read", both, soft.Attrs{}, 0x1abc, 0x5000_0000 | readOnly,
			soft.Translation{IOVA: 0x1000, Len: 0x1000, Addr: 0x5000_0000, Read: true}, nil},
		{"stage 2 faults", both, soft.Attrs{}, 0x1abc, 0, soft.Translation{IOVA: 0x1000, Len: 0x1000}, nil},
		{"stage 2 alone", alone, soft.Attrs{}, 0x5abc, 0x5000_0000 | readWrite,
			soft.Translation{IOVA: 0x5000, Len: 0x1000, Addr: 0x5000_0000, Read: true, Write: true}, nil},
		{"stage 2 alone grants a read", alone, soft.Attrs{}, 0x5abc, 0x5000_0000 | readOnly,
			soft.Translation{IOVA: 0x5000, Len: 0x1000, Addr: 0x5000_0000, Read: true}, nil},
		{"stage 2 alone faults", alone, soft.Attrs{}, 0x5abc, 0, soft.Translation{IOVA: 0x5000, Len: 0x1000}, nil},
		{"stage 2 alone, beyond OAS", alone, soft.Attrs{}, 1 << 50, 0, soft.Translation{IOVA: 1 << 50, Len: 0x1000}, nil},
		{"stage 2 alone, with a PASID", alone, five, 0x5abc, 0x5000_0000 | readWrite, soft.Translation{}, soft.ErrCompleterAbort},
		{"S1DSS bypasses stage 1", bypassing, soft.Attrs{}, 0x5abc, 0x5000_0000 | readWrite,
			soft.Translation{IOVA: 0x5000, Len: 0x1000, Addr: 0x5000_0000, Read: true, Write: true}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			ids := soft.Stage2IDs()
			ids.Set(smmuv3.ATS, 1)
			ids.Set(smmuv3.NS1ATS, 1)
			r := newRig(t, soft.Config{IDs: ids})
			r.ep.EnableATS(soft.ATS{})
			r.map4K(cd4K, 0, 0x5000|pageRW)
			for _, page := range []guestmem.GPA{cdAt >> 12, 0x10, 0x20, 0x30, 0x40} {
				r.mem.SetWords(0x60000+page*8, uint64(page)<<12|readWrite)
			}
			r.mem.SetWords(0x60000+5*8, c.leaf)
			r.bind(c.stage)
			got, err := r.ep.With(c.attrs).Translate(c.iova, true)
			require.ErrorIs(t, err, c.err)
			assert.Equal(t, c.want, got)
			assert.Empty(t, r.taken())
			if got.Read {
				r.mem.SetWords(got.Addr, 0xfeed)
				assert.NoError(t, r.ep.ReadTranslated(make([]byte, 8), got.Addr), "a translated transaction")
			}
		})
	}
}
