package idr

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// rule says how the guest's value of one field comes about.
type rule struct {
	why string // the reason for the value, in an embedder's words

	// meet is what two parties that carry a field out have in common; ok is
	// false if there is nothing. A nil meet marks a field that is the device's
	// own affair.
	meet func(a, b uint32) (v uint32, ok bool)
	// offer is the most that the device can pass on, with a meet: 0 for what a
	// guest is never shown. Without one it is the default.
	offer uint32
	// opt has the guest shown unasked unless the policy asks for something.
	opt     bool
	unasked uint32
	// reserved marks values without a meaning; nil if all have one.
	reserved func(v uint32) bool
}

func (r *rule) isReserved(v uint32) bool { return r.reserved != nil && r.reserved(v) }

func (r *rule) notAValue(f smmuv3.IDField) string {
	most := f.Max()
	for r.isReserved(most) {
		most--
	}
	return fmt.Sprintf("not a value of this field, whose greatest is %d", most)
}

// meetOrLeast is meet; for the device's own fields, where hosts do not count,
// it is the least.
func (r *rule) meetOrLeast(a, b uint32) (uint32, bool) {
	if r.meet == nil {
		return least(a, b)
	}
	return r.meet(a, b)
}

// offered is the most that a guest may be shown with such a host, or the
// default of a field that is the device's own.
func (r *rule) offered(host uint32) (uint32, bool) {
	if r.meet == nil {
		return r.offer, true
	}
	return r.meet(host, r.offer)
}

// within reports whether v asks for no more than what is offered.
func (r *rule) within(v, offered uint32) bool {
	if r.meet == nil {
		return true
	}
	m, ok := r.meet(v, offered)
	return ok && m == v
}

// least is for fields in which more is better and includes the less.
func least(a, b uint32) (uint32, bool) { return min(a, b), true }

// both is for sets of bits.
func both(a, b uint32) (uint32, bool) { return a & b, true }

// choice is for fields in which 0 leaves something to software, and each other
// value fixes it in one way.
func choice(a, b uint32) (uint32, bool) {
	switch {
	case a == 0 || a == b:
		return b, true
	case b == 0:
		return a, true
	}
	return 0, false
}

// unforced is for STALL_MODEL: where software has the choice, it may be told that
// there are no stalls. Forced ones have nothing in common with either.
func unforced(a, b uint32) (uint32, bool) {
	return max(a, b), a != smmuv3.StallForced && b != smmuv3.StallForced
}

func above(most uint32) func(uint32) bool { return func(v uint32) bool { return v > most } }

func exactly(hole uint32) func(uint32) bool { return func(v uint32) bool { return v == hole } }

// carried is a feature that hosts carry out, up to what the device can pass on.
func carried(most uint32, why string) rule {
	return rule{meet: least, offer: most, why: why}
}

// never is a feature that no guest is shown.
func never(why string) rule { return carried(0, why) }

// own is what the device decides, with its default.
func own(value uint32, reserved func(uint32) bool, why string) rule {
	return rule{offer: value, reserved: reserved, why: why}
}

// maxStalled is how many stalled transactions a device keeps book of.
const maxStalled = 128

// Encodings of IDR5.OAS.
const (
	oas48 = 5
	oas52 = 6
)

// Reasons that stand behind several fields.
const (
	byHost    = "carried out by the host, which "
	cdWhy     = byHost + "reads the CDs"
	walkWhy   = byHost + "walks the tables"
	tlbWhy    = byHost + "keeps the TLBs"
	presetWhy = "the guest chooses where its tables and queues are"
	atosWhy   = "the device does no address translation operations"
	iidrWhy   = "the device names itself; 0 is nobody's part, to which no erratum belongs"
	queueWhy  = "the device's own queue: log2 of its entries"
)

// rules holds a row for each field. What the architecture has to say about a
// field stands in the section of its register.
var rules = [...]rule{
	// IDR0 (§6.3.1).
	smmuv3.S2P:        {meet: least, offer: 1, opt: true, why: byHost + "nests a stage 2 of the guest's, if the policy asks: for guests that are hypervisors"},
	smmuv3.S1P:        carried(1, byHost+"translates by the guest's tables"),
	smmuv3.TTF:        {meet: both, offer: smmuv3.TTFAArch64 | smmuv3.TTFAArch32, why: walkWhy, reserved: exactly(0)},
	smmuv3.COHACC:     carried(1, walkWhy+"; the device's own accesses are coherent"),
	smmuv3.BTM:        never("the guest's broadcast TLBI reaches no host"),
	smmuv3.HTTU:       carried(3, walkWhy+" and updates their flags"),
	smmuv3.DORMHINT:   never("the device cannot tell when a host's caches are empty"),
	smmuv3.Hyp:        never("a guest's hypervisor has no contexts of its own in the SMMU"),
	smmuv3.ATS:        carried(1, byHost+"answers translation requests"),
	smmuv3.NS1ATS:     never("RES0 without ATS and S2P, and never are there both"),
	smmuv3.ASID16:     carried(1, tlbWhy),
	smmuv3.MSI:        own(0, nil, "the device's own interrupts: wired, with MSI also messages"),
	smmuv3.SEV:        never("nothing of the device wakes a vCPU from WFE"),
	smmuv3.ATOS:       never(atosWhy),
	smmuv3.PRI:        carried(1, byHost+"passes page requests on; their queue is the device's"),
	smmuv3.VMW:        never("wildcards are for broadcasts, which reach no host"),
	smmuv3.VMID16:     carried(1, tlbWhy),
	smmuv3.CD2L:       carried(1, cdWhy),
	smmuv3.VATOS:      never(atosWhy),
	smmuv3.TTENDIAN:   {meet: choice, offer: smmuv3.TTENDIANMixed, why: walkWhy, reserved: exactly(1)},
	smmuv3.ATSRECERR:  never("its switch, CR2.REC_CFG_ATS, is the host's"),
	smmuv3.StallModel: {meet: unforced, opt: true, unasked: smmuv3.StallTerminate, reserved: above(smmuv3.StallForced), why: byHost + "resumes what is stalled; faults terminate unless the policy asks: PCI devices must not stall (§3.12.1)"},
	smmuv3.TermModel:  {meet: choice, offer: 0, why: byHost + "terminates transactions"},
	smmuv3.STLevel:    own(1, above(1), "the device reads the stream table, linear or of two levels"),
	smmuv3.RMEImpl:    never("granule protection is the host's"),

	// IDR1 (§6.3.2).
	smmuv3.SIDSIZE:      own(16, above(32), "StreamIDs are the device's own; a PCI requester ID has 16 bits (§3.2)"),
	smmuv3.SSIDSIZE:     {meet: least, offer: 20, why: byHost + "is presented with SubstreamIDs", reserved: above(20)},
	smmuv3.PRIQS:        own(8, above(19), queueWhy),
	smmuv3.EVENTQS:      own(8, above(19), queueWhy),
	smmuv3.CMDQS:        own(8, above(19), queueWhy),
	smmuv3.AttrPermsOvr: never("overrides are no part of a guest stage"),
	smmuv3.AttrTypesOvr: never("overrides are no part of a guest stage"),
	smmuv3.REL:          never(presetWhy),
	smmuv3.QueuesPreset: never(presetWhy),
	smmuv3.TablesPreset: never(presetWhy),
	smmuv3.ECMDQ:        never("the device has one command queue"),

	// IDR2 (§6.3.3).
	smmuv3.BAVATOS: never(atosWhy),

	// IDR3 (§6.3.4).
	smmuv3.HAD:     carried(1, cdWhy),
	smmuv3.PBHA:    carried(1, cdWhy),
	smmuv3.XNX:     carried(1, walkWhy),
	smmuv3.PPS:     carried(1, byHost+"sends the device's own answers with a PASID"),
	smmuv3.MPAM:    never("partitions of the memory system are the host's"),
	smmuv3.FWB:     own(1, nil, "1 in SMMUv3.2 and later; controls stage 2, which hosts have no part in that lack it"),
	smmuv3.STT:     carried(1, walkWhy),
	smmuv3.RIL:     carried(1, tlbWhy),
	smmuv3.BBML:    {meet: least, offer: 2, why: tlbWhy, reserved: exactly(3)},
	smmuv3.E0PD:    carried(1, cdWhy),
	smmuv3.PTWNNC:  carried(1, walkWhy),
	smmuv3.DPT:     never("the device permission table is the host's"),
	smmuv3.PASIDTT: carried(1, byHost+"takes translated transactions"),
	smmuv3.EPAN:    carried(1, cdWhy),
	smmuv3.S1PI:    never("STE.S1PIE, which allows it, is no part of a guest stage (§3.26.1)"),
	smmuv3.S2PI:    never("STE.S2PIE, which allows it, is no part of a guest stage"),
	smmuv3.S2PO:    never("needs S2PI"),
	smmuv3.THE:     carried(1, cdWhy),
	smmuv3.MTEPERM: never("memory tags are the host's"),
	smmuv3.AIE:     carried(1, cdWhy),

	// IDR5 (§6.3.6).
	smmuv3.OAS:      carried(oas52, byHost+"puts addresses out; 56 bits would need D128"),
	smmuv3.GRAN4K:   carried(1, walkWhy),
	smmuv3.GRAN16K:  carried(1, walkWhy),
	smmuv3.GRAN64K:  carried(1, walkWhy),
	smmuv3.DS:       carried(1, walkWhy),
	smmuv3.D128:     never("needs S1PI and S2PO"),
	smmuv3.VAX:      {meet: least, offer: 1, why: walkWhy + "; 56 bits would need D128", reserved: exactly(3)},
	smmuv3.StallMax: carried(maxStalled, byHost+"holds stalled transactions; the device keeps book of them"),

	// IIDR (§6.3.7).
	smmuv3.Implementer: own(0, func(v uint32) bool { return v&0x80 != 0 }, iidrWhy),
	smmuv3.Revision:    own(0, nil, iidrWhy),
	smmuv3.Variant:     own(0, nil, iidrWhy),
	smmuv3.ProductID:   own(0, nil, iidrWhy),

	// AIDR (§6.3.8).
	smmuv3.ArchMinor: carried(4, byHost+"keeps what the version promises"),
	smmuv3.ArchMajor: {meet: least, offer: 0, why: "the device is an SMMUv3", reserved: above(0)},
}
