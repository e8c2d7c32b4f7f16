package smmuv3

// Rule is one of the architecture's conditions that make a structure or a command illegal. Rules
// compare by identity.
type Rule struct {
	Section string // of IHI 0070, such as "5.2.2"
	Text    string
	// Choice says that the architecture leaves the case to the implementation: another SMMU with the
	// same ID registers may accept it.
	Choice bool
}

// String returns the rule's text and its section. That of nil is "legal".
func (r *Rule) String() string {
	if r == nil {
		return "legal"
	}
	return r.Text + " (§" + r.Section + ")"
}

type steRule struct {
	Rule
	broken func(s *STE, ids *IDRegs) bool
}

// steRules are the conditions of §5.2.2, in the specification's order, but for
// those on 128-bit descriptors and permission indirection, which no SMMU here
// has. A field that is IGNORED makes nothing illegal, and reserved bits are
// ignored: Chapter 5 leaves the choice, and drivers that write features newer
// than the device rely on this one.
var steRules = []steRule{
	{Rule{Section: "5.2.2", Text: "Config needs a stage 1 that the SMMU does not have"},
		func(s *STE, ids *IDRegs) bool { return s.Config().Stage1() && !ids.Has(S1P) }},
	{Rule{Section: "5.2.2", Text: "Config needs a stage 2 that the SMMU does not have"},
		func(s *STE, ids *IDRegs) bool { return s.Config().Stage2() && !ids.Has(S2P) }},
	{Rule{Section: "5.2.2", Text: "EATS asks for split-stage ATS outside nested translation"},
		func(s *STE, ids *IDRegs) bool {
			c := s.Config()
			return ids.Has(ATS) && c&0b011 != 0 && s.EATS() == EATSSplit &&
				!(c == ConfigNested && !s.Stage2().S && !ids.Has(NS1ATS))
		}},
	{Rule{Section: "5.2.2", Text: "EATS allows ATS where faults of stage 2 stall"},
		func(s *STE, ids *IDRegs) bool {
			return ids.Has(ATS) && s.Config().Stage2() && s.EATS() == EATSFull && s.Stage2().S
		}},
	{Rule{Section: "5.2.2", Text: "EATS asks for DPT checks outside the EL1 StreamWorld"},
		func(s *STE, ids *IDRegs) bool {
			return ids.Has(ATS) && ids.Has(DPT) && s.EATS() == EATSDPT && s.usesSTRW(ids) && s.STRW() != 0
		}},
	{Rule{Section: "5.2.2", Text: "STRW is a reserved StreamWorld"},
		func(s *STE, ids *IDRegs) bool { return s.usesSTRW(ids) && s.STRW()&1 != 0 }},
	{Rule{Section: "5.2.2", Text: "S1STALLD on an SMMU whose stall model leaves no choice"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config().Stage1() && s.S1STALLD() && ids.Get(StallModel) != StallBoth
		}},
	{Rule{Section: "5.2.2", Text: "S1CDMax is greater than IDR1.SSIDSIZE"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config().Stage1() && ids.Has(SSIDSIZE) && uint32(s.S1CDMax()) > ids.Get(SSIDSIZE)
		}},
	{Rule{Section: "5.2.2", Text: "S1Fmt is a two-level table on an SMMU without IDR0.CD2L"},
		func(s *STE, ids *IDRegs) bool {
			f := s.S1Fmt()
			return s.Config().Stage1() && ids.Has(SSIDSIZE) && s.S1CDMax() != 0 &&
				!ids.Has(CD2L) && (f == S1Fmt4K || f == S1Fmt64K)
		}},
	{Rule{Section: "3.4.3", Text: "S1ContextPtr is beyond the output address size"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config() == ConfigS1 && s.S1ContextPtr()>>ids.OutputBits() != 0
		}},
	{Rule{Section: "3.4.3", Text: "S1ContextPtr is beyond the intermediate address size"},
		func(s *STE, ids *IDRegs) bool {
			return s.Config() == ConfigNested && s.S1ContextPtr()>>ids.IPABits() != 0
		}},
	{Rule{Section: "5.2.2", Text: "S2FWB, S2HA or S2HD with AArch32 tables"},
		stage2(func(t Stage2, ids *IDRegs) bool {
			return !t.AA64 && (t.FWB && ids.Has(FWB) || t.HA || t.HD)
		})},
	{Rule{Section: "5.2.2", Text: "S2S asks for stalls, which the SMMU does not have"},
		stage2(func(t Stage2, ids *IDRegs) bool { return ids.Get(StallModel) == StallTerminate && t.S })},
	{Rule{Section: "5.2.2", Text: "S2S asks for termination on an SMMU that always stalls"},
		stage2(func(t Stage2, ids *IDRegs) bool { return ids.Get(StallModel) == StallForced && !t.S })},
	{Rule{Section: "5.2.2", Text: "S2AA64 is a table format that the SMMU does not have"},
		stage2(func(t Stage2, ids *IDRegs) bool {
			need := uint32(TTFAArch32)
			if t.AA64 {
				need = TTFAArch64
			}
			return ids.Get(TTF)&need == 0
		})},
	{Rule{Section: "5.2.2", Text: "S2HA, S2HD or S2HAFT asks for updates that the SMMU does not do"},
		stage2(func(t Stage2, ids *IDRegs) bool {
			switch ids.Get(HTTU) {
			case 0b00:
				return t.HA || t.HD
			case 0b01:
				return t.HD
			case 0b11:
				return t.HAFT && !t.HA
			}
			return false
		})},
	{Rule{Section: "5.2.2", Text: "S2TG is a granule that the SMMU does not have"},
		stage2AA64(func(t Stage2, ids *IDRegs) bool { return !ids.HasGranule(t.Granule()) })},
	{Rule{Section: "5.2.2", Text: "S2TTB is beyond the effective output address size"},
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			size := t.OutputBits(ids)
			if f := t.Format(ids); f.Granule != Granule64K && !f.Wide {
				size = min(size, 48) // as much as descriptors hold without S2DS
			}
			return t.TTB&ids.tableMask()>>size != 0
		})},
	{Rule{Section: "5.2.2", Text: "S2T0SZ is out of range"},
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			least, most := s2t0szRange(t.Format(ids), ids)
			return uint(t.T0SZ) < least || uint(t.T0SZ) > most
		})},
	{Rule{Section: "5.2.2", Text: "S2SL0 is inconsistent with S2T0SZ and S2TG"},
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			_, ok := t.StartLevel(ids)
			return !ok
		})},
	{Rule{Section: "5.2.2", Text: "S2ENDI is an endianness of tables that the SMMU does not have"},
		stage2(func(t Stage2, ids *IDRegs) bool {
			e := ids.Get(TTENDIAN)
			return e == TTENDIANLittle && t.ENDI || e == TTENDIANBig && !t.ENDI
		})},
	{Rule{Section: "5.2.2", Text: "S2VMID does not fit into eight bits"},
		func(s *STE, ids *IDRegs) bool {
			ignored := !ids.Has(S2P) || s.Config() == ConfigBypass || s.usesSTRW(ids) && s.STRW() != 0
			return !ignored && !ids.Has(VMID16) && s.S2VMID()>>8 != 0
		}},
}

// stage2 makes a condition of one on the fields of a stage 2 that translates.
func stage2(broken func(Stage2, *IDRegs) bool) func(*STE, *IDRegs) bool {
	return func(s *STE, ids *IDRegs) bool { return s.Config().Stage2() && broken(s.Stage2(), ids) }
}

// stage2AA64 is stage2 for fields that AArch32 tables have otherwise, or not.
// Those have no rules here, since no SMMU of this module has them at stage 2.
func stage2AA64(broken func(Stage2, *IDRegs) bool) func(*STE, *IDRegs) bool {
	return stage2(func(t Stage2, ids *IDRegs) bool { return t.AA64 && broken(t, ids) })
}

// s2t0szRange is what S2T0SZ may be for VMSAv8-64 tables of a format (§5.2,
// S2T0SZ). SMMUv3.0 may take values beyond it as the nearest within, or as
// ILLEGAL, which is what it does here.
func s2t0szRange(f Format, ids *IDRegs) (least, most uint) {
	least, most = tszRange(f, ids)
	if f.Granule == Granule64K || f.Wide {
		least = 12 // whatever IDR5.VAX is: it bounds virtual addresses
	}
	return max(least, 64-ids.IPABits()), most
}

// usesSTRW reports whether STRW chooses the StreamWorld: where only stage 1
// translates, and a hypervisor's contexts are there to be chosen (§5.2, STRW).
func (s *STE) usesSTRW(ids *IDRegs) bool {
	return ids.Has(S1P) && ids.Has(Hyp) && s.Config() == ConfigS1
}

var steInvalid = Rule{Section: "5.2.2", Text: "V is 0"}

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
