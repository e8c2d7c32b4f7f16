package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Effective clears the fields that are RES0 or IGNORED (§5.2).
func TestEffectiveStage2(t *testing.T) {
	const sl0High, tg4K, tg64K, tg16K = 0b100, 0b00, 0b01, 0b10
	none, ds, fwb, httu := ids(), ids(DS, 1), ids(FWB, 1), ids(HTTU, 3)
	for _, tt := range []struct {
		name     string
		in, want Stage2
		ids      IDRegs
		nested   bool
	}{
		{"S2DS without IDR5.DS", Stage2{DS: true, SL0: sl0High | 1}, Stage2{SL0: 1}, none, false},
		{"S2DS and S2SL0_2 with 4 KiB", Stage2{DS: true, SL0: sl0High}, Stage2{DS: true, SL0: sl0High}, ds, false},
		{"S2SL0_2 with 16 KiB", Stage2{DS: true, TG: tg16K, SL0: sl0High}, Stage2{DS: true, TG: tg16K}, ds, false},
		{"S2DS with 64 KiB", Stage2{DS: true, TG: tg64K}, Stage2{TG: tg64K}, ds, false},
		{"S2FWB without IDR3.FWB", Stage2{FWB: true}, Stage2{}, none, false},
		{"S2FWB", Stage2{FWB: true}, Stage2{FWB: true}, fwb, false},
		{"S2PTW without stage 1", Stage2{PTW: true, TG: tg4K}, Stage2{}, none, false},
		{"S2PTW", Stage2{PTW: true}, Stage2{PTW: true}, none, true},
		{"S2HD without S2HA", Stage2{HD: true}, Stage2{}, none, false},
		{"S2AFFD with S2HA is ignored", Stage2{HD: true, HA: true, AFFD: true}, Stage2{HD: true, HA: true}, none, false},
		{"S2AFFD", Stage2{AFFD: true}, Stage2{AFFD: true}, none, false},
		{"S2HAFT without HTTU of tables", Stage2{HAFT: true}, Stage2{}, none, false},
		{"S2TTB[51:48] are RES0 in SMMUv3.0", Stage2{TTB: 0xf_0000_7654_0000}, Stage2{TTB: 0x7654_0000}, none, false},
		{"S2TTB[51:48]", Stage2{TTB: 0xf_0000_7654_0000}, Stage2{TTB: 0xf_0000_7654_0000}, ids(ArchMinor, 1), false},
		{"S2HAFT", Stage2{HAFT: true}, Stage2{HAFT: true}, httu, false},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, tt.in.Effective(&tt.ids, tt.nested)) })
	}
}
