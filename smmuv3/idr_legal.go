package smmuv3

import "slices"

// AllFeatures returns the ID registers of an SMMUv3.4 with every feature of the Non-secure
// interface. Fields that can leave a choice to software leave it. An opcode that is illegal on this
// SMMU is illegal on every SMMU.
func AllFeatures() (r IDRegs) {
	for f := range numIDFields {
		if f.row().width() == 1 {
			r.Set(f, 1)
		}
	}
	for f, v := range map[IDField]uint32{
		TTF: TTFAArch32 | TTFAArch64, HTTU: 3, TTENDIAN: TTENDIANMixed, StallModel: StallBoth, STLevel: 1,
		SIDSIZE: 32, SSIDSIZE: 20, PRIQS: MaxQueueShift, EVENTQS: MaxQueueShift, CMDQS: MaxQueueShift,
		BBML: 2, OAS: 7, VAX: 2, StallMax: 0xffff, ArchMinor: 4,
		// 0 is the value with the feature.
		NS1ATS: 0, TermModel: 0,
		// RME is not part of the Non-secure interface, and ECMDQ excludes the others.
		RMEImpl: 0, REL: 0, QueuesPreset: 0, TablesPreset: 0,
	} {
		r.Set(f, v)
	}
	return r
}

type idRule struct {
	Rule
	of     []IDField // the fields that broken reads
	broken func(r *IDRegs) bool
}

// needs returns the rule that a field is 0 unless all others are nonzero.
func needs(section string, f IDField, others ...IDField) idRule {
	text := f.String() + " needs "
	for i, o := range others {
		if i > 0 {
			text += " and "
		}
		text += o.String()
	}
	return idRule{Rule{Section: section, Text: text}, append([]IDField{f}, others...), func(r *IDRegs) bool {
		for _, o := range others {
			if !r.Has(o) {
				return r.Has(f)
			}
		}
		return false
	}}
}

// since returns the rule that SMMUv3.minor and later have a field if they have all others.
func since(section string, minor uint32, f IDField, others ...IDField) idRule {
	text := "SMMUv3." + string(rune('0'+minor)) + " and later have " + f.String()
	for i, o := range others {
		text += [2]string{" with ", " and "}[min(i, 1)] + o.String()
	}
	return idRule{Rule{Section: section, Text: text}, append([]IDField{ArchMinor, f}, others...), func(r *IDRegs) bool {
		for _, o := range others {
			if !r.Has(o) {
				return false
			}
		}
		return r.Version() >= minor && !r.Has(f)
	}}
}

// notIn30 returns the rule that a field is 0 in SMMUv3.0.
func notIn30(section string, f IDField) idRule {
	rule := Rule{Section: section, Text: f.String() + " is RES0 in SMMUv3.0"}
	return idRule{rule, []IDField{ArchMinor, f}, func(r *IDRegs) bool {
		return r.Version() == 0 && r.Has(f)
	}}
}

// most returns the rule that values of a field above v are reserved.
func most(section string, f IDField, v uint32) idRule {
	rule := Rule{Section: section, Text: f.String() + " is a reserved value"}
	return idRule{rule, []IDField{f}, func(r *IDRegs) bool {
		return r.Get(f) > v
	}}
}

// not returns the rule that the value v of a field is reserved.
func not(section string, f IDField, v uint32) idRule {
	rule := Rule{Section: section, Text: f.String() + " is a reserved value"}
	return idRule{rule, []IDField{f}, func(r *IDRegs) bool {
		return r.Get(f) == v
	}}
}

// idRules are the architecture's conditions on ID registers (§6.3.1 to §6.3.8). They ignore bits
// that are in no field, since a later version may define them. Package idr decides which registers
// a device of this module can offer to a guest.
var idRules = []idRule{
	not("6.3.1", TTF, 0),
	not("6.3.1", TTENDIAN, 1),
	most("6.3.1", StallModel, StallForced),
	most("6.3.1", STLevel, 1),
	needs("6.3.1", Hyp, S1P, S2P),
	needs("6.3.1", NS1ATS, ATS, S1P, S2P),
	needs("6.3.1", PRI, ATS),
	needs("6.3.1", ATSRECERR, ATS),
	needs("6.3.1", VMW, S2P),
	needs("6.3.1", VATOS, ATOS, S1P, S2P),
	since("6.3.1", 2, Hyp, S1P, S2P),

	most("6.3.2", SIDSIZE, 32),
	most("6.3.2", SSIDSIZE, 20),
	most("6.3.2", CMDQS, MaxQueueShift),
	most("6.3.2", EVENTQS, MaxQueueShift),
	{Rule{Section: "6.3.2", Text: "PRIQS is a reserved value"}, []IDField{PRI, PRIQS},
		func(r *IDRegs) bool { return r.Has(PRI) && r.Get(PRIQS) > MaxQueueShift }},
	{Rule{Section: "6.3.2", Text: "SIDSIZE of 7 or more needs ST_LEVEL"}, []IDField{SIDSIZE, STLevel},
		func(r *IDRegs) bool { return r.Get(SIDSIZE) >= 7 && !r.Has(STLevel) }},
	needs("6.3.2", ECMDQ, COHACC, MSI),
	{Rule{Section: "6.3.2", Text: "ECMDQ excludes QUEUES_PRESET"}, []IDField{ECMDQ, QueuesPreset},
		func(r *IDRegs) bool { return r.Has(ECMDQ) && r.Has(QueuesPreset) }},
	{Rule{Section: "6.3.2", Text: "REL needs TABLES_PRESET or QUEUES_PRESET"},
		[]IDField{REL, TablesPreset, QueuesPreset},
		func(r *IDRegs) bool { return r.Has(REL) && !r.Has(TablesPreset) && !r.Has(QueuesPreset) }},

	needs("6.3.4", HAD, S1P),
	since("6.3.4", 1, HAD, S1P),
	notIn30("6.3.4", PBHA),
	needs("6.3.4", PBHA, HAD),
	notIn30("6.3.4", XNX),
	since("6.3.4", 1, XNX, S2P),
	needs("6.3.4", PPS, PRI, SSIDSIZE),
	since("6.3.4", 2, FWB, S2P),
	since("6.3.4", 2, RIL),
	since("6.3.4", 2, BBML),
	most("6.3.4", BBML, 2),
	since("6.3.4", 3, E0PD),
	needs("6.3.4", PTWNNC, S2P),
	since("6.3.4", 3, PTWNNC, S2P),
	needs("6.3.4", PASIDTT, ATS, SSIDSIZE),
	since("6.3.4", 4, EPAN),
	needs("6.3.4", S1PI, S1P),
	needs("6.3.4", S2PI, S2P),
	needs("6.3.4", THE, S1P),
	{Rule{Section: "6.3.4", Text: "THE needs S2PI with S2P"}, []IDField{THE, S2P, S2PI},
		func(r *IDRegs) bool { return r.Has(THE) && r.Has(S2P) && !r.Has(S2PI) }},
	needs("6.3.4", MTEPERM, S2P),
	since("6.3.4", 4, MTEPERM, S2P),
	needs("6.3.4", AIE, S1P),

	{Rule{Section: "6.3.6", Text: "OAS is a reserved value in this version"}, []IDField{ArchMinor, OAS},
		func(r *IDRegs) bool { return r.Version() == 0 && r.Get(OAS) > 5 || r.Version() < 4 && r.Get(OAS) > 6 }},
	{Rule{Section: "6.3.6", Text: "OAS of 52 bits needs GRAN64K, DS or D128"}, []IDField{OAS, GRAN64K, DS, D128},
		func(r *IDRegs) bool { return r.Get(OAS) == 6 && !r.Has(GRAN64K) && !r.Has(DS) && !r.Has(D128) }},
	{Rule{Section: "6.3.6", Text: "OAS of 56 bits needs D128"}, []IDField{OAS, D128},
		func(r *IDRegs) bool { return r.Get(OAS) == 7 && !r.Has(D128) }},
	{Rule{Section: "6.3.6", Text: "TTF with AArch32 needs GRAN4K"}, []IDField{TTF, GRAN4K},
		func(r *IDRegs) bool { return r.Get(TTF)&TTFAArch32 != 0 && !r.Has(GRAN4K) }},
	needs("6.3.6", DS, VAX),
	{Rule{Section: "6.3.6", Text: "DS needs GRAN4K or GRAN16K"}, []IDField{DS, GRAN4K, GRAN16K},
		func(r *IDRegs) bool { return r.Has(DS) && !r.Has(GRAN4K) && !r.Has(GRAN16K) }},
	notIn30("6.3.6", VAX),
	most("6.3.6", VAX, 2),
	{Rule{Section: "6.3.6", Text: "VAX needs GRAN64K or DS"}, []IDField{VAX, GRAN64K, DS},
		func(r *IDRegs) bool { return r.Has(VAX) && !r.Has(GRAN64K) && !r.Has(DS) }},
	{Rule{Section: "6.3.6", Text: "VAX of 56 bits needs D128"}, []IDField{VAX, D128},
		func(r *IDRegs) bool { return r.Get(VAX) == 2 && !r.Has(D128) }},

	most("6.3.8", ArchMajor, 0),
}

// Illegal returns the rule of the architecture that the ID registers break, or nil. It judges the
// registers of any SMMU. Package idr decides which of them a device of this module can offer to a
// guest.
func (r *IDRegs) Illegal() *Rule { return r.IllegalKnown(func(IDField) bool { return true }) }

// IllegalKnown checks the registers as Illegal does, but applies only rules whose fields are all
// known.
func (r *IDRegs) IllegalKnown(known func(IDField) bool) *Rule {
	for i := range idRules {
		rule := &idRules[i]
		if !slices.ContainsFunc(rule.of, func(f IDField) bool { return !known(f) }) && rule.broken(r) {
			return &rule.Rule
		}
	}
	return nil
}
