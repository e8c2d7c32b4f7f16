package smmuv3

// Rule is one of the architecture's conditions that make a structure or a command illegal. Rules
// compare by identity.
type Rule struct {
	Section string // of IHI 0070, such as "5.2.2"
	Text    string
	// Choice says that the architecture leaves the case to the implementation: another SMMU with
	// the same ID registers may accept it.
	Choice bool
}

// String returns the rule's text and its section. For a nil Rule, it returns "legal".
func (r *Rule) String() string {
	if r == nil {
		return "legal"
	}
	return r.Text + " (§" + r.Section + ")"
}

type steRule struct {
	Rule
	when   configs // in which the rule can be broken
	broken func(s *STE, ids *IDRegs) bool
}

// configs is a set of values of STE.Config that do not abort: bit n is Config = 0b100 + n.
type configs uint8

const (
	withS1  configs = 1<<(ConfigS1&3) | 1<<(ConfigNested&3)
	withS2  configs = 1<<(ConfigS2&3) | 1<<(ConfigNested&3)
	onlyS1  configs = 1 << (ConfigS1 & 3)
	nested  configs = 1 << (ConfigNested & 3)
	withAny configs = withS1 | withS2 // all but bypass
)

// steRulesOf has the rules that can be broken, by Config[1:0].
var steRulesOf = func() (of [4][]*steRule) {
	for c := range of {
		for i := range steRules {
			if steRules[i].when>>c&1 != 0 {
				of[c] = append(of[c], &steRules[i])
			}
		}
	}
	return of
}()

// steRules are the conditions of §5.2.2 for a Non-secure STE, in the specification's order. There
// are no rules for the fields of VMSAv8-32 and VMSAv9-128 tables of stage 2.
//
// An IGNORED field never makes an STE illegal. A reserved bit does not either: Chapter 5 leaves the
// choice, and drivers write fields that are newer than the SMMU.
var steRules = []steRule{
	{Rule{Section: "5.2.2", Text: "Config needs a stage 1 that the SMMU does not have"}, withS1,
		func(s *STE, ids *IDRegs) bool { return !ids.Has(S1P) }},
	{Rule{Section: "5.2.2", Text: "Config needs a stage 2 that the SMMU does not have"}, withS2,
		func(s *STE, ids *IDRegs) bool { return !ids.Has(S2P) }},
	{Rule{Section: "5.2.2", Text: "EATS asks for split-stage ATS outside nested translation"}, withAny,
		func(s *STE, ids *IDRegs) bool {
			return s.EATS() == EATSSplit && ids.Has(ATS) &&
				!(s.Config() == ConfigNested && !s.Stage2().S && !ids.Has(NS1ATS))
		}},
	{Rule{Section: "5.2.2", Text: "EATS allows ATS where faults of stage 2 stall"}, withS2,
		func(s *STE, ids *IDRegs) bool {
			return s.EATS() == EATSFull && ids.Has(ATS) && s.Stage2().S
		}},
	{Rule{Section: "5.2.2", Text: "EATS asks for DPT checks outside the EL1 StreamWorld"}, onlyS1,
		func(s *STE, ids *IDRegs) bool {
			return s.EATS() == EATSDPT && s.STRW() != 0 && ids.Has(ATS) && ids.Has(DPT) && s.usesSTRW(ids)
		}},
	{Rule{Section: "5.2.2", Text: "STRW is a reserved StreamWorld"}, onlyS1,
		func(s *STE, ids *IDRegs) bool { return s.STRW()&1 != 0 && s.usesSTRW(ids) }},
	{Rule{Section: "5.2.2", Text: "S1STALLD on an SMMU whose stall model leaves no choice"}, withS1,
		func(s *STE, ids *IDRegs) bool {
			return s.S1STALLD() && ids.Get(StallModel) != StallBoth
		}},
	{Rule{Section: "5.2.2", Text: "S1CDMax is greater than IDR1.SSIDSIZE"}, withS1,
		func(s *STE, ids *IDRegs) bool {
			return s.S1CDMax() != 0 && ids.Has(SSIDSIZE) && uint32(s.S1CDMax()) > ids.Get(SSIDSIZE)
		}},
	{Rule{Section: "5.2.2", Text: "S1Fmt is a two-level table on an SMMU without IDR0.CD2L"}, withS1,
		func(s *STE, ids *IDRegs) bool {
			f := s.S1Fmt()
			return (f == S1Fmt4K || f == S1Fmt64K) && s.S1CDMax() != 0 && ids.Has(SSIDSIZE) && !ids.Has(CD2L)
		}},
	{Rule{Section: "3.4.3", Text: "S1ContextPtr is beyond the output address size"}, onlyS1,
		func(s *STE, ids *IDRegs) bool {
			return s.S1ContextPtr()>>ids.OutputBits() != 0
		}},
	{Rule{Section: "3.4.3", Text: "S1ContextPtr is beyond the intermediate address size"}, nested,
		func(s *STE, ids *IDRegs) bool {
			return s.S1ContextPtr()>>ids.IPABits() != 0
		}},
	{Rule{Section: "5.2.2", Text: "S2FWB, S2HA or S2HD with AArch32 tables"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool {
			return t.vmsa32(ids) && (t.FWB && ids.Has(FWB) || t.HA || t.HD)
		})},
	{Rule{Section: "5.2.2", Text: "S2S asks for stalls, which the SMMU does not have"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool { return ids.Get(StallModel) == StallTerminate && t.S })},
	{Rule{Section: "5.2.2", Text: "S2S asks for termination on an SMMU that always stalls"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool { return ids.Get(StallModel) == StallForced && !t.S })},
	{Rule{Section: "5.2.2", Text: "S2AA64 is a table format that the SMMU does not have"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool { return !ids.hasTables(t.AA64) })},
	{Rule{Section: "5.2.2", Text: "S2HA, S2HD or S2HAFT asks for updates that the SMMU does not do"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool { return ids.lacksUpdates(t.HA, t.HD, t.HAFT) })},
	{Rule{Section: "5.2.2", Text: "S2TG is a granule that the SMMU does not have"}, withS2,
		stage2AA64(func(t Stage2, ids *IDRegs) bool { return !ids.HasGranule(t.Granule()) })},
	{Rule{Section: "5.2.2", Text: "S2TTB is beyond the effective output address size"}, withS2,
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			return t.TTB&ids.tableMask()>>t.Format(ids).tableBits(t.OutputBits(ids)) != 0
		})},
	{Rule{Section: "5.2.2", Text: "S2T0SZ is out of range"}, withS2,
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			least, most := s2t0szRange(t.Format(ids), ids)
			return uint(t.T0SZ) < least || uint(t.T0SZ) > most
		})},
	{Rule{Section: "5.2.2", Text: "S2SL0 is inconsistent with S2T0SZ and S2TG"}, withS2,
		stage2AA64(func(t Stage2, ids *IDRegs) bool {
			_, ok := t.StartLevel(ids)
			return !ok
		})},
	{Rule{Section: "5.2.2", Text: "S2ENDI is an endianness of tables that the SMMU does not have"}, withS2,
		stage2(func(t Stage2, ids *IDRegs) bool { return !ids.hasEndianness(t.ENDI) })},
	{Rule{Section: "5.2.2", Text: "S2PIE with AArch32 tables"}, withS2,
		func(s *STE, ids *IDRegs) bool {
			t := s.Stage2()
			return ids.Has(S2PI) && s.get(steS2PIE) != 0 && t.vmsa32(ids)
		}},
	{Rule{Section: "5.2.2", Text: "S2POE without S2PIE"}, withS2,
		func(s *STE, ids *IDRegs) bool {
			t := s.Stage2()
			return s.overlays(ids) && s.get(steS2PIE) == 0 && (t.AA64 || t.vmsa32(ids))
		}},
	{Rule{Section: "5.2.2", Text: "S2POE with S2HWU59, S2HWU60, S2HWU61 or S2HWU62"}, withS2,
		func(s *STE, ids *IDRegs) bool {
			return s.overlays(ids) && ids.Has(PBHA) &&
				s.get(steS2HWU59)|s.get(steS2HWU60)|s.get(steS2HWU61)|s.get(steS2HWU62) != 0
		}},
	{Rule{Section: "5.2.2", Text: "S2POI has a reserved encoding"}, withS2,
		func(s *STE, ids *IDRegs) bool {
			for poi := s.get(steS2POI); s.overlays(ids) && poi != 0; poi >>= 4 {
				if poi&0b1011 == 0b0001 {
					return true
				}
			}
			return false
		}},
	{Rule{Section: "5.2.2", Text: "S2VMID does not fit into eight bits"}, withAny,
		func(s *STE, ids *IDRegs) bool {
			if s.S2VMID()>>8 == 0 {
				return false
			}
			ignored := !ids.Has(S2P) || s.usesSTRW(ids) && s.STRW() != 0
			return !ignored && !ids.Has(VMID16)
		}},
	{Rule{Section: "5.2.2", Text: "VMSPtr is beyond the output address size"}, nested,
		func(s *STE, ids *IDRegs) bool {
			return ids.Has(MPAM) && s.get(steS1MPAM) != 0 &&
				s.get(steVMSPtr)>>ids.OutputBits() != 0
		}},
}

// stage2 returns a condition on the fields of stage 2, which translates.
func stage2(broken func(Stage2, *IDRegs) bool) func(*STE, *IDRegs) bool {
	return func(s *STE, ids *IDRegs) bool { return broken(s.Stage2(), ids) }
}

// stage2AA64 is stage2 for VMSAv8-64 tables.
func stage2AA64(broken func(Stage2, *IDRegs) bool) func(*STE, *IDRegs) bool {
	return stage2(func(t Stage2, ids *IDRegs) bool { return t.AA64 && broken(t, ids) })
}

// vmsa32 reports whether the tables are VMSAv8-32. With IDR5.D128, S2AA64 = 0 is VMSAv9-128.
func (t *Stage2) vmsa32(ids *IDRegs) bool { return !t.AA64 && !ids.Has(D128) }

// overlays reports whether stage 2, which translates, has permission overlays.
func (s *STE) overlays(ids *IDRegs) bool {
	return ids.Has(S2PO) && s.get(steS2POE) != 0
}

// hasTables reports whether the SMMU walks the tables that AA64 selects: VMSAv8-64 if it is 1,
// otherwise VMSAv8-32 or, with IDR5.D128, VMSAv9-128.
func (r *IDRegs) hasTables(aa64 bool) bool {
	switch {
	case aa64:
		return r.Get(TTF)&TTFAArch64 != 0
	case r.Has(D128):
		return true
	}
	return r.Get(TTF)&TTFAArch32 != 0
}

// lacksUpdates reports whether IDR0.HTTU lacks one of these updates of descriptors. HAFT without HA
// is illegal if the SMMU supports HAFT; otherwise HAFT is RES0.
func (r *IDRegs) lacksUpdates(ha, hd, haft bool) bool {
	switch r.Get(HTTU) {
	case 0b00:
		return ha || hd
	case 0b01:
		return hd
	case 0b11:
		return haft && !ha
	}
	return false
}

// hasEndianness reports whether the SMMU walks tables of an endianness.
func (r *IDRegs) hasEndianness(big bool) bool {
	switch r.Get(TTENDIAN) {
	case TTENDIANLittle:
		return !big
	case TTENDIANBig:
		return big
	}
	return true
}

// tableBits returns the size of a table's address in bits, given the output address size. Without
// DS, descriptors of small granules hold 48 bits.
func (f Format) tableBits(output uint) uint {
	if f.Granule != Granule64K && !f.Wide {
		return min(output, 48)
	}
	return output
}

// s2t0szRange returns the range of S2T0SZ for VMSAv8-64 tables of a format (§5.2, S2T0SZ). For a
// value out of range, SMMUv3.0 permits an illegal STE or the nearest value in range. Here the STE
// is illegal.
func s2t0szRange(f Format, ids *IDRegs) (least, most uint) {
	least, most = tszRange(f, ids)
	if f.Granule == Granule64K || f.Wide {
		least = 12 // IDR5.VAX limits virtual addresses only
	}
	return max(least, 64-ids.IPABits()), most
}

// usesSTRW reports whether STRW selects the StreamWorld: if stage 1 alone translates, and the SMMU
// has EL2 (§5.2, STRW).
func (s *STE) usesSTRW(ids *IDRegs) bool {
	return ids.Has(S1P) && ids.Has(Hyp) && s.Config() == ConfigS1
}

var steInvalid = Rule{Section: "5.2.2", Text: "V is 0"}

// Illegal returns the rule that makes the STE illegal on an SMMU with these ID registers, or nil.
// The SMMU aborts the stream's transactions and reports C_BAD_STE (§7.3.5). With a Config that
// aborts, the STE is legal and all other fields are ignored.
func (s *STE) Illegal(ids *IDRegs) *Rule {
	if !s.V() {
		return &steInvalid
	}
	c := s.Config()
	if c.Abort() {
		return nil
	}
	for _, r := range steRulesOf[c&3] {
		if r.broken(s, ids) {
			return &r.Rule
		}
	}
	return nil
}
