package idr

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// rule defines how Derive determines the guest's value of one field.
type rule struct {
	why string // the reason for the value, for an embedder
	// refused, if not nil, returns the reason why a value is refused. Otherwise the reason is why.
	refused func(v uint32) string

	// meet returns the common value of two hosts, or of the hosts and the device. ok is false if
	// there is none. A nil meet marks a field that the device decides alone.
	meet func(a, b uint32) (v uint32, ok bool)
	// offer is the largest value that the device supports, or 0 for a feature that no guest may
	// read. Without meet it is the default.
	offer uint32
	// onRequest is set for a field with the value unasked, unless the policy asks for another
	// value.
	onRequest bool
	unasked   uint32
	// reserved reports whether a value is reserved; nil if none is.
	reserved func(v uint32) bool
	// optional is set for a feature that Derive ignores if a host reports a reserved value. Derive
	// then uses the value in the field without.
	optional bool
	without  uint32
}

func (r *rule) whyRefused(v uint32) string {
	if r.refused != nil {
		return r.refused(v)
	}
	return r.why
}

func (r *rule) isReserved(v uint32) bool { return r.reserved != nil && r.reserved(v) }

func (r *rule) notAValue(f smmuv3.IDField) string {
	most := f.Max()
	for r.isReserved(most) {
		most--
	}
	return fmt.Sprintf("not a valid value (the greatest is %d)", most)
}

// meetOrLeast returns the result of meet, or the lesser value for a field that the device decides
// alone.
func (r *rule) meetOrLeast(a, b uint32) (uint32, bool) {
	if r.meet == nil {
		return least(a, b)
	}
	return r.meet(a, b)
}

// offered returns the largest value that a guest may read with such a host, or the default of a
// field that the device decides alone.
func (r *rule) offered(host uint32) (uint32, bool) {
	if r.meet == nil {
		return r.offer, true
	}
	return r.meet(host, r.offer)
}

// within reports whether v does not exceed the offered value.
func (r *rule) within(v, offered uint32) bool {
	if r.meet == nil {
		return true
	}
	m, ok := r.meet(v, offered)
	return ok && m == v
}

// least returns the common value of a field whose larger values include the smaller ones.
func least(a, b uint32) (uint32, bool) { return min(a, b), true }

// both returns the common value of a field that is a set of bits.
func both(a, b uint32) (uint32, bool) { return a & b, true }

// choice returns the common value of a field whose value 0 leaves a choice to software. Its other
// values fix the choice.
func choice(a, b uint32) (uint32, bool) {
	switch {
	case a == 0 || a == b:
		return b, true
	case b == 0:
		return a, true
	}
	return 0, false
}

// unforced returns the common value of two STALL_MODELs. The common value of "software chooses" and
// "faults terminate" is "faults terminate". Forced stalls have no common value with the other two.
func unforced(a, b uint32) (uint32, bool) {
	return max(a, b), a != smmuv3.StallForced && b != smmuv3.StallForced
}

// stallsRefused returns the reason why a STALL_MODEL is refused.
func stallsRefused(v uint32) string {
	if v == smmuv3.StallForced {
		return "forced stalls are not supported: PCI devices must not stall (§3.12.1)"
	}
	return "not all hosts can stall transactions"
}

func above(most uint32) func(uint32) bool { return func(v uint32) bool { return v > most } }

func exactly(hole uint32) func(uint32) bool { return func(v uint32) bool { return v == hole } }

// executed returns the rule of a feature that hosts execute, up to the largest value that the
// device supports.
func executed(most uint32, why string) rule {
	return rule{meet: least, offer: most, why: why}
}

// level returns the rule of an executed feature with reserved values. A host that reports a
// reserved value counts as a host without the feature.
func level(most uint32, reserved func(uint32) bool, why string) rule {
	return rule{meet: least, offer: most, why: why, reserved: reserved, optional: true}
}

// never returns the rule of a feature that no guest may read.
func never(why string) rule { return executed(0, why) }

// own returns the rule of a field that the device decides alone, with its default.
func own(value uint32, reserved func(uint32) bool, why string) rule {
	return rule{offer: value, reserved: reserved, why: why}
}

// maxStalled is the number of stalled transactions that a device tracks.
const maxStalled = 128

// Encodings of IDR5.OAS.
const (
	oas48 = 5
	oas52 = 6
)

// Encodings of IDR0.HTTU: flags of pages and blocks, and also flags of tables.
const (
	httuDirty  = 2
	httuTables = 3
)

// Reasons of several fields.
const (
	cdWhy       = "the host reads the CDs"
	walkWhy     = "the host walks the tables"
	tlbWhy      = "the host keeps the TLBs"
	presetWhy   = "the guest places its tables and queues"
	atosWhy     = "the device has no address translation operations"
	iidrWhy     = "the device identifies itself; 0 names no implementer, so that drivers apply no errata"
	queueWhy    = "the device's own queue: log2 of its entries"
	overrideWhy = "a guest stage has no overrides of attributes"
)

// rules has a row for each field. The architecture's text on a field is in the section of its
// register.
var rules = [...]rule{
	// IDR0 (§6.3.1).
	smmuv3.S2P: {meet: least, offer: 1, onRequest: true,
		why: "the host executes the guest's stage 2 if the policy asks for it, for guests that are hypervisors"},
	smmuv3.S1P:       executed(1, "the host walks the guest's tables"),
	smmuv3.TTF:       {meet: both, offer: smmuv3.TTFAArch64 | smmuv3.TTFAArch32, why: walkWhy, reserved: exactly(0)},
	smmuv3.COHACC:    executed(1, walkWhy+"; the device's own accesses are coherent"),
	smmuv3.BTM:       never("the guest's broadcast TLBI reaches no host"),
	smmuv3.HTTU:      executed(httuTables, walkWhy+" and updates their flags"),
	smmuv3.DORMHINT:  never("the device cannot tell when a host's caches are empty"),
	smmuv3.Hyp:       never("the SMMU has no EL2 contexts for the guest's hypervisor"),
	smmuv3.ATS:       executed(1, "the host answers translation requests"),
	smmuv3.NS1ATS:    executed(1, "no guest stage has split-stage ATS"),
	smmuv3.ASID16:    executed(1, tlbWhy),
	smmuv3.MSI:       own(0, nil, "the device signals its interrupts by wire, and with MSI also by message"),
	smmuv3.SEV:       never("the device wakes no vCPU from WFE"),
	smmuv3.ATOS:      never(atosWhy),
	smmuv3.PRI:       executed(1, "the host forwards page requests; the device has their queue"),
	smmuv3.VMW:       never("wildcards are for broadcast TLBI, which reaches no host"),
	smmuv3.VMID16:    executed(1, tlbWhy),
	smmuv3.CD2L:      executed(1, cdWhy),
	smmuv3.VATOS:     never(atosWhy),
	smmuv3.TTENDIAN:  {meet: choice, offer: smmuv3.TTENDIANMixed, why: walkWhy, reserved: exactly(1)},
	smmuv3.ATSRECERR: never("the host owns its control, CR2.REC_CFG_ATS"),
	smmuv3.StallModel: {meet: unforced, onRequest: true, unasked: smmuv3.StallTerminate,
		reserved: above(smmuv3.StallForced), refused: stallsRefused,
		why: "the host resumes stalled transactions; faults terminate unless the policy asks: " +
			"PCI devices must not stall (§3.12.1)"},
	smmuv3.TermModel: {meet: choice, offer: 0, why: "the host terminates transactions"},
	smmuv3.STLevel:   own(1, above(1), "the device reads the stream table, linear or two-level"),
	smmuv3.RMEImpl:   never("the host owns granule protection"),

	// IDR1 (§6.3.2).
	smmuv3.SIDSIZE:      own(16, above(32), "the device assigns StreamIDs; a PCI requester ID has 16 bits (§3.2)"),
	smmuv3.SSIDSIZE:     level(20, above(20), "the host accepts SubstreamIDs"),
	smmuv3.PRIQS:        own(8, above(smmuv3.MaxQueueShift), queueWhy),
	smmuv3.EVENTQS:      own(8, above(smmuv3.MaxQueueShift), queueWhy),
	smmuv3.CMDQS:        own(8, above(smmuv3.MaxQueueShift), queueWhy),
	smmuv3.AttrPermsOvr: never(overrideWhy),
	smmuv3.AttrTypesOvr: never(overrideWhy),
	smmuv3.REL:          never(presetWhy),
	smmuv3.QueuesPreset: never(presetWhy),
	smmuv3.TablesPreset: never(presetWhy),
	smmuv3.ECMDQ:        never("the device has one command queue"),

	// IDR2 (§6.3.3).
	smmuv3.BAVATOS: never(atosWhy),

	// IDR3 (§6.3.4).
	smmuv3.HAD:  executed(1, cdWhy),
	smmuv3.PBHA: executed(1, cdWhy),
	smmuv3.XNX:  executed(1, walkWhy),
	smmuv3.PPS:  executed(1, "the host sends the device's own page responses with a PASID"),
	smmuv3.MPAM: never("the host owns the partitions of the memory system"),
	smmuv3.FWB: own(1, nil,
		"SMMUv3.2 and later have FWB; without stage 2 it has no effect, and stage 2 needs a host with FWB"),
	smmuv3.STT:     executed(1, walkWhy),
	smmuv3.RIL:     executed(1, tlbWhy),
	smmuv3.BBML:    level(2, exactly(3), tlbWhy),
	smmuv3.E0PD:    executed(1, cdWhy),
	smmuv3.PTWNNC:  executed(1, walkWhy),
	smmuv3.DPT:     never("the host owns the device permission table"),
	smmuv3.PASIDTT: executed(1, "the host accepts Translated transactions"),
	smmuv3.EPAN:    executed(1, cdWhy),
	smmuv3.S1PI:    never("a guest stage has no STE.S1PIE, which enables it (§3.26.1)"),
	smmuv3.S2PI:    never("a guest stage has no STE.S2PIE, which enables it (§3.26.2)"),
	smmuv3.S2PO:    never("needs S2PI"),
	smmuv3.THE:     executed(1, cdWhy),
	smmuv3.MTEPERM: never("the host owns memory tags"),
	smmuv3.AIE:     executed(1, cdWhy),

	// IDR5 (§6.3.6). Every SMMU has an output address size. A host with a reserved value counts as
	// one with the largest size that needs no optional feature.
	smmuv3.OAS: {meet: least, offer: oas52, optional: true, without: oas48,
		why: "the host outputs the addresses; 56 bits need D128"},
	smmuv3.GRAN4K:   executed(1, walkWhy),
	smmuv3.GRAN16K:  executed(1, walkWhy),
	smmuv3.GRAN64K:  executed(1, walkWhy),
	smmuv3.DS:       executed(1, walkWhy),
	smmuv3.D128:     never("needs S1PI and S2PO"),
	smmuv3.VAX:      level(1, exactly(3), walkWhy+"; 56 bits need D128"),
	smmuv3.StallMax: executed(maxStalled, "the host holds stalled transactions; the device tracks them"),

	// IIDR (§6.3.7).
	smmuv3.Implementer: own(0, func(v uint32) bool { return v&0x80 != 0 }, iidrWhy),
	smmuv3.Revision:    own(0, nil, iidrWhy),
	smmuv3.Variant:     own(0, nil, iidrWhy),
	smmuv3.ProductID:   own(0, nil, iidrWhy),

	// AIDR (§6.3.8).
	smmuv3.ArchMinor: executed(4, "the host has what the version promises"),
	smmuv3.ArchMajor: {meet: least, offer: 0, why: "the device is an SMMUv3", reserved: above(0)},
}
