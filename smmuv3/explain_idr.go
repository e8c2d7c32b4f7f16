package smmuv3

import "fmt"

// idMeanings say in words what the values of a field mean, where that is not
// plainly no or yes, or a number.
var idMeanings = map[IDField]func(uint64) string{
	TTF:        oneOf("none", "AArch32", "AArch64", "AArch32 and AArch64"),
	HTTU:       oneOf("none", "Access flag", "Access flag and dirty state", "those, and Access flag of tables"),
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
	d := &idFields[f]
	return uint(d.lo) + uint(d.wide) - 1, uint(d.lo)
}

// registerNames are the registers of §6.2.1 and §6.2.2 by their offset, with
// the page-0 aliases of those on page 1.
var registerNames = map[uint64]string{
	RegIDR0: "IDR0", RegIDR1: "IDR1", RegIDR2: "IDR2", RegIDR3: "IDR3", RegIDR4: "IDR4", RegIDR5: "IDR5",
	RegIIDR: "IIDR", RegAIDR: "AIDR", RegCR0: "CR0", RegCR0ACK: "CR0ACK", RegCR1: "CR1", RegCR2: "CR2",
	RegSTATUSR: "STATUSR", RegGBPA: "GBPA", RegAGBPA: "AGBPA",
	RegIRQCtrl: "IRQ_CTRL", RegIRQCtrlAck: "IRQ_CTRLACK", RegGERROR: "GERROR", RegGERRORN: "GERRORN",
	RegGErrorIRQ0: "GERROR_IRQ_CFG0", RegGErrorIRQ0 + 4: "GERROR_IRQ_CFG0[63:32]",
	RegGErrorIRQ1: "GERROR_IRQ_CFG1", RegGErrorIRQ2: "GERROR_IRQ_CFG2",
	RegSTRTABBase: "STRTAB_BASE", RegSTRTABBase + 4: "STRTAB_BASE[63:32]", RegSTRTABCfg: "STRTAB_BASE_CFG",
	RegCMDQBase: "CMDQ_BASE", RegCMDQBase + 4: "CMDQ_BASE[63:32]", RegCMDQProd: "CMDQ_PROD", RegCMDQCons: "CMDQ_CONS",
	RegEVENTQBase: "EVENTQ_BASE", RegEVENTQBase + 4: "EVENTQ_BASE[63:32]",
	RegEVENTQProd: "EVENTQ_PROD", RegEVENTQCons: "EVENTQ_CONS",
	RegEVENTQProd & 0xff: "EVENTQ_PROD", RegEVENTQCons & 0xff: "EVENTQ_CONS",
	RegEventQIRQ0: "EVENTQ_IRQ_CFG0", RegEventQIRQ0 + 4: "EVENTQ_IRQ_CFG0[63:32]",
	RegEventQIRQ1: "EVENTQ_IRQ_CFG1", RegEventQIRQ2: "EVENTQ_IRQ_CFG2",
	RegPRIQBase: "PRIQ_BASE", RegPRIQBase + 4: "PRIQ_BASE[63:32]",
	RegPRIQProd: "PRIQ_PROD", RegPRIQCons: "PRIQ_CONS", RegPRIQIRQ0: "PRIQ_IRQ_CFG0", RegPRIQIRQ0 + 4: "PRIQ_IRQ_CFG0[63:32]",
	RegPRIQIRQ1: "PRIQ_IRQ_CFG1", RegPRIQIRQ2: "PRIQ_IRQ_CFG2", RegIDR6: "IDR6",
}

// RegisterName is the name of the register at an offset, or empty if there is
// none that this package knows.
func RegisterName(off uint64) string { return registerNames[off] }
