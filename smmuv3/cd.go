package smmuv3

// Sizes in bytes of the Context Descriptor table's parts (§5.3, §5.4).
const (
	CDSize   = 64
	L1CDSize = 8
)

// L1CD is a Level 1 Context Descriptor, V [0] and L2Ptr [55:12] (§5.3).
type L1CD uint64

func (d L1CD) V() bool { return bit(uint64(d), 0) }

// L2Ptr is the address of the leaf table, aligned to 4 KiB; bits above the
// output address size are not cut.
func (d L1CD) L2Ptr() uint64 { return uint64(d) & BaseAddrMask &^ 0xfff }

// CDTable is a stream's Context Descriptor table, as its STE describes it
// (§5.2).
type CDTable struct {
	Ptr uint64 // STE.S1ContextPtr
	Max uint8  // STE.S1CDMax: log2 of the number of CDs
	Fmt S1Fmt
}

// leafBits is how many bits of a SubstreamID index a leaf of a two-level
// table, or 0 for a table that is linear: by Fmt, since the reserved one is
// (§5.2), or because there is one CD and Fmt is IGNORED.
func (t CDTable) leafBits() uint {
	if t.Max == 0 {
		return 0
	}
	return [4]uint{S1Fmt4K: 6, S1Fmt64K: 10}[t.Fmt&3]
}

// TwoLevel reports whether an L1CD stands between Ptr and the CDs.
func (t CDTable) TwoLevel() bool { return t.leafBits() != 0 }

// Contains reports whether the table has room for the SubstreamID.
func (t CDTable) Contains(s SubstreamID) bool { return uint64(s)>>t.Max == 0 }

// base is Ptr aligned to the size of the table that it points to. The bits
// below are RES0, and taking them as zero is one of the permitted ways to meet
// them (§5.2).
func (t CDTable) base() uint64 {
	size := uint64(CDSize) << t.Max
	if leaf := t.leafBits(); leaf != 0 {
		size = CDSize
		if uint(t.Max) > leaf {
			size = max(size, L1CDSize<<(uint(t.Max)-leaf))
		}
	}
	return t.Ptr &^ (size - 1)
}

// CDAddr is where a CD lies in a table that is linear.
func (t CDTable) CDAddr(s SubstreamID) uint64 { return t.base() + CDSize*uint64(s) }

// L1CDAddr is where the L1CD for a SubstreamID lies in a two-level table.
func (t CDTable) L1CDAddr(s SubstreamID) uint64 {
	return t.base() + L1CDSize*(uint64(s)>>t.leafBits())
}

// LeafCDAddr is where a CD lies in the leaf table that an L1CD points to,
// which is aligned to its own size (§5.3).
func (t CDTable) LeafCDAddr(d L1CD, s SubstreamID) uint64 {
	n := t.leafBits()
	return d.L2Ptr()&^(CDSize<<n-1) + CDSize*bits(uint64(s), 0, n)
}

// CD is a Context Descriptor (§5.4): what the guest says of one of a stream's
// address spaces. TTB0 translates its lower half, TTB1 its upper half; where
// the specification writes TxSZ, x is the argument of the getter, 0 or 1.
//
//	dw0  T0SZ [5:0]  TG0 [7:6]  IR0 [9:8]  OR0 [11:10]  SH0 [13:12]  EPD0 [14]  ENDI [15]
//	     T1SZ [21:16]  TG1 [23:22]  IR1 [25:24]  OR1 [27:26]  SH1 [29:28]  EPD1 [30]  V [31]
//	     IPS [34:32]  AFFD [35]  WXN [36]  UWXN [37]  TBI0 [38]  TBI1 [39]  PAN [40]  AA64 [41]
//	     HD [42]  HA [43]  S [44]  R [45]  A [46]  ASET [47]  ASID [63:48]
//	dw1  HAD0 [1]  E0PD0 [2]  HAFT [3]  TTB0 [51:4]  EPAN [59]
//	dw2  HAD1 [1]  E0PD1 [2]  TTB1 [51:4]  DS [58]
//	dw3  MAIR   dw4  AMAIR
type CD [8]uint64

// LoadCD reads a CD from its 64 bytes in memory.
func LoadCD(p *[CDSize]byte) (c CD) {
	loadWords(c[:], p[:])
	return c
}

// Put writes the CD as it lies in memory.
func (c CD) Put(p *[CDSize]byte) { putWords(p[:], c[:]) }

func (c *CD) V() bool    { return bit(c[0], 31) }
func (c *CD) ENDI() bool { return bit(c[0], 15) }
func (c *CD) IPS() uint8 { return uint8(bits(c[0], 32, 3)) }
func (c *CD) AFFD() bool { return bit(c[0], 35) }
func (c *CD) WXN() bool  { return bit(c[0], 36) }
func (c *CD) PAN() bool  { return bit(c[0], 40) }
func (c *CD) AA64() bool { return bit(c[0], 41) }
func (c *CD) HD() bool   { return bit(c[0], 42) }
func (c *CD) HA() bool   { return bit(c[0], 43) }
func (c *CD) S() bool    { return bit(c[0], 44) }
func (c *CD) R() bool    { return bit(c[0], 45) }
func (c *CD) A() bool    { return bit(c[0], 46) }
func (c *CD) ASET() bool { return bit(c[0], 47) }
func (c *CD) ASID() ASID { return ASID(c[0] >> 48) }
func (c *CD) HAFT() bool { return bit(c[1], 3) }
func (c *CD) EPAN() bool { return bit(c[1], 59) }
func (c *CD) DS() bool   { return bit(c[2], 58) }

func (c *CD) TxSZ(x uint) uint  { return uint(bits(c[0], 16*x, 6)) }
func (c *CD) EPDx(x uint) bool  { return bit(c[0], 14+16*x) }
func (c *CD) TBIx(x uint) bool  { return bit(c[0], 38+x) }
func (c *CD) HADx(x uint) bool  { return bit(c[1+x], 1) }
func (c *CD) E0PDx(x uint) bool { return bit(c[1+x], 2) }

// TTBx is the address in bits [51:4], not yet aligned to the table's size, as an SMMU
// with these ID registers reads it.
func (c *CD) TTBx(x uint, ids *IDRegs) uint64 { return c[1+x] & ids.tableMask() &^ 0xf }

// TGx is the granule, or 0 for the reserved encoding. TG0 and TG1 are encoded
// differently, as TCR_ELx's are.
func (c *CD) TGx(x uint) Granule {
	return [2][4]Granule{
		{0b00: Granule4K, 0b01: Granule64K, 0b10: Granule16K},
		{0b01: Granule16K, 0b10: Granule4K, 0b11: Granule64K},
	}[x][bits(c[0], 6+16*x, 2)]
}

// Format is how the tables of a half are laid out on an SMMU with these ID
// registers. Its granule is 0 if TGx is reserved.
func (c *CD) Format(x uint, ids *IDRegs) Format {
	f := Format{Granule: c.TGx(x)}
	if f.Granule == Granule64K {
		f.Wide = ids.OutputBits() >= 52
	} else {
		f.Wide = c.DS() && ids.Has(DS)
	}
	return f
}

// OutputBits is the effective size of the addresses that stage 1 puts out: IPS,
// but no more than IDR5.OAS. Reserved values behave as the largest that the
// architecture version has (§5.4, IPS).
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

func (c *CD) SetV(v bool)       { c[0] = setBit(c[0], 31, v) }
func (c *CD) SetENDI(v bool)    { c[0] = setBit(c[0], 15, v) }
func (c *CD) SetIPS(v uint8)    { c[0] = setBits(c[0], 32, 3, uint64(v)) }
func (c *CD) SetAFFD(v bool)    { c[0] = setBit(c[0], 35, v) }
func (c *CD) SetWXN(v bool)     { c[0] = setBit(c[0], 36, v) }
func (c *CD) SetPAN(v bool)     { c[0] = setBit(c[0], 40, v) }
func (c *CD) SetAA64(v bool)    { c[0] = setBit(c[0], 41, v) }
func (c *CD) SetHD(v bool)      { c[0] = setBit(c[0], 42, v) }
func (c *CD) SetHA(v bool)      { c[0] = setBit(c[0], 43, v) }
func (c *CD) SetS(v bool)       { c[0] = setBit(c[0], 44, v) }
func (c *CD) SetR(v bool)       { c[0] = setBit(c[0], 45, v) }
func (c *CD) SetA(v bool)       { c[0] = setBit(c[0], 46, v) }
func (c *CD) SetASET(v bool)    { c[0] = setBit(c[0], 47, v) }
func (c *CD) SetASID(a ASID)    { c[0] = setBits(c[0], 48, 16, uint64(a)) }
func (c *CD) SetHAFT(v bool)    { c[1] = setBit(c[1], 3, v) }
func (c *CD) SetEPAN(v bool)    { c[1] = setBit(c[1], 59, v) }
func (c *CD) SetDS(v bool)      { c[2] = setBit(c[2], 58, v) }
func (c *CD) SetMAIR(v uint64)  { c[3] = v }
func (c *CD) SetAMAIR(v uint64) { c[4] = v }

func (c *CD) SetTxSZ(x, v uint)        { c[0] = setBits(c[0], 16*x, 6, uint64(v)) }
func (c *CD) SetIRx(x uint, v uint8)   { c[0] = setBits(c[0], 8+16*x, 2, uint64(v)) }
func (c *CD) SetORx(x uint, v uint8)   { c[0] = setBits(c[0], 10+16*x, 2, uint64(v)) }
func (c *CD) SetSHx(x uint, v uint8)   { c[0] = setBits(c[0], 12+16*x, 2, uint64(v)) }
func (c *CD) SetEPDx(x uint, v bool)   { c[0] = setBit(c[0], 14+16*x, v) }
func (c *CD) SetTBIx(x uint, v bool)   { c[0] = setBit(c[0], 38+x, v) }
func (c *CD) SetHADx(x uint, v bool)   { c[1+x] = setBit(c[1+x], 1, v) }
func (c *CD) SetE0PDx(x uint, v bool)  { c[1+x] = setBit(c[1+x], 2, v) }
func (c *CD) SetTTBx(x uint, a uint64) { c[1+x] = setBits(c[1+x], 4, 48, a>>4) }

// SetTGx sets the granule; one that is none of the three becomes reserved in
// TG1, and in TG0.
func (c *CD) SetTGx(x uint, g Granule) {
	enc := [2]uint64{0b11, 0b00}[x]
	switch g {
	case Granule4K:
		enc = [2]uint64{0b00, 0b10}[x]
	case Granule16K:
		enc = [2]uint64{0b10, 0b01}[x]
	case Granule64K:
		enc = [2]uint64{0b01, 0b11}[x]
	}
	c[0] = setBits(c[0], 6+16*x, 2, enc)
}
