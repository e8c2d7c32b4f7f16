package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// ids returns ID registers with fields set: a field, its value, and so on.
func ids(fieldsAndValues ...any) IDRegs {
	var r IDRegs
	for i := 0; i < len(fieldsAndValues); i += 2 {
		r.Set(fieldsAndValues[i].(IDField), uint32(fieldsAndValues[i+1].(int)))
	}
	return r
}

// with returns r with fields set, as ids does.
func (r IDRegs) with(fieldsAndValues ...any) IDRegs {
	for i := 0; i < len(fieldsAndValues); i += 2 {
		r.Set(fieldsAndValues[i].(IDField), uint32(fieldsAndValues[i+1].(int)))
	}
	return r
}

// s1IDs returns the registers of a stage-1 SMMU, as guests read them: faults terminate, 20 bits of
// SubstreamID, 48 bits of output address.
func s1IDs() IDRegs {
	return ids(S1P, 1, TTF, 2, ASID16, 1, CD2L, 1, StallModel, 1, SIDSIZE, 16, SSIDSIZE, 20, OAS, 5, STLevel, 1, RIL, 1)
}

// Each rule of §5.2.2 has an STE that breaks it and a neighbour that does not.
func TestSTEIllegal(t *testing.T) {
	const (
		s1     = 0b101<<1 | 1
		bypass = 0b100<<1 | 1
		s2     = 0b110<<1 | 1
		nested = 0b111<<1 | 1

		// A legal stage 2: S2T0SZ 24, S2SL0 1, S2PS 48 bits, S2AA64.
		dw2 = 24<<32 | 1<<38 | 5<<48 | 1<<51

		stalld = 1 << 27
		full   = 0b01 << 28
		split  = 0b10 << 28
		dpt    = 0b11 << 28
	)
	guest := s1IDs()
	both := guest.with(S2P, 1, GRAN4K, 1)
	hyp := both.with(Hyp, 1)
	for _, c := range []struct {
		name  string
		ids   IDRegs
		ste   STE
		wrong string // the rule's text, or empty if the STE is legal
	}{
		{"V=0", guest, STE{}, "V is 0"},
		{"V=0 with other fields set", guest, STE{s1 &^ 1}, "V is 0"},
		{"V=1, abort", guest, STE{1}, ""},
		{"bypass", guest, STE{bypass}, ""},
		{"stage 1", guest, STE{s1}, ""},

		{"stage 1 without S1P", guest.with(S1P, 0), STE{s1}, "Config needs a stage 1 that the SMMU does not have"},
		{"stage 2 without S1P", both.with(S1P, 0), STE{s2, 0, dw2}, ""},
		{"bypass without S1P", guest.with(S1P, 0), STE{bypass}, ""},
		{"stage 2 without S2P", guest, STE{s2}, "Config needs a stage 2 that the SMMU does not have"},
		{"nested without S2P", guest, STE{nested}, "Config needs a stage 2 that the SMMU does not have"},
		{"nested without either", IDRegs{}, STE{nested}, "Config needs a stage 1 that the SMMU does not have"},
		{"stage 2 with S2P", both, STE{s2, 0, dw2}, ""},
		{"nested with S2P", both, STE{nested, 0, dw2}, ""},

		{"full ATS", guest.with(ATS, 1), STE{s1, full}, ""},
		{"split ATS, stage 1 only", guest.with(ATS, 1), STE{s1, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS, stage 2 only", both.with(ATS, 1), STE{s2, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS, nested", both.with(ATS, 1), STE{nested, split, dw2}, ""},
		{"split ATS, nested, NS1ATS", both.with(ATS, 1, NS1ATS, 1), STE{nested, split}, "EATS asks for split-stage ATS outside nested translation"},
		{"split ATS in bypass is IGNORED", guest.with(ATS, 1), STE{bypass, split}, ""},
		{"split ATS without ATS is IGNORED", guest, STE{s1, split}, ""},
		{"EATS=11 without DPT is none", guest.with(ATS, 1), STE{s1, dpt}, ""},
		{"EATS=11 with DPT in EL1", hyp.with(ATS, 1, DPT, 1), STE{s1, dpt}, ""},
		{"EATS=11 with DPT in EL2", hyp.with(ATS, 1, DPT, 1), STE{s1, dpt | 0b10<<30}, "EATS asks for DPT checks outside the EL1 StreamWorld"},
		{"EATS=11 without DPT in EL2 is none", hyp.with(ATS, 1), STE{s1, dpt | 0b10<<30}, ""},
		{"EATS=11 with DPT but without ATS is IGNORED", hyp.with(DPT, 1), STE{s1, dpt | 0b10<<30}, ""},
		{"full ATS with DPT in EL2", hyp.with(ATS, 1, DPT, 1), STE{s1, full | 0b10<<30}, ""},
		{"EATS=11 with DPT, STRW unused", guest.with(ATS, 1, DPT, 1), STE{s1, dpt | 0b10<<30}, ""},

		{"STRW=01", hyp, STE{s1, 0b01 << 30}, "STRW is a reserved StreamWorld"},
		{"STRW=11", hyp, STE{s1, 0b11 << 30}, "STRW is a reserved StreamWorld"},
		{"STRW=10", hyp, STE{s1, 0b10 << 30}, ""},
		{"STRW=00", hyp, STE{s1}, ""},
		{"STRW=01 without Hyp is unused", guest, STE{s1, 0b01 << 30}, ""},
		{"STRW=01 in bypass is IGNORED", hyp, STE{bypass, 0b01 << 30}, ""},
		{"STRW=01 with stage 2 is IGNORED", hyp, STE{nested, 0b01 << 30, dw2}, ""},

		{"S1STALLD, STALL_MODEL=01", guest, STE{s1, stalld}, "S1STALLD on an SMMU whose stall model leaves no choice"},
		{"S1STALLD, STALL_MODEL=10", guest.with(StallModel, 2), STE{s1, stalld}, "S1STALLD on an SMMU whose stall model leaves no choice"},
		{"S1STALLD, STALL_MODEL=00", guest.with(StallModel, 0), STE{s1, stalld}, ""},
		{"S1STALLD in bypass is IGNORED", guest, STE{bypass, stalld}, ""},
		{"S1STALLD in stage 2 is IGNORED", both, STE{s2, stalld, dw2}, ""},

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

		{"split ATS, nested, S2S", both.with(ATS, 1, StallModel, 0), STE{nested, split, dw2 | 1<<57}, "EATS asks for split-stage ATS outside nested translation"},
		{"full ATS, nested, S2S", both.with(ATS, 1, StallModel, 0), STE{nested, full, dw2 | 1<<57}, "EATS allows ATS where faults of stage 2 stall"},
		{"full ATS, stage 1, S2S is IGNORED", both.with(ATS, 1, StallModel, 0), STE{s1, full, dw2 | 1<<57}, ""},
		{"S1ContextPtr at OAS, nested", both, STE{nested | 0x0001_0000_0000_0000, 0, dw2}, "S1ContextPtr is beyond the intermediate address size"},
		{"S1ContextPtr between OAS of 32 bits and IAS", both.with(OAS, 0, TTF, 3), STE{nested | 0xff_ffff_ffc0, 0, dw2}, ""},

		{"S2VMID of 16 bits without VMID16", both, STE{s1, 0, 0x0100}, "S2VMID does not fit into eight bits"},
		{"S2VMID of 16 bits, stage 2", both, STE{s2, 0, dw2 | 0x8000}, "S2VMID does not fit into eight bits"},
		{"S2VMID of 8 bits", both, STE{s1, 0, 0x00ff}, ""},
		{"S2VMID of 16 bits with VMID16", both.with(VMID16, 1), STE{s1, 0, 0xffff}, ""},
		{"S2VMID without S2P is IGNORED", guest, STE{s1, 0, 0xffff}, ""},
		{"S2VMID in bypass is IGNORED", both, STE{bypass, 0, 0xffff}, ""},
		{"S2VMID in EL1, where there is EL2", hyp, STE{s1, 0, 0xffff}, "S2VMID does not fit into eight bits"},
		{"S2VMID in EL1, STRW unused", both, STE{s1, 0b10 << 30, 0xffff}, "S2VMID does not fit into eight bits"},
		{"S2VMID of stage 2, where STRW is IGNORED", hyp, STE{s2, 0b10 << 30, dw2 | 0xffff}, "S2VMID does not fit into eight bits"},
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

// Each rule of §5.2.2 on stage 2 has an STE that breaks it and a neighbour that does not. The
// verdict is the same with and without stage 1. Where stage 2 does not translate, the rules do not
// apply.
func TestSTEIllegal_stage2(t *testing.T) {
	const (
		sl0  = 1 << 38
		tg64 = 0b01 << 46
		tg16 = 0b10 << 46
		ps48 = 5 << 48
		aa64 = 1 << 51
		endi = 1 << 52
		hd   = 1 << 55
		ha   = 1 << 56
		s2s  = 1 << 57
		haft = 1 << 59

		fwb   = 1 << 25 // dw1
		sl0_2 = 1 << 2  // dw3
		ds    = 1 << 3

		noFlags   = "S2HA, S2HD or S2HAFT asks for updates that the SMMU does not do"
		noFormat  = "S2AA64 is a table format that the SMMU does not have"
		noAArch32 = "S2FWB, S2HA or S2HD with AArch32 tables"
		noStall   = "S2S asks for stalls, which the SMMU does not have"
		noGranule = "S2TG is a granule that the SMMU does not have"
		ttbRange  = "S2TTB is beyond the effective output address size"
		t0szRange = "S2T0SZ is out of range"
		sl0Wrong  = "S2SL0 is inconsistent with S2T0SZ and S2TG"
		noEndian  = "S2ENDI is an endianness of tables that the SMMU does not have"
	)
	size := func(bits uint64) uint64 { return (64 - bits) << 32 }
	both := s1IDs().with(S2P, 1, GRAN4K, 1, GRAN16K, 1, GRAN64K, 1, ArchMinor, 2, STT, 1, FWB, 1)
	wide := both.with(OAS, 6, DS, 1, VAX, 1)
	for _, c := range []struct {
		name          string
		ids           IDRegs
		dw1, dw2, dw3 uint64
		wrong         string
	}{
		{"4 KiB, 40 bits from level 1", both, 0, size(40) | sl0 | ps48 | aa64, 0x1000, ""},
		{"AArch32 tables", both, 0, size(40) | sl0 | ps48, 0, noFormat},
		{"AArch64 tables of an AArch32 SMMU", both.with(TTF, 1), 0, size(40) | sl0 | ps48 | aa64, 0, noFormat},
		{"AArch32 tables with S2FWB", both.with(TTF, 3), fwb, size(40), 0, noAArch32},
		{"AArch32 tables with S2FWB, which is IGNORED", both.with(TTF, 3, FWB, 0), fwb, size(40), 0, ""},
		{"AArch32 tables with S2HA", both.with(TTF, 3, HTTU, 2), 0, size(40) | ha, 0, noAArch32},
		{"S2FWB", both, fwb, size(40) | sl0 | ps48 | aa64, 0, ""},

		{"S2S, STALL_MODEL=01", both, 0, size(40) | sl0 | ps48 | aa64 | s2s, 0, noStall},
		{"S2S, STALL_MODEL=00", both.with(StallModel, 0), 0, size(40) | sl0 | ps48 | aa64 | s2s, 0, ""},
		{"S2S=0, STALL_MODEL=10", both.with(StallModel, 2), 0, size(40) | sl0 | ps48 | aa64, 0, "S2S asks for termination on an SMMU that always stalls"},
		{"S2S, STALL_MODEL=10", both.with(StallModel, 2), 0, size(40) | sl0 | ps48 | aa64 | s2s, 0, ""},

		{"S2HA, HTTU=00", both, 0, size(40) | sl0 | ps48 | aa64 | ha, 0, noFlags},
		{"S2HD alone, HTTU=00", both, 0, size(40) | sl0 | ps48 | aa64 | hd, 0, noFlags},
		{"S2HA, HTTU=01", both.with(HTTU, 1), 0, size(40) | sl0 | ps48 | aa64 | ha, 0, ""},
		{"S2HD, HTTU=01", both.with(HTTU, 1), 0, size(40) | sl0 | ps48 | aa64 | ha | hd, 0, noFlags},
		{"S2HD, HTTU=10", both.with(HTTU, 2), 0, size(40) | sl0 | ps48 | aa64 | ha | hd, 0, ""},
		{"S2HAFT, HTTU=10, is RES0", both.with(HTTU, 2), 0, size(40) | sl0 | ps48 | aa64 | haft, 0, ""},
		{"S2HAFT without S2HA, HTTU=11", both.with(HTTU, 3), 0, size(40) | sl0 | ps48 | aa64 | haft, 0, noFlags},
		{"S2HAFT, HTTU=11", both.with(HTTU, 3), 0, size(40) | sl0 | ps48 | aa64 | ha | haft, 0, ""},

		{"a granule that is not there", both.with(GRAN16K, 0), 0, size(40) | sl0 | ps48 | aa64 | tg16, 0, noGranule},
		{"the reserved S2TG", both, 0, size(40) | sl0 | ps48 | aa64 | 3<<46, 0, noGranule},

		{"S2TTB the last below S2PS", both, 0, size(40) | sl0 | 2<<48 | aa64, 0xff_ffff_fff0, ""},
		{"S2TTB at S2PS of 40 bits", both, 0, size(40) | sl0 | 2<<48 | aa64, 0x100_0000_0000, ttbRange},
		{"S2TTB at OAS, which S2PS is capped to", both.with(OAS, 2), 0, size(40) | sl0 | ps48 | aa64, 0x100_0000_0000, ttbRange},
		{"S2TTB of 52 bits, 4 KiB", wide, 0, size(40) | sl0 | 6<<48 | aa64, 0x1_0000_0000_0000, ttbRange},
		{"S2TTB of 52 bits, 4 KiB, S2DS", wide, 0, size(40) | sl0 | 6<<48 | aa64, 0x1_0000_0000_0000 | ds, ""},
		{"S2TTB of 52 bits, 4 KiB, S2DS without DS", wide.with(DS, 0), 0, size(40) | sl0 | 6<<48 | aa64, 0x1_0000_0000_0000 | ds, ttbRange},
		{"S2TTB of 52 bits, 64 KiB", wide, 0, size(48) | 2<<38 | 6<<48 | aa64 | tg64, 0x8_0000_0000_0000, ""},
		{"S2TTB[51:48] are RES0 in SMMUv3.0", both.with(ArchMinor, 0), 0, size(40) | sl0 | ps48 | aa64, 0x000f_0000_0000_1000, ""},
		{"S2TTB[55:52] are RES0", both, 0, size(40) | sl0 | ps48 | aa64, 0x00f0_0000_0000_1000, ""},

		{"S2T0SZ for 16 bits", both, 0, 48<<32 | 3<<38 | ps48 | aa64, 0, ""},
		{"S2T0SZ for 15 bits", both, 0, 49<<32 | 3<<38 | ps48 | aa64, 0, t0szRange},
		{"S2T0SZ for 16 bits, 64 KiB", both, 0, 48<<32 | ps48 | aa64 | tg64, 0, t0szRange},
		{"S2T0SZ for 25 bits without STT", both.with(STT, 0), 0, size(25) | ps48 | aa64, 0, ""},
		{"S2T0SZ for 24 bits without STT", both.with(STT, 0), 0, size(24) | ps48 | aa64, 0, t0szRange},
		{"S2T0SZ for OAS", both, 0, size(48) | 2<<38 | ps48 | aa64, 0, ""},
		{"S2T0SZ for more than OAS", both, 0, size(49) | 2<<38 | ps48 | aa64, 0, t0szRange},
		{"S2T0SZ for more than OAS of 40 bits", both.with(OAS, 2), 0, size(41) | sl0 | ps48 | aa64, 0, t0szRange},
		{"S2T0SZ for 52 bits, 4 KiB", wide, 0, size(52) | 2<<38 | 6<<48 | aa64, 0, t0szRange},
		{"S2T0SZ for 52 bits, 4 KiB, S2DS", wide, 0, size(52) | 6<<48 | aa64, sl0_2 | ds, ""},
		{"S2T0SZ for 52 bits, 4 KiB, S2DS, whatever VAX", wide.with(VAX, 0), 0, size(52) | 6<<48 | aa64, sl0_2 | ds, ""},
		{"S2T0SZ for 52 bits, 64 KiB", wide, 0, size(52) | 2<<38 | 6<<48 | aa64 | tg64, 0, ""},
		{"S2T0SZ for 52 bits, 64 KiB, whatever VAX", wide.with(VAX, 0, DS, 0), 0, size(52) | 2<<38 | 6<<48 | aa64 | tg64, 0, ""},

		{"4 KiB, level 2: 22 bits", both.with(STT, 1), 0, size(22) | ps48 | aa64, 0, ""},
		{"4 KiB, level 2: 21 bits", both, 0, size(21) | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 2: 34 bits, 16 tables", both, 0, size(34) | ps48 | aa64, 0, ""},
		{"4 KiB, level 2: 35 bits", both, 0, size(35) | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 1: 31 bits", both, 0, size(31) | sl0 | ps48 | aa64, 0, ""},
		{"4 KiB, level 1: 30 bits", both, 0, size(30) | sl0 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 1: 43 bits, 16 tables", both, 0, size(43) | sl0 | ps48 | aa64, 0, ""},
		{"4 KiB, level 1: 44 bits", both, 0, size(44) | sl0 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 0: 40 bits", both, 0, size(40) | 2<<38 | ps48 | aa64, 0, ""},
		{"4 KiB, level 0: 39 bits", both, 0, size(39) | 2<<38 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 0: OAS of 42 bits", both.with(OAS, 3), 0, size(42) | 2<<38 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 0: OAS of 44 bits", both.with(OAS, 4), 0, size(44) | 2<<38 | ps48 | aa64, 0, ""},
		{"4 KiB, level 3: 25 bits, 16 tables", both, 0, size(25) | 3<<38 | ps48 | aa64, 0, ""},
		{"4 KiB, level 3: 26 bits", both, 0, size(26) | 3<<38 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level 3 without STT", both.with(STT, 0), 0, size(25) | 3<<38 | ps48 | aa64, 0, sl0Wrong},
		{"4 KiB, level -1: 49 bits", wide, 0, size(49) | 6<<48 | aa64, sl0_2 | ds, ""},
		{"4 KiB, level -1: 48 bits", wide, 0, size(48) | 6<<48 | aa64, sl0_2 | ds, sl0Wrong},
		{"4 KiB, S2SL0_2 with S2SL0", wide, 0, size(49) | sl0 | 6<<48 | aa64, sl0_2 | ds, sl0Wrong},
		{"4 KiB, S2SL0_2 without S2DS is RES0", wide, 0, size(40) | sl0 | 6<<48 | aa64, sl0_2, ""},
		{"16 KiB, level 3: 25 bits", both, 0, size(25) | ps48 | aa64 | tg16, 0, ""},
		{"16 KiB, level 2: 40 bits, 16 tables", both, 0, size(40) | sl0 | ps48 | aa64 | tg16, 0, ""},
		{"16 KiB, level 2: 41 bits", both, 0, size(41) | sl0 | ps48 | aa64 | tg16, 0, sl0Wrong},
		{"16 KiB, level 1: 48 bits", both, 0, size(48) | 2<<38 | ps48 | aa64 | tg16, 0, ""},
		{"16 KiB, level 1: OAS of 40 bits", both.with(OAS, 2), 0, size(40) | 2<<38 | ps48 | aa64 | tg16, 0, sl0Wrong},
		{"16 KiB, level 1: OAS of 42 bits", both.with(OAS, 3), 0, size(42) | 2<<38 | ps48 | aa64 | tg16, 0, ""},
		{"16 KiB, level 0", both, 0, size(48) | 3<<38 | ps48 | aa64 | tg16, 0, sl0Wrong},
		{"16 KiB, level 0: 52 bits, S2DS", wide, 0, size(52) | 3<<38 | 6<<48 | aa64 | tg16, ds, ""},
		{"64 KiB, level 3: 33 bits, 16 tables", both, 0, size(33) | ps48 | aa64 | tg64, 0, ""},
		{"64 KiB, level 2: 42 bits", both, 0, size(42) | sl0 | ps48 | aa64 | tg64, 0, ""},
		{"64 KiB, level 2: 46 bits, 16 tables", both, 0, size(46) | sl0 | ps48 | aa64 | tg64, 0, ""},
		{"64 KiB, level 2: 47 bits", both, 0, size(47) | sl0 | ps48 | aa64 | tg64, 0, sl0Wrong},
		{"64 KiB, level 1: OAS of 44 bits", both.with(OAS, 4), 0, size(44) | 2<<38 | ps48 | aa64 | tg64, 0, ""},
		{"64 KiB, level 1: 43 bits", both, 0, size(43) | 2<<38 | ps48 | aa64 | tg64, 0, ""},
		{"64 KiB, S2SL0=11", both, 0, size(48) | 3<<38 | ps48 | aa64 | tg64, 0, sl0Wrong},

		{"big-endian tables", both, 0, size(40) | sl0 | ps48 | aa64 | endi, 0, ""},
		{"big-endian tables of a little-endian SMMU", both.with(TTENDIAN, 2), 0, size(40) | sl0 | ps48 | aa64 | endi, 0, noEndian},
		{"little-endian tables of a big-endian SMMU", both.with(TTENDIAN, 3), 0, size(40) | sl0 | ps48 | aa64, 0, noEndian},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, config := range []STEConfig{ConfigS2, ConfigNested, ConfigS1, ConfigBypass} {
				s := STE{1 | uint64(config)<<1, c.dw1, c.dw2, c.dw3}
				wrong := c.wrong
				if !config.Stage2() {
					wrong = ""
				}
				if got := s.Illegal(&c.ids); wrong == "" {
					assert.Nil(t, got, "Config %03b", config)
				} else if assert.NotNil(t, got, "Config %03b", config) {
					assert.Equal(t, wrong, got.Text, "Config %03b", config)
				}
			}
		})
	}
}

// With Config 0xx, all other fields are ignored (§5.2.2).
func TestSTEIllegal_abort(t *testing.T) {
	for config := range STEConfig(4) {
		s := STE{^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0)}
		s.SetConfig(config)
		for _, r := range []IDRegs{{}, s1IDs(), s1IDs().with(S2P, 1, ATS, 1, Hyp, 1, DPT, 1)} {
			assert.Nil(t, s.Illegal(&r), "%03b", config)
		}
	}
}

// §5.2.2: with IDR5.D128, S2AA64 = 0 and CD.AA64 = 0 select VMSAv9-128 tables, which IDR0.TTF does
// not describe.
func TestIllegal_D128(t *testing.T) {
	r := s1IDs().with(S2P, 1, GRAN4K, 1, HTTU, 2)
	d128 := r.with(D128, 1)
	ste := STE{0b110<<1 | 1, 0, 24<<32 | 1<<56} // S2HA
	cd := CD{1<<31 | 1<<46}
	assert.Equal(t, "S2FWB, S2HA or S2HD with AArch32 tables (§5.2.2)", ste.Illegal(&r).String())
	assert.Nil(t, ste.Illegal(&d128))
	assert.Equal(t, "AA64 is a table format that the SMMU does not have (§5.4.2)", cd.Illegal(&r, false).String())
	assert.Nil(t, cd.Illegal(&d128, false))
	noFlags := d128.with(HTTU, 0)
	cd[0] |= 1 << 43 // HA
	assert.Equal(t, "HA, HD or HAFT asks for updates that the SMMU does not do (§5.4.2)", cd.Illegal(&noFlags, false).String())
}

// §5.2.2: the rules on permission indirection, overlays and the VMS apply to an SMMU with the
// feature. Without the feature, the fields are RES0.
func TestSTEIllegal_permissions_VMS(t *testing.T) {
	const dw2 = 24<<32 | 1<<38 | 5<<48 | 1<<51
	s2, nested := STE{0b110<<1 | 1, 0, dw2}, STE{0b111<<1 | 1, 0, dw2}
	with := func(s STE, dw int, bits uint64) STE { s[dw] |= bits; return s }
	none := s1IDs().with(S2P, 1, GRAN4K, 1)
	all := none.with(S2PI, 1, S2PO, 1, PBHA, 1, MPAM, 1)
	aa32 := with(s2, 2, 1<<60)
	aa32[2] &^= 1 << 51
	poe := with(s2, 2, 3<<60) // S2PIE, S2POE
	for _, c := range []struct {
		name string
		ids  IDRegs
		ste  STE
		want string
	}{
		{"S2PIE", all, with(s2, 2, 1<<60), "legal"},
		{"S2PIE with AArch32", all.with(TTF, 3), aa32, "S2PIE with AArch32 tables (§5.2.2)"},
		{"S2PIE with AArch32, no S2PI", none.with(TTF, 3), aa32, "legal"},
		{"S2PIE with VMSAv9-128", all.with(D128, 1), aa32, "legal"},
		{"S2POE without S2PIE", all, with(s2, 2, 1<<61), "S2POE without S2PIE (§5.2.2)"},
		{"S2POE without S2PIE, no S2PO", none, with(s2, 2, 1<<61), "legal"},
		{"S2POE", all, poe, "legal"},
		{"S2POE with S2HWU59", all, with(poe, 1, 1<<8), "S2POE with S2HWU59, S2HWU60, S2HWU61 or S2HWU62 (§5.2.2)"},
		{"S2POE with S2HWU62", all, with(poe, 1, 1<<11), "S2POE with S2HWU59, S2HWU60, S2HWU61 or S2HWU62 (§5.2.2)"},
		{"S2POE with S2HWU59, no PBHA", all.with(PBHA, 0), with(poe, 1, 1<<8), "legal"},
		{"S2HWU59", all, with(s2, 1, 1<<8), "legal"},
		{"S2POI0 = 0001", all, with(poe, 7, 0x1), "S2POI has a reserved encoding (§5.2.2)"},
		{"S2POI15 = 0101", all, with(poe, 7, 0x5<<60), "S2POI has a reserved encoding (§5.2.2)"},
		{"other S2POI", all, with(poe, 7, 0xfedc_ba98_7643_2000), "legal"},
		{"S2POI without S2POE", all, with(s2, 7, 0x1), "legal"},
		{"VMSPtr", all, with(with(nested, 1, 1<<26), 5, 1<<47), "legal"},
		{"VMSPtr beyond OAS", all, with(with(nested, 1, 1<<26), 5, 1<<48), "VMSPtr is beyond the output address size (§5.2.2)"},
		{"VMSPtr beyond OAS, S1MPAM = 0", all, with(nested, 5, 1<<48), "legal"},
		{"VMSPtr beyond OAS, no MPAM", none, with(with(nested, 1, 1<<26), 5, 1<<48), "legal"},
		{"VMSPtr beyond OAS, stage 2 alone", all, with(with(s2, 1, 1<<26), 5, 1<<48), "legal"},
	} {
		assert.Equal(t, c.want, c.ste.Illegal(&c.ids).String(), c.name)
	}
}
