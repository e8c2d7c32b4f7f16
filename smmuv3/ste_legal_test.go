package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// ids are ID registers with fields as given, in turn.
func ids(fieldsAndValues ...any) IDRegs {
	var r IDRegs
	for i := 0; i < len(fieldsAndValues); i += 2 {
		r.Set(fieldsAndValues[i].(IDField), uint32(fieldsAndValues[i+1].(int)))
	}
	return r
}

// with is r with some fields changed.
func (r IDRegs) with(fieldsAndValues ...any) IDRegs {
	for i := 0; i < len(fieldsAndValues); i += 2 {
		r.Set(fieldsAndValues[i].(IDField), uint32(fieldsAndValues[i+1].(int)))
	}
	return r
}

// s1IDs are those of a stage-1 SMMU as a guest has it: no stage 2, faults
// terminate, 20 bits of SubstreamID, 48 bits of output address.
func s1IDs() IDRegs {
	return ids(S1P, 1, TTF, 2, ASID16, 1, CD2L, 1, StallModel, 1, SIDSIZE, 16, SSIDSIZE, 20, OAS, 5, STLevel, 1, RIL, 1)
}

// Each rule of §5.2.2 with words that break it and neighbours that do not.
func TestSTEIllegal(t *testing.T) {
	const (
		s1     = 0b101<<1 | 1
		bypass = 0b100<<1 | 1
		s2     = 0b110<<1 | 1
		nested = 0b111<<1 | 1

		stalld = 1 << 27
		full   = 0b01 << 28
		split  = 0b10 << 28
		dpt    = 0b11 << 28
	)
	guest := s1IDs()
	both := guest.with(S2P, 1)
	hyp := both.with(Hyp, 1)
	for _, c := range []struct {
		name  string
		ids   IDRegs
		ste   STE
		wrong string // the rule's text, or empty if the STE is legal
	}{
		{"V=0", guest, STE{}, "V is 0"},
		{"V=0 whatever else", guest, STE{s1 &^ 1}, "V is 0"},
		{"V=1, abort", guest, STE{1}, ""},
		{"bypass", guest, STE{bypass}, ""},
		{"stage 1", guest, STE{s1}, ""},

		{"stage 1 without S1P", guest.with(S1P, 0), STE{s1}, "Config needs a stage 1 that the SMMU does not have"},
		{"stage 2 without S1P", both.with(S1P, 0), STE{s2}, ""},
		{"bypass without S1P", guest.with(S1P, 0), STE{bypass}, ""},
		{"stage 2 without S2P", guest, STE{s2}, "Config needs a stage 2 that the SMMU does not have"},
		{"nested without S2P", guest, STE{nested}, "Config needs a stage 2 that the SMMU does not have"},
		{"nested without either", IDRegs{}, STE{nested}, "Config needs a stage 1 that the SMMU does not have"},
		{"stage 2 with S2P", both, STE{s2}, ""},
		{"nested with S2P", both, STE{nested}, ""},

		{"full ATS", guest.with(ATS, 1), STE{s1, full}, ""},
		{"split ATS, stage 1 only", guest.with(ATS, 1), STE{s1, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS, stage 2 only", both.with(ATS, 1), STE{s2, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS, nested", both.with(ATS, 1), STE{nested, split}, ""},
		{"split ATS, nested, NS1ATS", both.with(ATS, 1, NS1ATS, 1), STE{nested, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS in bypass is IGNORED", guest.with(ATS, 1), STE{bypass, split}, ""},
		{"split ATS without ATS is IGNORED", guest, STE{s1, split}, ""},
		{"EATS=11 without DPT is none", guest.with(ATS, 1), STE{s1, dpt}, ""},
		{"EATS=11 with DPT in EL1", hyp.with(ATS, 1, DPT, 1), STE{s1, dpt}, ""},
		{"EATS=11 with DPT in EL2", hyp.with(ATS, 1, DPT, 1), STE{s1, dpt | 0b10<<30}, "EATS asks for DPT checks outside the EL1 StreamWorld"},
		{"EATS=11 with DPT, STRW unused", guest.with(ATS, 1, DPT, 1), STE{s1, dpt | 0b10<<30}, ""},

		{"STRW=01", hyp, STE{s1, 0b01 << 30}, "STRW is a reserved StreamWorld"},
		{"STRW=11", hyp, STE{s1, 0b11 << 30}, "STRW is a reserved StreamWorld"},
		{"STRW=10", hyp, STE{s1, 0b10 << 30}, ""},
		{"STRW=00", hyp, STE{s1}, ""},
		{"STRW=01 without Hyp is unused", guest, STE{s1, 0b01 << 30}, ""},
		{"STRW=01 in bypass is IGNORED", hyp, STE{bypass, 0b01 << 30}, ""},
		{"STRW=01 with stage 2 is IGNORED", hyp, STE{nested, 0b01 << 30}, ""},

		{"S1STALLD, STALL_MODEL=01", guest, STE{s1, stalld}, "S1STALLD on an SMMU whose stall model leaves no choice"},
		{"S1STALLD, STALL_MODEL=10", guest.with(StallModel, 2), STE{s1, stalld}, "S1STALLD on an SMMU whose stall model leaves no choice"},
		{"S1STALLD, STALL_MODEL=00", guest.with(StallModel, 0), STE{s1, stalld}, ""},
		{"S1STALLD in bypass is IGNORED", guest, STE{bypass, stalld}, ""},
		{"S1STALLD in stage 2 is IGNORED", both, STE{s2, stalld}, ""},

		{"S1CDMax=SSIDSIZE", guest, STE{s1 | 20<<59}, ""},
		{"S1CDMax=SSIDSIZE+1", guest, STE{s1 | 21<<59}, "S1CDMax is greater than IDR1.SSIDSIZE"},
		{"S1CDMax=31", guest, STE{s1 | 31<<59}, "S1CDMax is greater than IDR1.SSIDSIZE"},
		{"S1CDMax=1, SSIDSIZE=1", guest.with(SSIDSIZE, 1), STE{s1 | 1<<59}, ""},
		{"S1CDMax=2, SSIDSIZE=1", guest.with(SSIDSIZE, 1), STE{s1 | 2<<59}, "S1CDMax is greater than IDR1.SSIDSIZE"},
		{"S1CDMax without substreams is IGNORED", guest.with(SSIDSIZE, 0), STE{s1 | 31<<59}, ""},
		{"S1CDMax in bypass is IGNORED", guest, STE{bypass | 31<<59}, ""},

		{"S1Fmt=00 without CD2L", guest.with(CD2L, 0), STE{s1 | 8<<59}, ""},
		{"S1Fmt=01 without CD2L", guest.with(CD2L, 0), STE{s1 | 0b01<<4 | 8<<59}, "S1Fmt is a two-level table on an SMMU without IDR0.CD2L"},
		{"S1Fmt=10 without CD2L", guest.with(CD2L, 0), STE{s1 | 0b10<<4 | 8<<59}, "S1Fmt is a two-level table on an SMMU without IDR0.CD2L"},
		{"S1Fmt=11 behaves as 00", guest.with(CD2L, 0), STE{s1 | 0b11<<4 | 8<<59}, ""},
		{"S1Fmt=10 with CD2L", guest, STE{s1 | 0b10<<4 | 8<<59}, ""},
		{"S1Fmt=10 with one CD is IGNORED", guest.with(CD2L, 0), STE{s1 | 0b10<<4}, ""},
		{"S1Fmt=10 without substreams is IGNORED", guest.with(CD2L, 0, SSIDSIZE, 0), STE{s1 | 0b10<<4 | 8<<59}, ""},
		{"S1Fmt=10 in bypass is IGNORED", guest.with(CD2L, 0), STE{bypass | 0b10<<4 | 8<<59}, ""},

		{"S1ContextPtr the last below OAS", guest, STE{s1 | 0x0000_ffff_ffff_ffc0}, ""},
		{"S1ContextPtr at OAS", guest, STE{s1 | 0x0001_0000_0000_0000}, "S1ContextPtr is beyond the output address size"},
		{"S1ContextPtr[55]", guest, STE{s1 | 0x0080_0000_0000_0000}, "S1ContextPtr is beyond the output address size"},
		{"S1ContextPtr at OAS of 32 bits", guest.with(OAS, 0), STE{s1 | 0x1_0000_0000}, "S1ContextPtr is beyond the output address size"},
		{"S1ContextPtr[55] with OAS of 56 bits", guest.with(OAS, 7), STE{s1 | 0x0080_0000_0000_0000}, ""},
		{"S1ContextPtr in bypass is IGNORED", guest, STE{bypass | 0x0080_0000_0000_0000}, ""},

		{"S2VMID of 16 bits without VMID16", both, STE{s1, 0, 0x0100}, "S2VMID does not fit into eight bits"},
		{"S2VMID of 16 bits, stage 2", both, STE{s2, 0, 0x8000}, "S2VMID does not fit into eight bits"},
		{"S2VMID of 8 bits", both, STE{s1, 0, 0x00ff}, ""},
		{"S2VMID of 16 bits with VMID16", both.with(VMID16, 1), STE{s1, 0, 0xffff}, ""},
		{"S2VMID without S2P is IGNORED", guest, STE{s1, 0, 0xffff}, ""},
		{"S2VMID in bypass is IGNORED", both, STE{bypass, 0, 0xffff}, ""},
		{"S2VMID in EL2 is IGNORED", hyp, STE{s1, 0b10 << 30, 0xffff}, ""},

		{"reserved bits are IGNORED", guest, STE{s1 | 7<<56, 0xfff0_f000_0600_0000, ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := c.ste.Illegal(&c.ids)
			if c.wrong == "" {
				assert.Nil(t, got)
				return
			}
			if assert.NotNil(t, got) {
				assert.Equal(t, c.wrong, got.Text)
				assert.NotEmpty(t, got.Section)
			}
		})
	}
}

// With Config 0xx everything else is IGNORED (§5.2.2).
func TestSTEThatAbortsIsLegalWhateverElseItHolds(t *testing.T) {
	for config := range STEConfig(4) {
		s := STE{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		s.SetConfig(config)
		for _, r := range []IDRegs{{}, s1IDs(), s1IDs().with(S2P, 1, ATS, 1, Hyp, 1, DPT, 1)} {
			assert.Nil(t, s.Illegal(&r), "%03b", config)
		}
	}
}
