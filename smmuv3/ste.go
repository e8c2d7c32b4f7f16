package smmuv3

import "fmt"

// STE is a Stream Table Entry (§5.2), in eight double-words. The diagram omits the fields of MPAM
// and of permission indirection:
//
//	 63     59 58    56 55                             6 5   4 3      1 0
//	+---------+--------+--------------------------------+-----+--------+-+
//	| S1CDMax |        |       S1ContextPtr[55:6]       |S1Fmt| Config |V|  dw0
//	+---------+--------+--------------------------------+-----+--------+-+
//	 51     50 49     48 45 44 31  30 29  28    27  19 18  7 6 5 4 3 2 1  0
//	+---------+---------+-----+------+------+-------+---+----+---+---+---+-----+
//	| INSTCFG | PRIVCFG |SHCFG| STRW | EATS |S1STALLD|MEV|PPAR|CSH|COR|CIR|S1DSS|  dw1
//	+---------+---------+-----+------+------+-------+---+----+---+---+---+-----+
//	 63                                            16 15                0
//	+------------------------------------------------+-------------------+
//	|                 stage 2: see Stage2            |      S2VMID       |  dw2
//	+------------------------------------------------+-------------------+
type STE [8]uint64

// STESize is the size of an STE in bytes.
const STESize = 64

// The places of the fields.
const (
	steV            = 0 + wide
	steConfig       = 1 + 3*wide
	steS1Fmt        = 4 + 2*wide
	steS1ContextPtr = 6 + 50*wide + address
	steS1CDMax      = 59 + 5*wide

	steS1DSS    = dw1 + 0 + 2*wide
	steS1CIR    = dw1 + 2 + 2*wide
	steS1COR    = dw1 + 4 + 2*wide
	steS1CSH    = dw1 + 6 + 2*wide
	steS2HWU59  = dw1 + 8 + wide
	steS2HWU60  = dw1 + 9 + wide
	steS2HWU61  = dw1 + 10 + wide
	steS2HWU62  = dw1 + 11 + wide
	steDRE      = dw1 + 12 + wide
	steCONT     = dw1 + 13 + 4*wide
	steDCP      = dw1 + 17 + wide
	stePPAR     = dw1 + 18 + wide
	steMEV      = dw1 + 19 + wide
	steSW       = dw1 + 20 + 4*wide
	steS1PIE    = dw1 + 24 + wide
	steS2FWB    = dw1 + 25 + wide
	steS1MPAM   = dw1 + 26 + wide
	steS1STALLD = dw1 + 27 + wide
	steEATS     = dw1 + 28 + 2*wide
	steSTRW     = dw1 + 30 + 2*wide
	steMemAttr  = dw1 + 32 + 4*wide
	steMTCFG    = dw1 + 36 + wide
	steALLOCCFG = dw1 + 37 + 4*wide
	steSHCFG    = dw1 + 44 + 2*wide
	steNSCFG    = dw1 + 46 + 2*wide
	stePRIVCFG  = dw1 + 48 + 2*wide
	steINSTCFG  = dw1 + 50 + 2*wide
	steImpDef1  = dw1 + 52 + 12*wide

	steS2VMID    = dw2 + 0 + 16*wide
	steImpDef2   = dw2 + 16 + 16*wide
	steS2T0SZ    = dw2 + 32 + 6*wide
	steS2SL0     = dw2 + 38 + 2*wide
	steS2IR0     = dw2 + 40 + 2*wide
	steS2OR0     = dw2 + 42 + 2*wide
	steS2SH0     = dw2 + 44 + 2*wide
	steS2TG      = dw2 + 46 + 2*wide
	steS2PS      = dw2 + 48 + 3*wide
	steS2AA64    = dw2 + 51 + wide
	steS2ENDI    = dw2 + 52 + wide
	steS2AFFD    = dw2 + 53 + wide
	steS2PTW     = dw2 + 54 + wide
	steS2HD      = dw2 + 55 + wide
	steS2HA      = dw2 + 56 + wide
	steS2S       = dw2 + 57 + wide
	steS2R       = dw2 + 58 + wide
	steS2HAFT    = dw2 + 59 + wide
	steS2PIE     = dw2 + 60 + wide
	steS2POE     = dw2 + 61 + wide
	steDPTVMATCH = dw2 + 62 + 2*wide

	steS2NSW  = dw3 + 0 + wide
	steS2NSA  = dw3 + 1 + wide
	steS2SL02 = dw3 + 2 + wide
	steS2DS   = dw3 + 3 + wide
	steS2TTB  = dw3 + 4 + 52*wide + address
	steS2SKL  = dw3 + 61 + 2*wide

	steImpDef4     = dw4 + 0 + 16*wide
	stePARTID      = dw4 + 16 + 16*wide
	steSS2T0SZ     = dw4 + 32 + 6*wide
	steSS2SL0      = dw4 + 38 + 2*wide
	steSS2TG       = dw4 + 46 + 2*wide
	steMECID       = dw4 + 48 + 16*wide
	stePMG         = dw5 + 0 + 8*wide
	steMPAMNS      = dw5 + 8 + wide
	steAssuredOnly = dw5 + 9 + wide
	steTL0         = dw5 + 10 + wide
	steTL1         = dw5 + 11 + wide
	steVMSPtr      = dw5 + 12 + 44*wide + address
	steS2SW        = dw6 + 0 + wide
	steS2SA        = dw6 + 1 + wide
	steSS2SL02     = dw6 + 2 + wide
	steSS2TTB      = dw6 + 4 + 52*wide + address
	steSS2SKL      = dw6 + 61 + 2*wide
	steS2POI       = dw7 + 0 + 64*wide
)

// LoadSTE reads an STE from its memory format.
func LoadSTE(p *[STESize]byte) (s STE) {
	loadWords(s[:], p[:])
	return s
}

// Put writes the STE in its memory format.
func (s STE) Put(p *[STESize]byte) { putWords(p[:], s[:]) }

func (s *STE) get(p place) uint64 { return p.of(s[p.dw()]) }

func (s *STE) set(p place, v uint64) {
	w := &s[p.dw()]
	*w = p.in(*w, v)
}

// STEConfig is STE.Config (§5.2).
type STEConfig uint8

// Values of STE.Config.
const (
	// ConfigAbort aborts without an event, as does every value with bit 2 clear.
	ConfigAbort  STEConfig = 0b000
	ConfigBypass STEConfig = 0b100
	ConfigS1     STEConfig = 0b101 // stage 1 translates, stage 2 bypasses
	ConfigS2     STEConfig = 0b110 // stage 1 bypasses, stage 2 translates
	ConfigNested STEConfig = 0b111 // both translate
)

// Abort reports whether transactions abort without an event.
func (c STEConfig) Abort() bool { return c&0b100 == 0 }

// Stage1 reports whether stage 1 translates.
func (c STEConfig) Stage1() bool { return c&0b101 == 0b101 }

// Stage2 reports whether stage 2 translates.
func (c STEConfig) Stage2() bool { return c&0b110 == 0b110 }

// String describes what happens to transactions.
func (c STEConfig) String() string {
	switch {
	case c.Abort():
		return "abort without an event"
	case c.Stage1() && c.Stage2():
		return "stage 1 and stage 2 translate"
	case c.Stage1():
		return "stage 1 translates"
	case c.Stage2():
		return "stage 2 translates"
	}
	return "bypass"
}

// S1Fmt is STE.S1Fmt: the layout of the Context Descriptor table.
type S1Fmt uint8

// Values of STE.S1Fmt.
const (
	S1FmtLinear S1Fmt = 0b00
	S1Fmt4K     S1Fmt = 0b01 // two levels, leaves of 4 KiB: 64 CDs
	S1Fmt64K    S1Fmt = 0b10 // two levels, leaves of 64 KiB: 1024 CDs
)

// String describes the layout.
func (f S1Fmt) String() string {
	return [4]string{"linear", "two-level/4KiB", "two-level/64KiB", "reserved"}[f&3]
}

// S1DSS is STE.S1DSS: the treatment of transactions without a SubstreamID in a stream that has
// substreams.
type S1DSS uint8

// Values of STE.S1DSS.
const (
	S1DSSTerminate  S1DSS = 0b00
	S1DSSBypass     S1DSS = 0b01
	S1DSSSubstream0 S1DSS = 0b10
)

// String describes the treatment.
func (d S1DSS) String() string {
	return [4]string{"terminate", "bypass", "substream 0", "reserved"}[d&3]
}

// EATS is STE.EATS: the stream's use of PCIe ATS.
type EATS uint8

// Values of STE.EATS.
const (
	EATSNone  EATS = 0b00
	EATSFull  EATS = 0b01
	EATSSplit EATS = 0b10 // Translation Requests return the result of stage 1
	EATSDPT   EATS = 0b11 // full, with DPT checks; none without IDR3.DPT
)

// String describes the use of ATS.
func (e EATS) String() string {
	return [4]string{"none", "full", "split", "full with DPT checks"}[e&3]
}

// V reports whether the STE is valid.
func (s *STE) V() bool { return s.get(steV) != 0 }

// Config returns the stages that translate.
func (s *STE) Config() STEConfig { return STEConfig(s.get(steConfig)) }

// S1Fmt returns the layout of the CD table.
func (s *STE) S1Fmt() S1Fmt { return S1Fmt(s.get(steS1Fmt)) }

// S1ContextPtr returns the address of the CD, or of the CD table.
func (s *STE) S1ContextPtr() uint64 { return s.get(steS1ContextPtr) }

// S1CDMax returns log2 of the number of CDs.
func (s *STE) S1CDMax() uint8 { return uint8(s.get(steS1CDMax)) }

// S1DSS returns the treatment of transactions without a SubstreamID.
func (s *STE) S1DSS() S1DSS { return S1DSS(s.get(steS1DSS)) }

// S1CIR returns the inner cacheability of CD fetches.
func (s *STE) S1CIR() uint8 { return uint8(s.get(steS1CIR)) }

// S1COR returns the outer cacheability of CD fetches.
func (s *STE) S1COR() uint8 { return uint8(s.get(steS1COR)) }

// S1CSH returns the shareability of CD fetches.
func (s *STE) S1CSH() uint8 { return uint8(s.get(steS1CSH)) }

// PPAR reports whether automatic PRI responses have a PASID.
func (s *STE) PPAR() bool { return s.get(stePPAR) != 0 }

// MEV reports whether similar events may be merged.
func (s *STE) MEV() bool { return s.get(steMEV) != 0 }

// S1STALLD reports whether stalls of stage 1 are disabled.
func (s *STE) S1STALLD() bool { return s.get(steS1STALLD) != 0 }

// EATS returns the stream's use of ATS.
func (s *STE) EATS() EATS { return EATS(s.get(steEATS)) }

// STRW returns the StreamWorld: 0 for EL1, 2 for EL2.
func (s *STE) STRW() uint8 { return uint8(s.get(steSTRW)) }

// PRIVCFG returns the override of the privilege: 0 for none, 2 for unprivileged, 3 for privileged.
func (s *STE) PRIVCFG() uint8 { return uint8(s.get(stePRIVCFG)) }

// INSTCFG returns the override of instruction or data: 0 for none, 2 for data, 3 for instruction.
func (s *STE) INSTCFG() uint8 { return uint8(s.get(steINSTCFG)) }

// S2VMID returns the VMID.
func (s *STE) S2VMID() VMID { return VMID(s.get(steS2VMID)) }

// SetV makes the STE valid or invalid.
func (s *STE) SetV(v bool) { s.set(steV, b2u(v)) }

// SetConfig sets the stages that translate.
func (s *STE) SetConfig(c STEConfig) { s.set(steConfig, uint64(c)) }

// SetS1Fmt sets the layout of the CD table.
func (s *STE) SetS1Fmt(f S1Fmt) { s.set(steS1Fmt, uint64(f)) }

// SetS1ContextPtr sets the address of the CD, or of the CD table.
func (s *STE) SetS1ContextPtr(a uint64) { s.set(steS1ContextPtr, a) }

// SetS1CDMax sets log2 of the number of CDs.
func (s *STE) SetS1CDMax(n uint8) { s.set(steS1CDMax, uint64(n)) }

// SetS1DSS sets the treatment of transactions without a SubstreamID.
func (s *STE) SetS1DSS(d S1DSS) { s.set(steS1DSS, uint64(d)) }

// SetS1CIR sets the inner cacheability of CD fetches.
func (s *STE) SetS1CIR(v uint8) { s.set(steS1CIR, uint64(v)) }

// SetS1COR sets the outer cacheability of CD fetches.
func (s *STE) SetS1COR(v uint8) { s.set(steS1COR, uint64(v)) }

// SetS1CSH sets the shareability of CD fetches.
func (s *STE) SetS1CSH(v uint8) { s.set(steS1CSH, uint64(v)) }

// SetS1STALLD disables or enables stalls of stage 1.
func (s *STE) SetS1STALLD(v bool) { s.set(steS1STALLD, b2u(v)) }

// SetEATS sets the stream's use of ATS.
func (s *STE) SetEATS(e EATS) { s.set(steEATS, uint64(e)) }

// SetSTRW sets the StreamWorld.
func (s *STE) SetSTRW(v uint8) { s.set(steSTRW, uint64(v)) }

// SetS2VMID sets the VMID.
func (s *STE) SetS2VMID(v VMID) { s.set(steS2VMID, uint64(v)) }

// The rows of §5.2, by the Config that uses them.
var (
	steRows = []row{
		{name: "V", place: steV, mean: oneOf("invalid", "valid")},
		{name: "Config", place: steConfig, mean: stringOf[STEConfig]},
	}
	// steRowsS1 are the fields of a stage 1 that translates.
	steRowsS1 = []row{
		{name: "S1Fmt", place: steS1Fmt, mean: stringOf[S1Fmt]},
		{name: "S1ContextPtr", place: steS1ContextPtr},
		{name: "S1CDMax", place: steS1CDMax, mean: func(v uint64) string {
			if v == 0 {
				return "one Context Descriptor, no substreams"
			}
			return fmt.Sprintf("a table of %d Context Descriptors", uint64(1)<<v)
		}},
		{name: "S1DSS", place: steS1DSS, mean: func(v uint64) string {
			return "without a SubstreamID: " + S1DSS(v).String()
		}},
		{name: "S1CIR", place: steS1CIR, mean: cdCacheability},
		{name: "S1COR", place: steS1COR, mean: cdCacheability},
		{name: "S1CSH", place: steS1CSH, mean: shareability},
	}
	steRowsAny = []row{
		{name: "S2HWU59", place: steS2HWU59},
		{name: "S2HWU60", place: steS2HWU60},
		{name: "S2HWU61", place: steS2HWU61},
		{name: "S2HWU62", place: steS2HWU62},
		{name: "DRE", place: steDRE},
		{name: "CONT", place: steCONT},
		{name: "DCP", place: steDCP},
		{name: "PPAR", place: stePPAR},
		{name: "MEV", place: steMEV, mean: oneOf("events are not merged", "similar events may be merged")},
		{name: "SW_RESERVED", place: steSW, mean: about("for software")},
		{name: "S1PIE", place: steS1PIE},
		{name: "S1MPAM", place: steS1MPAM},
		{name: "S1STALLD", place: steS1STALLD, mean: oneOf("", "faults of stage 1 never stall")},
		{name: "EATS", place: steEATS, mean: stringOf[EATS]},
		{name: "STRW", place: steSTRW, mean: oneOf("EL1", "reserved", "EL2", "reserved")},
		{name: "MemAttr", place: steMemAttr},
		{name: "MTCFG", place: steMTCFG, mean: memoryTypeOverride},
		{name: "ALLOCCFG", place: steALLOCCFG},
		{name: "SHCFG", place: steSHCFG, mean: shareabilityOverride},
		{name: "NSCFG", place: steNSCFG},
		{name: "PRIVCFG", place: stePRIVCFG, mean: privilegeOverride},
		{name: "INSTCFG", place: steINSTCFG, mean: instructionOverride},
		{name: "IMPLEMENTATION DEFINED", place: steImpDef1},
		{name: "S2VMID", place: steS2VMID},
		{name: "IMPLEMENTATION DEFINED", place: steImpDef2},
		{name: "DPT_VMATCH", place: steDPTVMATCH},
		{name: "IMPLEMENTATION DEFINED", place: steImpDef4},
		{name: "PARTID", place: stePARTID},
		{name: "MECID", place: steMECID},
		{name: "PMG", place: stePMG},
		{name: "MPAM_NS", place: steMPAMNS},
		{name: "VMSPtr", place: steVMSPtr},
	}
	// steRowsS2 are the fields of a stage 2 that translates. The names of fields that only Secure
	// streams use begin with S_.
	steRowsS2 = []row{
		{name: "S2FWB", place: steS2FWB},
		{name: "S2T0SZ", place: steS2T0SZ, mean: inputSize},
		{name: "S2SL0", place: steS2SL0},
		{name: "S2IR0", place: steS2IR0, mean: tableCacheability},
		{name: "S2OR0", place: steS2OR0, mean: tableCacheability},
		{name: "S2SH0", place: steS2SH0, mean: shareability},
		{name: "S2TG", place: steS2TG, mean: oneOf("4 KiB", "64 KiB", "16 KiB", "reserved")},
		{name: "S2PS", place: steS2PS, mean: addressSize},
		{name: "S2AA64", place: steS2AA64, mean: oneOf("VMSAv8-32 LPAE tables", "VMSAv8-64 tables")},
		{name: "S2ENDI", place: steS2ENDI, mean: littleOrBig},
		{name: "S2AFFD", place: steS2AFFD, mean: oneOf("a clear Access flag faults", "Access flags never fault")},
		{name: "S2PTW", place: steS2PTW},
		{name: "S2HD", place: steS2HD},
		{name: "S2HA", place: steS2HA},
		{name: "S2S", place: steS2S, mean: oneOf("faults terminate", "faults stall")},
		{name: "S2R", place: steS2R, mean: oneOf("faults are not recorded", "faults are recorded")},
		{name: "S2HAFT", place: steS2HAFT},
		{name: "S2PIE", place: steS2PIE},
		{name: "S2POE", place: steS2POE},
		{name: "S2NSW", place: steS2NSW},
		{name: "S2NSA", place: steS2NSA},
		{name: "S2SL0_2", place: steS2SL02},
		{name: "S2DS", place: steS2DS},
		{name: "S2TTB", place: steS2TTB},
		{name: "S2SKL", place: steS2SKL},
		{name: "S_S2T0SZ", place: steSS2T0SZ},
		{name: "S_S2SL0", place: steSS2SL0},
		{name: "S_S2TG", place: steSS2TG},
		{name: "AssuredOnly", place: steAssuredOnly},
		{name: "TL0", place: steTL0},
		{name: "TL1", place: steTL1},
		{name: "S2SW", place: steS2SW},
		{name: "S2SA", place: steS2SA},
		{name: "S_S2SL0_2", place: steSS2SL02},
		{name: "S_S2TTB", place: steSS2TTB},
		{name: "S_S2SKL", place: steSS2SKL},
		{name: "S2POI", place: steS2POI},
	}
)

func inputSize(v uint64) string { return fmt.Sprintf("addresses of %d bits", 64-v) }

// Fields explains the fields of the STE that have an effect. With V = 0, or a Config that aborts,
// these are V and Config. The fields of a stage are included if the stage translates.
func (s STE) Fields() []Field {
	if !s.V() || s.Config().Abort() {
		return explain(s[:1], steRows)[:len(steRows)]
	}
	rows := [][]row{steRows}
	if s.Config().Stage1() {
		rows = append(rows, steRowsS1)
	}
	rows = append(rows, steRowsAny)
	if s.Config().Stage2() {
		rows = append(rows, steRowsS2)
	}
	return explain(s[:], rows...)
}
