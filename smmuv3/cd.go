package smmuv3

// CD is a Context Descriptor (§5.4): the guest's description of one address space of a stream. TTB0
// translates its lower half, TTB1 its upper half. Where the specification writes TxSZ, x is an
// argument, 0 or 1.
//
//	 63        48  47  46 45 44 43 42  41  40   39   38   37   36   35  34 32 31
//	+------------+----+--+--+--+--+--+----+---+----+----+----+---+----+-----+-+
//	|    ASID    |ASET| A| R| S|HA|HD|AA64|PAN|TBI1|TBI0|UWXN|WXN|AFFD| IPS |V|  dw0, upper half
//	+------------+----+--+--+--+--+--+----+---+----+----+----+---+----+-----+-+
//	 30   29 28 27 26 25 24 23 22 21   16  15   14   13 12 11 10 9  8 7  6 5   0
//	+----+-----+-----+-----+-----+-------+----+----+-----+-----+-----+-----+------+
//	|EPD1| SH1 | OR1 | IR1 | TG1 | T1SZ  |ENDI|EPD0| SH0 | OR0 | IR0 | TG0 | T0SZ |  dw0, lower half
//	+----+-----+-----+-----+-----+-------+----+----+-----+-----+-----+-----+------+
//	 63    60  59   58  57 56 55                        4   3    2    1     0
//	+--------+----+----+-----+---------------------------+----+-----+----+------+
//	| HWU0xx |EPAN|PnCH|     |        TTB0[55:4]         |HAFT|E0PD0|HAD0|NSCFG0|  dw1
//	| HWU1xx | PIE| DS |     |        TTB1[55:4]         | AIE|E0PD1|HAD1|NSCFG1|  dw2
//	+--------+----+----+-----+---------------------------+----+-----+----+------+
//	|          MAIR1         |           MAIR0           |  dw3
//	|         AMAIR1         |          AMAIR0           |  dw4
//	+------------------------+---------------------------+
type CD [8]uint64

// CDSize is the size of a CD in bytes.
const CDSize = 64

// The places of the fields.
const (
	cdT0SZ = 0 + 6*wide
	cdTG0  = 6 + 2*wide
	cdIR0  = 8 + 2*wide
	cdOR0  = 10 + 2*wide
	cdSH0  = 12 + 2*wide
	cdEPD0 = 14 + wide
	cdENDI = 15 + wide
	cdT1SZ = 16 + 6*wide
	cdTG1  = 22 + 2*wide
	cdIR1  = 24 + 2*wide
	cdOR1  = 26 + 2*wide
	cdSH1  = 28 + 2*wide
	cdEPD1 = 30 + wide
	cdV    = 31 + wide
	cdIPS  = 32 + 3*wide
	cdAFFD = 35 + wide
	cdWXN  = 36 + wide
	cdUWXN = 37 + wide
	cdTBI0 = 38 + wide
	cdTBI1 = 39 + wide
	cdPAN  = 40 + wide
	cdAA64 = 41 + wide
	cdHD   = 42 + wide
	cdHA   = 43 + wide
	cdS    = 44 + wide
	cdR    = 45 + wide
	cdA    = 46 + wide
	cdASET = 47 + wide
	cdASID = 48 + 16*wide

	cdNSCFG0 = dw1 + 0 + wide
	cdHAD0   = dw1 + 1 + wide // DisCH0 with VMSAv9-128
	cdE0PD0  = dw1 + 2 + wide
	cdHAFT   = dw1 + 3 + wide
	cdTTB0   = dw1 + 4 + 52*wide + address
	cdPnCH   = dw1 + 58 + wide
	cdEPAN   = dw1 + 59 + wide
	cdHWU059 = dw1 + 60 + wide
	cdHWU060 = dw1 + 61 + wide
	cdHWU061 = dw1 + 62 + wide // with the next, SKL0 with VMSAv9-128
	cdHWU062 = dw1 + 63 + wide

	cdNSCFG1 = dw2 + 0 + wide
	cdHAD1   = dw2 + 1 + wide // DisCH1 with VMSAv9-128
	cdE0PD1  = dw2 + 2 + wide
	cdAIE    = dw2 + 3 + wide
	cdTTB1   = dw2 + 4 + 52*wide + address
	cdDS     = dw2 + 58 + wide
	cdPIE    = dw2 + 59 + wide
	cdHWU159 = dw2 + 60 + wide
	cdHWU160 = dw2 + 61 + wide
	cdHWU161 = dw2 + 62 + wide // with the next, SKL1 with VMSAv9-128
	cdHWU162 = dw2 + 63 + wide

	cdMAIR0  = dw3 + 0 + 32*wide
	cdMAIR1  = dw3 + 32 + 32*wide
	cdAMAIR0 = dw4 + 0 + 32*wide
	cdAMAIR1 = dw4 + 32 + 32*wide
	cdImpDef = dw5 + 0 + 32*wide
	cdPARTID = dw5 + 32 + 16*wide
	cdPMG    = dw5 + 48 + 8*wide
	cdPIIU   = dw6 + 0 + 48*wide
	cdPIIP   = dw7 + 0 + 48*wide
)

// LoadCD reads a CD from its memory format.
func LoadCD(p *[CDSize]byte) (c CD) {
	loadWords(c[:], p[:])
	return c
}

// Put writes the CD in its memory format.
func (c CD) Put(p *[CDSize]byte) { putWords(p[:], c[:]) }

func (c *CD) get(p place) uint64 { return p.of(c[p.dw()]) }

func (c *CD) set(p place, v uint64) {
	w := &c[p.dw()]
	*w = p.in(*w, v)
}

// half returns the place of a field of a half, given the places of both.
func half(x uint, lower, upper place) place {
	if x == 0 {
		return lower
	}
	return upper
}

// V reports whether the CD is valid.
func (c *CD) V() bool { return c.get(cdV) != 0 }

// ENDI reports whether the tables are big-endian.
func (c *CD) ENDI() bool { return c.get(cdENDI) != 0 }

// IPS returns the encoded output address size of stage 1.
func (c *CD) IPS() uint8 { return uint8(c.get(cdIPS)) }

// AFFD reports whether Access flags never fault.
func (c *CD) AFFD() bool { return c.get(cdAFFD) != 0 }

// WXN reports whether writable pages are not executable.
func (c *CD) WXN() bool { return c.get(cdWXN) != 0 }

// UWXN reports whether pages that unprivileged code can write are not executable when privileged.
func (c *CD) UWXN() bool { return c.get(cdUWXN) != 0 }

// PAN reports Privileged Access Never.
func (c *CD) PAN() bool { return c.get(cdPAN) != 0 }

// AA64 reports whether the tables are VMSAv8-64, and not VMSAv8-32 LPAE.
func (c *CD) AA64() bool { return c.get(cdAA64) != 0 }

// HD reports whether the SMMU updates the dirty state.
func (c *CD) HD() bool { return c.get(cdHD) != 0 }

// HA reports whether the SMMU updates the Access flag.
func (c *CD) HA() bool { return c.get(cdHA) != 0 }

// S reports whether faults stall.
func (c *CD) S() bool { return c.get(cdS) != 0 }

// R reports whether faults are recorded.
func (c *CD) R() bool { return c.get(cdR) != 0 }

// A reports whether terminated transactions abort, and are not RAZ/WI.
func (c *CD) A() bool { return c.get(cdA) != 0 }

// ASET reports whether the ASID is not shared with the processors.
func (c *CD) ASET() bool { return c.get(cdASET) != 0 }

// ASID returns the ASID.
func (c *CD) ASID() ASID { return ASID(c.get(cdASID)) }

// HAFT reports whether the SMMU updates the Access flag of table descriptors.
func (c *CD) HAFT() bool { return c.get(cdHAFT) != 0 }

// EPAN reports whether PAN covers pages that unprivileged code can execute.
func (c *CD) EPAN() bool { return c.get(cdEPAN) != 0 }

// DS reports whether addresses have 52 bits with granules of 4 and 16 KiB.
func (c *CD) DS() bool { return c.get(cdDS) != 0 }

// TxSZ returns TxSZ: input addresses of the half have 64-TxSZ bits.
func (c *CD) TxSZ(x uint) uint { return uint(c.get(half(x, cdT0SZ, cdT1SZ))) }

// EPDx reports whether the half is not walked.
func (c *CD) EPDx(x uint) bool { return c.get(half(x, cdEPD0, cdEPD1)) != 0 }

// TBIx reports whether the top byte of addresses is ignored.
func (c *CD) TBIx(x uint) bool { return c.get(half(x, cdTBI0, cdTBI1)) != 0 }

// HADx reports whether attributes of table descriptors are ignored.
func (c *CD) HADx(x uint) bool { return c.get(half(x, cdHAD0, cdHAD1)) != 0 }

// E0PDx reports whether the half is closed to unprivileged accesses.
func (c *CD) E0PDx(x uint) bool { return c.get(half(x, cdE0PD0, cdE0PD1)) != 0 }

// TTBx returns the address of the half's table as an SMMU with these ID registers reads it, before
// it is aligned to the table's size.
func (c *CD) TTBx(x uint, ids *IDRegs) uint64 {
	return c.get(half(x, cdTTB0, cdTTB1)) & ids.tableMask()
}

// The granules by the encodings of TG0 and TG1. The encodings differ, as in TCR_ELx.
var (
	granulesTG0 = [4]Granule{0b00: Granule4K, 0b01: Granule64K, 0b10: Granule16K}
	granulesTG1 = [4]Granule{0b01: Granule16K, 0b10: Granule4K, 0b11: Granule64K}
)

// TGx returns the granule, or 0 for the reserved encoding.
func (c *CD) TGx(x uint) Granule {
	if x == 0 {
		return granulesTG0[c.get(cdTG0)&3]
	}
	return granulesTG1[c.get(cdTG1)&3]
}

// Format returns the layout of the half's tables on an SMMU with these ID registers. Its granule is
// 0 if TGx is reserved.
func (c *CD) Format(x uint, ids *IDRegs) Format {
	f := Format{Granule: c.TGx(x)}
	if f.Granule == Granule64K {
		f.Wide = ids.OutputBits() >= 52
	} else {
		f.Wide = c.DS() && ids.Has(DS)
	}
	return f
}

// OutputBits returns the effective output address size of stage 1 in bits: IPS, capped at IDR5.OAS.
// A reserved IPS behaves as the largest of the architecture version (§5.4, IPS).
func (c *CD) OutputBits(ids *IDRegs) uint {
	largest := uint32(6) // 52 bits
	switch v := ids.Version(); {
	case v == 0:
		largest = 5
	case v >= 4:
		largest = 7
	}
	return min(AddrBits(min(uint32(c.IPS()), largest)), ids.OutputBits())
}

// SetV makes the CD valid or invalid.
func (c *CD) SetV(v bool) { c.set(cdV, b2u(v)) }

// SetENDI makes the tables big-endian or little-endian.
func (c *CD) SetENDI(v bool) { c.set(cdENDI, b2u(v)) }

// SetIPS sets the encoded output address size of stage 1.
func (c *CD) SetIPS(v uint8) { c.set(cdIPS, uint64(v)) }

// SetAFFD sets whether Access flags never fault.
func (c *CD) SetAFFD(v bool) { c.set(cdAFFD, b2u(v)) }

// SetWXN sets whether writable pages are not executable.
func (c *CD) SetWXN(v bool) { c.set(cdWXN, b2u(v)) }

// SetPAN sets Privileged Access Never.
func (c *CD) SetPAN(v bool) { c.set(cdPAN, b2u(v)) }

// SetAA64 sets whether the tables are VMSAv8-64.
func (c *CD) SetAA64(v bool) { c.set(cdAA64, b2u(v)) }

// SetHD sets whether the SMMU updates the dirty state.
func (c *CD) SetHD(v bool) { c.set(cdHD, b2u(v)) }

// SetHA sets whether the SMMU updates the Access flag.
func (c *CD) SetHA(v bool) { c.set(cdHA, b2u(v)) }

// SetS sets whether faults stall.
func (c *CD) SetS(v bool) { c.set(cdS, b2u(v)) }

// SetR sets whether faults are recorded.
func (c *CD) SetR(v bool) { c.set(cdR, b2u(v)) }

// SetA sets whether terminated transactions abort.
func (c *CD) SetA(v bool) { c.set(cdA, b2u(v)) }

// SetASET sets whether the ASID is not shared with the processors.
func (c *CD) SetASET(v bool) { c.set(cdASET, b2u(v)) }

// SetASID sets the ASID.
func (c *CD) SetASID(a ASID) { c.set(cdASID, uint64(a)) }

// SetHAFT sets whether the SMMU updates the Access flag of table descriptors.
func (c *CD) SetHAFT(v bool) { c.set(cdHAFT, b2u(v)) }

// SetEPAN sets whether PAN covers pages that unprivileged code can execute.
func (c *CD) SetEPAN(v bool) { c.set(cdEPAN, b2u(v)) }

// SetDS sets whether addresses have 52 bits with granules of 4 and 16 KiB.
func (c *CD) SetDS(v bool) { c.set(cdDS, b2u(v)) }

// SetMAIR sets MAIR0 and MAIR1.
func (c *CD) SetMAIR(v uint64) {
	c.set(cdMAIR0, v)
	c.set(cdMAIR1, v>>32)
}

// SetAMAIR sets AMAIR0 and AMAIR1.
func (c *CD) SetAMAIR(v uint64) {
	c.set(cdAMAIR0, v)
	c.set(cdAMAIR1, v>>32)
}

// SetTxSZ sets the size of the half's input addresses.
func (c *CD) SetTxSZ(x, v uint) { c.set(half(x, cdT0SZ, cdT1SZ), uint64(v)) }

// SetIRx sets the inner cacheability of table walks.
func (c *CD) SetIRx(x uint, v uint8) { c.set(half(x, cdIR0, cdIR1), uint64(v)) }

// SetORx sets the outer cacheability of table walks.
func (c *CD) SetORx(x uint, v uint8) { c.set(half(x, cdOR0, cdOR1), uint64(v)) }

// SetSHx sets the shareability of table walks.
func (c *CD) SetSHx(x uint, v uint8) { c.set(half(x, cdSH0, cdSH1), uint64(v)) }

// SetEPDx disables or enables walks of the half.
func (c *CD) SetEPDx(x uint, v bool) { c.set(half(x, cdEPD0, cdEPD1), b2u(v)) }

// SetTBIx sets whether the top byte of addresses is ignored.
func (c *CD) SetTBIx(x uint, v bool) { c.set(half(x, cdTBI0, cdTBI1), b2u(v)) }

// SetHADx sets whether attributes of table descriptors are ignored.
func (c *CD) SetHADx(x uint, v bool) { c.set(half(x, cdHAD0, cdHAD1), b2u(v)) }

// SetE0PDx sets whether the half is closed to unprivileged accesses.
func (c *CD) SetE0PDx(x uint, v bool) { c.set(half(x, cdE0PD0, cdE0PD1), b2u(v)) }

// SetTTBx sets the address of the half's table.
func (c *CD) SetTTBx(x uint, a uint64) { c.set(half(x, cdTTB0, cdTTB1), a) }

// SetTGx sets the granule. Any value other than the three granules sets the reserved encoding.
func (c *CD) SetTGx(x uint, g Granule) {
	p, granules, enc := place(cdTG0), &granulesTG0, uint64(0b11)
	if x != 0 {
		p, granules, enc = cdTG1, &granulesTG1, 0b00
	}
	for e, have := range granules {
		if have == g && g != 0 {
			enc = uint64(e)
		}
	}
	c.set(p, enc)
}

// cdRows are the fields of §5.4.
var cdRows = []row{
	{name: "V", place: cdV, mean: oneOf("invalid", "valid")},
	{name: "AA64", place: cdAA64, mean: oneOf("VMSAv8-32 LPAE tables", "VMSAv8-64 tables")},
	{name: "ASID", place: cdASID},
	{name: "ASET", place: cdASET, mean: oneOf("shared with the processors", "not shared with the processors")},
	{name: "IPS", place: cdIPS, mean: addressSize},
	{name: "ENDI", place: cdENDI, mean: littleOrBig},
	{name: "T0SZ", place: cdT0SZ, mean: inputSize},
	{name: "TG0", place: cdTG0, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
	{name: "IR0", place: cdIR0, mean: tableCacheability},
	{name: "OR0", place: cdOR0, mean: tableCacheability},
	{name: "SH0", place: cdSH0, mean: shareability},
	{name: "EPD0", place: cdEPD0, mean: halfEnabled},
	{name: "TBI0", place: cdTBI0, mean: oneOf("", "the top byte is ignored")},
	{name: "NSCFG0", place: cdNSCFG0},
	{name: "HAD0", place: cdHAD0},
	{name: "E0PD0", place: cdE0PD0},
	{name: "TTB0", place: cdTTB0},
	{name: "HWU059", place: cdHWU059},
	{name: "HWU060", place: cdHWU060},
	{name: "HWU061", place: cdHWU061},
	{name: "HWU062", place: cdHWU062},
	{name: "T1SZ", place: cdT1SZ, mean: inputSize},
	{name: "TG1", place: cdTG1, mean: oneOf("reserved", "16 KiB", "4 KiB", "64 KiB")},
	{name: "IR1", place: cdIR1, mean: tableCacheability},
	{name: "OR1", place: cdOR1, mean: tableCacheability},
	{name: "SH1", place: cdSH1, mean: shareability},
	{name: "EPD1", place: cdEPD1, mean: halfEnabled},
	{name: "TBI1", place: cdTBI1, mean: oneOf("", "the top byte is ignored")},
	{name: "NSCFG1", place: cdNSCFG1},
	{name: "HAD1", place: cdHAD1},
	{name: "E0PD1", place: cdE0PD1},
	{name: "TTB1", place: cdTTB1},
	{name: "HWU159", place: cdHWU159},
	{name: "HWU160", place: cdHWU160},
	{name: "HWU161", place: cdHWU161},
	{name: "HWU162", place: cdHWU162},
	{name: "AFFD", place: cdAFFD, mean: oneOf("a clear Access flag faults", "Access flags never fault")},
	{name: "WXN", place: cdWXN},
	{name: "UWXN", place: cdUWXN},
	{name: "PAN", place: cdPAN},
	{name: "EPAN", place: cdEPAN},
	{name: "PnCH", place: cdPnCH},
	{name: "AIE", place: cdAIE},
	{name: "DS", place: cdDS, mean: oneOf("", "addresses of 52 bits")},
	{name: "PIE", place: cdPIE},
	{name: "HD", place: cdHD},
	{name: "HA", place: cdHA},
	{name: "HAFT", place: cdHAFT},
	{name: "S", place: cdS, mean: oneOf("faults terminate", "faults stall")},
	{name: "R", place: cdR, mean: oneOf("faults are not recorded", "faults are recorded")},
	{name: "A", place: cdA, mean: oneOf("terminated: reads zero, writes ignored", "terminated: abort")},
	{name: "MAIR0", place: cdMAIR0},
	{name: "MAIR1", place: cdMAIR1},
	{name: "AMAIR0", place: cdAMAIR0},
	{name: "AMAIR1", place: cdAMAIR1},
	{name: "IMPLEMENTATION DEFINED", place: cdImpDef},
	{name: "PARTID", place: cdPARTID},
	{name: "PMG", place: cdPMG},
	{name: "PIIU", place: cdPIIU},
	{name: "PIIP", place: cdPIIP},
}

// Fields explains the CD field by field.
func (c CD) Fields() []Field { return explain(c[:], cdRows) }
