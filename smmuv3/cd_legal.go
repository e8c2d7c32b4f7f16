package smmuv3

type cdRule struct {
	Rule
	broken func(c *CD, ids *IDRegs) bool
}

// eitherHalf makes one condition of a field that each half of the address space has.
// A half with EPDx set is not looked at (§5.4.1.1).
func eitherHalf(broken func(c *CD, x uint, ids *IDRegs) bool) func(*CD, *IDRegs) bool {
	return func(c *CD, ids *IDRegs) bool {
		return !c.EPDx(0) && broken(c, 0, ids) || !c.EPDx(1) && broken(c, 1, ids)
	}
}

// cdRules are the conditions of §5.4.2 that can hold for a stream of the
// Non-secure EL1 StreamWorld, on an SMMU that has neither permission
// indirection (IDR3.S1PI) nor 128-bit descriptors (IDR5.D128), in the
// specification's order. The one that needs the STE is in Illegal.
var cdRules = []cdRule{
	{Rule{Section: "5.4.2", Text: "A asks for RAZ/WI termination, which the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool { return ids.Has(TermModel) && !c.A() }},
	{Rule{Section: "5.4.2", Text: "S asks for stalls, which the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool { return ids.Get(StallModel) == StallTerminate && c.S() }},
	{Rule{Section: "5.4.2", Text: "S asks for termination on an SMMU that always stalls"},
		func(c *CD, ids *IDRegs) bool { return ids.Get(StallModel) == StallForced && !c.S() }},
	{Rule{Section: "5.4.2", Text: "ENDI is an endianness of tables that the SMMU does not have"},
		eitherHalf(func(c *CD, _ uint, ids *IDRegs) bool {
			e := ids.Get(TTENDIAN)
			return e == TTENDIANLittle && c.ENDI() || e == TTENDIANBig && !c.ENDI()
		})},
	{Rule{Section: "5.4.2", Text: "AA64 is a table format that the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool {
			need := uint32(TTFAArch32)
			if c.AA64() {
				need = TTFAArch64
			}
			return ids.Get(TTF)&need == 0
		}},
	{Rule{Section: "5.4.2", Text: "HA, HD or HAFT asks for updates that the SMMU does not do"},
		func(c *CD, ids *IDRegs) bool {
			if !c.AA64() {
				return false // IGNORED
			}
			switch ids.Get(HTTU) {
			case 0b00:
				return c.HA() || c.HD()
			case 0b01:
				return c.HD()
			case 0b11:
				return c.HAFT() && !c.HA()
			}
			return false
		}},
	{Rule{Section: "5.4.2", Text: "ASID does not fit into eight bits"},
		func(c *CD, ids *IDRegs) bool { return !ids.Has(ASID16) && c.ASID()>>8 != 0 }},
	{Rule{Section: "5.4.2", Text: "TxSZ is out of range"},
		eitherHalf(func(c *CD, x uint, ids *IDRegs) bool {
			if !c.AA64() {
				return false // three bits, all valid
			}
			least, most := tszRange(c.Format(x, ids), ids)
			return c.TxSZ(x) < least || c.TxSZ(x) > most
		})},
	{Rule{Section: "5.4.2", Text: "TGx is a granule that the SMMU does not have"},
		eitherHalf(func(c *CD, x uint, ids *IDRegs) bool {
			return c.AA64() && !ids.HasGranule(c.TGx(x))
		})},
	{Rule{Section: "5.4.2", Text: "TTBx is beyond the effective output address size"},
		eitherHalf(func(c *CD, x uint, ids *IDRegs) bool {
			size := uint(40)
			if c.AA64() {
				size = c.OutputBits(ids)
				if f := c.Format(x, ids); f.Granule != Granule64K && !f.Wide {
					size = min(size, 48) // as much as descriptors hold without CD.DS
				}
			}
			return c.TTBx(x, ids)>>size != 0
		})},
}

// tszRange is what TxSZ may be for VMSAv8-64 tables of a format (§5.4, T0SZ).
// SMMUv3.0 may take values beyond it as the nearest within, or as ILLEGAL,
// which is what it does here.
func tszRange(f Format, ids *IDRegs) (least, most uint) {
	least, most = 16, 39
	if ids.Has(VAX) && (f.Granule == Granule64K || f.Wide) {
		least = 12
	}
	if ids.Has(STT) {
		most = 48
		if f.Granule == Granule64K {
			most = 47
		}
	}
	return least, most
}

var (
	cdInvalid = Rule{Section: "5.4.2", Text: "V is 0"}
	cdStalls  = Rule{Section: "5.4.2", Text: "S asks for stalls, which the STE forbids by S1STALLD"}
)

// Illegal returns the rule that makes the CD ILLEGAL on an SMMU with these ID
// registers, which is reported as C_BAD_CD (§7.3.11), or nil. s1stalld is
// STE.S1STALLD of the stream.
func (c *CD) Illegal(ids *IDRegs, s1stalld bool) *Rule {
	if !c.V() {
		return &cdInvalid
	}
	if s1stalld && c.S() {
		return &cdStalls
	}
	for i := range cdRules {
		if cdRules[i].broken(c, ids) {
			return &cdRules[i].Rule
		}
	}
	return nil
}
