package smmuv3

type cdRule struct {
	Rule
	broken func(c *CD, ids *IDRegs) bool
}

// eitherHalf returns a condition on a CD: broken is true for either half of the address space. It
// skips a half with EPDx = 1, since the SMMU ignores the fields of that half (§5.4.1.1).
func eitherHalf(broken func(c *CD, x uint, ids *IDRegs) bool) func(*CD, *IDRegs) bool {
	return func(c *CD, ids *IDRegs) bool {
		return !c.EPDx(0) && broken(c, 0, ids) || !c.EPDx(1) && broken(c, 1, ids)
	}
}

// cdRules are the conditions of §5.4.2 for a CD of the Non-secure EL1 StreamWorld, in the
// specification's order. There are no rules for permission indirection and VMSAv9-128 tables, which
// the STE must enable. Illegal has the rule that depends on the STE.
var cdRules = []cdRule{
	{Rule{Section: "5.4.2", Text: "A asks for RAZ/WI termination, which the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool { return ids.Has(TermModel) && !c.A() }},
	{Rule{Section: "5.4.2", Text: "S asks for stalls, which the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool { return ids.Get(StallModel) == StallTerminate && c.S() }},
	{Rule{Section: "5.4.2", Text: "S asks for termination on an SMMU that always stalls"},
		func(c *CD, ids *IDRegs) bool { return ids.Get(StallModel) == StallForced && !c.S() }},
	{Rule{Section: "5.4.2", Text: "ENDI is an endianness of tables that the SMMU does not have"},
		eitherHalf(func(c *CD, _ uint, ids *IDRegs) bool { return !ids.hasEndianness(c.ENDI()) })},
	{Rule{Section: "5.4.2", Text: "AA64 is a table format that the SMMU does not have"},
		func(c *CD, ids *IDRegs) bool { return !ids.hasTables(c.AA64()) }},
	{Rule{Section: "5.4.2", Text: "HA, HD or HAFT asks for updates that the SMMU does not do"},
		func(c *CD, ids *IDRegs) bool {
			// VMSAv8-32 tables ignore the fields.
			return (c.AA64() || ids.Has(D128)) && ids.lacksUpdates(c.HA(), c.HD(), c.HAFT())
		}},
	{Rule{Section: "5.4.2", Text: "ASID does not fit into eight bits"},
		func(c *CD, ids *IDRegs) bool { return !ids.Has(ASID16) && c.ASID()>>8 != 0 }},
	{Rule{Section: "5.4.2", Text: "TxSZ is out of range"},
		eitherHalf(func(c *CD, x uint, ids *IDRegs) bool {
			if !c.AA64() {
				return false // VMSAv8-32 has three bits, all of whose values are in range
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
			size := uint(40) // of VMSAv8-32
			switch {
			case c.AA64():
				size = c.Format(x, ids).tableBits(c.OutputBits(ids))
			case ids.Has(D128):
				return false
			}
			return c.TTBx(x, ids)>>size != 0
		})},
}

// tszRange returns the range of TxSZ for VMSAv8-64 tables of a format (§5.4, T0SZ). For a value out
// of range, SMMUv3.0 permits an illegal CD or the nearest value in range. Here the CD is illegal.
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

// Illegal returns the rule that makes the CD illegal on an SMMU with these ID registers, or nil.
// The SMMU aborts transactions that use the CD, and reports C_BAD_CD (§7.3.11). s1stalld is
// S1STALLD of the stream's STE.
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
