package smmuv3

import "fmt"

func (c STEConfig) String() string {
	switch {
	case c.Abort():
		return "abort, in silence"
	case c == ConfigBypass:
		return "bypass"
	case c == ConfigS1:
		return "stage 1 translates"
	case c == ConfigS2:
		return "stage 2 translates"
	}
	return "stage 1 and stage 2 translate"
}

// steRows are the fields that are there whatever Config says (§5.2), steRowsS1
// those of a stage 1 that translates, steRowsBypass those that a stage 1 has
// which does not, steRowsS2 those of stage 2.
var (
	steRows = []fieldRow{
		{name: "V", lo: 0, wide: 1, mean: oneOf("invalid", "valid")},
		{name: "Config", lo: 1, wide: 3, mean: stringOf[STEConfig]},
	}
	steRowsS1 = []fieldRow{
		{name: "S1Fmt", lo: 4, wide: 2, mean: stringOf[S1Fmt]},
		{name: "S1ContextPtr", lo: 6, wide: 50, shift: 6},
		{name: "S1CDMax", lo: 59, wide: 5, mean: func(v uint64) string {
			if v == 0 {
				return "one Context Descriptor, no substreams"
			}
			return fmt.Sprintf("a table of %d Context Descriptors", uint64(1)<<v)
		}},
		{name: "S1DSS", lo: 64, wide: 2, mean: func(v uint64) string {
			return "without a SubstreamID: " + S1DSS(v).String()
		}},
		{name: "S1CIR", lo: 66, wide: 2, mean: cdCacheability},
		{name: "S1COR", lo: 68, wide: 2, mean: cdCacheability},
		{name: "S1CSH", lo: 70, wide: 2, mean: shareability},
	}
	steRowsAny = []fieldRow{
		{name: "DRE", lo: 76, wide: 1},
		{name: "CONT", lo: 77, wide: 4},
		{name: "DCP", lo: 81, wide: 1},
		{name: "PPAR", lo: 82, wide: 1},
		{name: "MEV", lo: 83, wide: 1, mean: oneOf("events are not merged", "similar events may be merged")},
		{name: "SW_RESERVED", lo: 84, wide: 4, mean: func(uint64) string { return "software's own" }},
		{name: "S1STALLD", lo: 91, wide: 1, mean: oneOf("", "faults never stall")},
		{name: "EATS", lo: 92, wide: 2, mean: stringOf[EATS]},
		{name: "STRW", lo: 94, wide: 2, mean: oneOf("EL1", "reserved", "EL2", "reserved")},
		{name: "MemAttr", lo: 96, wide: 4},
		{name: "MTCFG", lo: 100, wide: 1, mean: oneOf("memory type as it comes in", "memory type by MemAttr")},
		{name: "ALLOCCFG", lo: 101, wide: 4},
		{name: "SHCFG", lo: 108, wide: 2, mean: oneOf("non-shareable", "shareability as it comes in", "outer shareable", "inner shareable")},
		{name: "NSCFG", lo: 110, wide: 2},
		{name: "PRIVCFG", lo: 112, wide: 2, mean: oneOf("privilege as it comes in", "reserved", "unprivileged", "privileged")},
		{name: "INSTCFG", lo: 114, wide: 2, mean: oneOf("instruction or data as it comes in", "reserved", "data", "instruction")},
		{name: "S2VMID", lo: 128, wide: 16},
	}
	steRowsS2 = []fieldRow{
		{name: "S2FWB", lo: 89, wide: 1},
		{name: "S2T0SZ", lo: 160, wide: 6},
		{name: "S2SL0", lo: 166, wide: 2},
		{name: "S2IR0", lo: 168, wide: 2, mean: tableCacheability},
		{name: "S2OR0", lo: 170, wide: 2, mean: tableCacheability},
		{name: "S2SH0", lo: 172, wide: 2, mean: shareability},
		{name: "S2TG", lo: 174, wide: 2, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
		{name: "S2PS", lo: 176, wide: 3, mean: addressSize},
		{name: "S2AA64", lo: 179, wide: 1},
		{name: "S2ENDI", lo: 180, wide: 1, mean: littleOrBig},
		{name: "S2AFFD", lo: 181, wide: 1},
		{name: "S2PTW", lo: 182, wide: 1},
		{name: "S2HD", lo: 183, wide: 1},
		{name: "S2HA", lo: 184, wide: 1},
		{name: "S2S", lo: 185, wide: 1},
		{name: "S2R", lo: 186, wide: 1},
		{name: "S2HAFT", lo: 187, wide: 1},
		{name: "S2SL0_2", lo: 194, wide: 1},
		{name: "S2DS", lo: 195, wide: 1},
		{name: "S2TTB", lo: 196, wide: 52, shift: 4},
	}
)

// Fields explains the STE field by field, as far as they have a meaning: with a
// Config that aborts no other has one, and each stage's only if it translates.
func (s STE) Fields() []Field {
	rows := [][]fieldRow{steRows}
	if s.V() && !s.Config().Abort() {
		if s.Config().Stage1() {
			rows = append(rows, steRowsS1)
		}
		rows = append(rows, steRowsAny)
		if s.Config().Stage2() {
			rows = append(rows, steRowsS2)
		}
		return explain(s[:], rows...)
	}
	return explain(s[:1], rows...)[:len(steRows)]
}
