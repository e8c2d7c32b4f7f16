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
	steRows = []row{
		{name: "V", place: 0 + 1*wide, mean: oneOf("invalid", "valid")},
		{name: "Config", place: 1 + 3*wide, mean: stringOf[STEConfig]},
	}
	steRowsS1 = []row{
		{name: "S1Fmt", place: 4 + 2*wide, mean: stringOf[S1Fmt]},
		{name: "S1ContextPtr", place: 6 + 50*wide + address},
		{name: "S1CDMax", place: 59 + 5*wide, mean: func(v uint64) string {
			if v == 0 {
				return "one Context Descriptor, no substreams"
			}
			return fmt.Sprintf("a table of %d Context Descriptors", uint64(1)<<v)
		}},
		{name: "S1DSS", place: 64 + 2*wide, mean: func(v uint64) string {
			return "without a SubstreamID: " + S1DSS(v).String()
		}},
		{name: "S1CIR", place: 66 + 2*wide, mean: cdCacheability},
		{name: "S1COR", place: 68 + 2*wide, mean: cdCacheability},
		{name: "S1CSH", place: 70 + 2*wide, mean: shareability},
	}
	steRowsAny = []row{
		{name: "DRE", place: 76 + 1*wide},
		{name: "CONT", place: 77 + 4*wide},
		{name: "DCP", place: 81 + 1*wide},
		{name: "PPAR", place: 82 + 1*wide},
		{name: "MEV", place: 83 + 1*wide, mean: oneOf("events are not merged", "similar events may be merged")},
		{name: "SW_RESERVED", place: 84 + 4*wide, mean: func(uint64) string { return "software's own" }},
		{name: "S1STALLD", place: 91 + 1*wide, mean: oneOf("", "faults never stall")},
		{name: "EATS", place: 92 + 2*wide, mean: stringOf[EATS]},
		{name: "STRW", place: 94 + 2*wide, mean: oneOf("EL1", "reserved", "EL2", "reserved")},
		{name: "MemAttr", place: 96 + 4*wide},
		{name: "MTCFG", place: 100 + 1*wide, mean: oneOf("memory type as it comes in", "memory type by MemAttr")},
		{name: "ALLOCCFG", place: 101 + 4*wide},
		{name: "SHCFG", place: 108 + 2*wide, mean: oneOf("non-shareable", "shareability as it comes in", "outer shareable", "inner shareable")},
		{name: "NSCFG", place: 110 + 2*wide},
		{name: "PRIVCFG", place: 112 + 2*wide, mean: oneOf("privilege as it comes in", "reserved", "unprivileged", "privileged")},
		{name: "INSTCFG", place: 114 + 2*wide, mean: oneOf("instruction or data as it comes in", "reserved", "data", "instruction")},
		{name: "S2VMID", place: 128 + 16*wide},
	}
	steRowsS2 = []row{
		{name: "S2FWB", place: 89 + 1*wide},
		{name: "S2T0SZ", place: 160 + 6*wide},
		{name: "S2SL0", place: 166 + 2*wide},
		{name: "S2IR0", place: 168 + 2*wide, mean: tableCacheability},
		{name: "S2OR0", place: 170 + 2*wide, mean: tableCacheability},
		{name: "S2SH0", place: 172 + 2*wide, mean: shareability},
		{name: "S2TG", place: 174 + 2*wide, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
		{name: "S2PS", place: 176 + 3*wide, mean: addressSize},
		{name: "S2AA64", place: 179 + 1*wide},
		{name: "S2ENDI", place: 180 + 1*wide, mean: littleOrBig},
		{name: "S2AFFD", place: 181 + 1*wide},
		{name: "S2PTW", place: 182 + 1*wide},
		{name: "S2HD", place: 183 + 1*wide},
		{name: "S2HA", place: 184 + 1*wide},
		{name: "S2S", place: 185 + 1*wide},
		{name: "S2R", place: 186 + 1*wide},
		{name: "S2HAFT", place: 187 + 1*wide},
		{name: "S2SL0_2", place: 194 + 1*wide},
		{name: "S2DS", place: 195 + 1*wide},
		{name: "S2TTB", place: 196 + 52*wide + address},
	}
)

// Fields explains the STE field by field, as far as they have a meaning: with a
// Config that aborts no other has one, and each stage's only if it translates.
func (s STE) Fields() []Field {
	rows := [][]row{steRows}
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
