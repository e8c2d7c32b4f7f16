package smmuv3

// Rule is one of the architecture's conditions that make a structure ILLEGAL.
// Rules compare by identity.
type Rule struct {
	Section string // of IHI 0070, such as "5.2.2"
	Text    string
}

// String is the rule's text with its section.
func (r *Rule) String() string { return r.Text + " (§" + r.Section + ")" }

type steRule struct {
	Rule
	broken func(s *STE, ids *IDRegs) bool
}

// steRules are the conditions of §5.2.2, in the specification's order, but for
// those on the fields of a stage 2 that translates: no guest has one. A field
// that is IGNORED makes nothing illegal, and reserved bits are ignored: Chapter
// 5 leaves the choice, and drivers that write features newer than the device
// rely on this one.
var steRules = []steRule{
	{Rule{"5.2.2", "Config needs a stage 1 that the SMMU does not have"},
		func(s *STE, ids *IDRegs) bool { return s.Config().Stage1() && !ids.Has(S1P) }},
	{Rule{"5.2.2", "Config needs a stage 2 that the SMMU does not have"},
		func(s *STE, ids *IDRegs) bool { return s.Config().Stage2() && !ids.Has(S2P) }},
	{Rule{"5.2.2", "EATS asks for split-stage ATS outside nested translation"},
		func(s *STE, ids *IDRegs) bool {
			c := s.Config()
			return ids.Has(ATS) && c&0b011 != 0 && s.EATS() == EATSSplit &&
				!(c == ConfigNested && !ids.Has(NS1ATS))
		}},
	{Rule{"5.2.2", "EATS asks for DPT checks outside the EL1 StreamWorld"},
		func(s *STE, ids *IDRegs) bool {
			return ids.Has(ATS) && ids.Has(DPT) && s.EATS() == EATSDPT && s.usesSTRW(ids) && s.STRW() != 0
		}},
	{Rule{"5.2.2", "STRW is a reserved StreamWorld"},
		func(s *STE, ids *IDRegs) bool { return s.usesSTRW(ids) && s.STRW()&1 != 0 }},
	{Rule{"5.2.2", "S1STALLD on an SMMU whose stall model leaves no choice"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config().Stage1() && s.S1STALLD() && ids.Get(StallModel) != StallBoth
		}},
	{Rule{"5.2.2", "S1CDMax is greater than IDR1.SSIDSIZE"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config().Stage1() && ids.Has(SSIDSIZE) && uint32(s.S1CDMax()) > ids.Get(SSIDSIZE)
		}},
	{Rule{"5.2.2", "S1Fmt is a two-level table on an SMMU without IDR0.CD2L"},
		func(s *STE, ids *IDRegs) bool {
			f := s.S1Fmt()
			return s.Config().Stage1() && ids.Has(SSIDSIZE) && s.S1CDMax() != 0 &&
				!ids.Has(CD2L) && (f == S1Fmt4K || f == S1Fmt64K)
		}},
	{Rule{"3.4.3", "S1ContextPtr is beyond the output address size"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config().Stage1() && s.S1ContextPtr()&^ids.OutputMask() != 0
		}},
	{Rule{"5.2.2", "S2VMID does not fit into eight bits"},
		func(s *STE, ids *IDRegs) bool {
			ignored := !ids.Has(S2P) || s.Config() == ConfigBypass || s.usesSTRW(ids) && s.STRW() != 0
			return !ignored && !ids.Has(VMID16) && s.S2VMID()>>8 != 0
		}},
}

// usesSTRW reports whether STRW chooses the StreamWorld: where only stage 1
// translates, and a hypervisor's contexts are there to be chosen (§5.2, STRW).
func (s *STE) usesSTRW(ids *IDRegs) bool {
	return ids.Has(S1P) && ids.Has(Hyp) && s.Config() == ConfigS1
}

var steInvalid = Rule{"5.2.2", "V is 0"}

// Illegal returns the rule that makes the STE ILLEGAL on an SMMU with these ID
// registers, which is reported as C_BAD_STE (§7.3.5), or nil. With Config 0xx
// every other field is ignored, and the entry legal.
func (s *STE) Illegal(ids *IDRegs) *Rule {
	if !s.V() {
		return &steInvalid
	}
	if s.Config().Abort() {
		return nil
	}
	for i := range steRules {
		if steRules[i].broken(s, ids) {
			return &steRules[i].Rule
		}
	}
	return nil
}
