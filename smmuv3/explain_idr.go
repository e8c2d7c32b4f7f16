package smmuv3

import "fmt"

// idMeanings say in words what the values of a field mean, where that is not
// plainly no or yes, or a number.
var idMeanings = map[IDField]func(uint64) string{
	TTF:        oneOf("none", "AArch32", "AArch64", "AArch32 and AArch64"),
	HTTU:       oneOf("none", "Access flag", "Access flag and dirty state", "Access flag, also of tables, and dirty state"),
	TTENDIAN:   oneOf("mixed", "reserved", "little-endian", "big-endian"),
	StallModel: oneOf("stall and terminate", "terminate only", "stall only", "reserved"),
	TermModel:  oneOf("abort, or read zero and ignore writes", "abort only"),
	STLevel:    oneOf("linear", "linear and two-level", "reserved", "reserved"),
	SIDSIZE:    func(v uint64) string { return fmt.Sprintf("%d bits of StreamID", v) },
	SSIDSIZE: func(v uint64) string {
		if v == 0 {
			return "no substreams"
		}
		return fmt.Sprintf("%d bits of SubstreamID", v)
	},
	PRIQS:     entries,
	EVENTQS:   entries,
	CMDQS:     entries,
	BBML:      oneOf("level 0", "level 1", "level 2", "reserved"),
	OAS:       addressSize,
	VAX:       oneOf("48-bit addresses", "52-bit addresses", "56-bit addresses", "reserved"),
	ArchMinor: func(v uint64) string { return fmt.Sprintf("SMMUv3.%d", v) },
}

func entries(v uint64) string { return fmt.Sprintf("up to %d entries", uint64(1)<<v) }

// Meaning says in words what a value of the field means; it is empty where the
// value is a plain number.
func (f IDField) Meaning(v uint32) string {
	if mean, ok := idMeanings[f]; ok {
		return mean(uint64(v))
	}
	if f < numIDFields && idFields[f].wide == 1 {
		return oneOf("no", "yes")(uint64(v))
	}
	return ""
}

// Bits is where the field stands in its register: from Lo to Hi.
func (f IDField) Bits() (hi, lo uint) {
	d := f.row()
	return uint(max(1, d.wide)) + uint(d.lo) - 1, uint(d.lo)
}
