package smmuv3

// STE is a Stream Table Entry (§5.2): eight double-words, of which these
// matter, besides those of Stage2:
//
//	dw0  V [0]  Config [3:1]  S1Fmt [5:4]  S1ContextPtr [55:6]  S1CDMax [63:59]
//	dw1  S1DSS [1:0]  S1CIR [3:2]  S1COR [5:4]  S1CSH [7:6]  S1STALLD [27]
//	     EATS [29:28]  STRW [31:30]
//	dw2  S2VMID [15:0]
type STE [8]uint64

// LoadSTE reads an STE from its 64 bytes in memory.
func LoadSTE(p *[STESize]byte) (s STE) {
	loadWords(s[:], p[:])
	return s
}

// Put writes the STE as it lies in memory.
func (s STE) Put(p *[STESize]byte) { putWords(p[:], s[:]) }

// STEConfig is STE.Config (§5.2).
type STEConfig uint8

const (
	// ConfigAbort is the architectural encoding; every value with bit 2 clear
	// aborts, without an event.
	ConfigAbort  STEConfig = 0b000
	ConfigBypass STEConfig = 0b100
	ConfigS1     STEConfig = 0b101 // stage 1 translates, stage 2 bypasses
	ConfigS2     STEConfig = 0b110 // stage 1 bypasses, stage 2 translates
	ConfigNested STEConfig = 0b111 // both translate
)

// Abort reports whether transactions abort, with no event.
func (c STEConfig) Abort() bool { return c&0b100 == 0 }

// Stage1 reports whether stage 1 translates.
func (c STEConfig) Stage1() bool { return c&0b101 == 0b101 }

// Stage2 reports whether stage 2 translates.
func (c STEConfig) Stage2() bool { return c&0b110 == 0b110 }

// S1Fmt is STE.S1Fmt: how the Context Descriptor table is laid out.
type S1Fmt uint8

const (
	S1FmtLinear S1Fmt = 0b00
	S1Fmt4K     S1Fmt = 0b01 // two levels, leaves of 4 KiB: 64 CDs
	S1Fmt64K    S1Fmt = 0b10 // two levels, leaves of 64 KiB: 1024 CDs
)

func (f S1Fmt) String() string {
	return [4]string{"linear", "two-level/4KiB", "two-level/64KiB", "reserved"}[f&3]
}

// S1DSS is STE.S1DSS: what becomes of transactions without a SubstreamID in a
// stream that has more than one.
type S1DSS uint8

const (
	S1DSSTerminate  S1DSS = 0b00
	S1DSSBypass     S1DSS = 0b01
	S1DSSSubstream0 S1DSS = 0b10
)

func (d S1DSS) String() string {
	return [4]string{"terminate", "bypass", "substream 0", "reserved"}[d&3]
}

// EATS is STE.EATS: what the stream may do with PCIe ATS.
type EATS uint8

const (
	EATSNone  EATS = 0b00
	EATSFull  EATS = 0b01
	EATSSplit EATS = 0b10 // translation requests answered after stage 1 only
	EATSDPT   EATS = 0b11 // full, with DPT checks; behaves as none without IDR3.DPT
)

func (e EATS) String() string {
	return [4]string{"none", "full", "split", "full with DPT checks"}[e&3]
}

func (s *STE) V() bool                  { return bit(s[0], 0) }
func (s *STE) Config() STEConfig        { return STEConfig(bits(s[0], 1, 3)) }
func (s *STE) S1Fmt() S1Fmt             { return S1Fmt(bits(s[0], 4, 2)) }
func (s *STE) S1ContextPtr() uint64     { return s[0] & BaseAddrMask &^ 0x3f }
func (s *STE) S1CDMax() uint8           { return uint8(bits(s[0], 59, 5)) }
func (s *STE) S1DSS() S1DSS             { return S1DSS(bits(s[1], 0, 2)) }
func (s *STE) S1CIR() uint8             { return uint8(bits(s[1], 2, 2)) }
func (s *STE) S1COR() uint8             { return uint8(bits(s[1], 4, 2)) }
func (s *STE) S1CSH() uint8             { return uint8(bits(s[1], 6, 2)) }
func (s *STE) PPAR() bool               { return bit(s[1], 18) }
func (s *STE) MEV() bool                { return bit(s[1], 19) }
func (s *STE) S1STALLD() bool           { return bit(s[1], 27) }
func (s *STE) EATS() EATS               { return EATS(bits(s[1], 28, 2)) }
func (s *STE) STRW() uint8              { return uint8(bits(s[1], 30, 2)) }
func (s *STE) PRIVCFG() uint8           { return uint8(bits(s[1], 48, 2)) }
func (s *STE) INSTCFG() uint8           { return uint8(bits(s[1], 50, 2)) }
func (s *STE) S2VMID() VMID             { return VMID(s[2]) }
func (s *STE) SetV(v bool)              { s[0] = setBit(s[0], 0, v) }
func (s *STE) SetConfig(c STEConfig)    { s[0] = setBits(s[0], 1, 3, uint64(c)) }
func (s *STE) SetS1Fmt(f S1Fmt)         { s[0] = setBits(s[0], 4, 2, uint64(f)) }
func (s *STE) SetS1ContextPtr(a uint64) { s[0] = setBits(s[0], 6, 50, a>>6) }
func (s *STE) SetS1CDMax(n uint8)       { s[0] = setBits(s[0], 59, 5, uint64(n)) }
func (s *STE) SetS1DSS(d S1DSS)         { s[1] = setBits(s[1], 0, 2, uint64(d)) }
func (s *STE) SetS1CIR(v uint8)         { s[1] = setBits(s[1], 2, 2, uint64(v)) }
func (s *STE) SetS1COR(v uint8)         { s[1] = setBits(s[1], 4, 2, uint64(v)) }
func (s *STE) SetS1CSH(v uint8)         { s[1] = setBits(s[1], 6, 2, uint64(v)) }
func (s *STE) SetS1STALLD(v bool)       { s[1] = setBit(s[1], 27, v) }
func (s *STE) SetEATS(e EATS)           { s[1] = setBits(s[1], 28, 2, uint64(e)) }
func (s *STE) SetSTRW(v uint8)          { s[1] = setBits(s[1], 30, 2, uint64(v)) }
func (s *STE) SetS2VMID(v VMID)         { s[2] = setBits(s[2], 0, 16, uint64(v)) }
