package smmuv3

import "fmt"

// IDRegs are the identification registers as their reader sees them (§6.3.1 to
// §6.3.8): what a host's SMMU is, and what a guest's is told to be.
// They compare with ==.
type IDRegs struct {
	IDR  [6]uint32 // IDR0 to IDR5
	IIDR uint32
	AIDR uint32
}

// IDField names a field of the identification registers.
type IDField uint8

// The fields of IDR0 (§6.3.1).
const (
	S2P IDField = iota
	S1P
	TTF
	COHACC
	BTM
	HTTU
	DORMHINT
	Hyp
	ATS
	NS1ATS
	ASID16
	MSI
	SEV
	ATOS
	PRI
	VMW
	VMID16
	CD2L
	VATOS
	TTENDIAN
	ATSRECERR
	StallModel
	TermModel
	STLevel
	RMEImpl

	// IDR1 (§6.3.2).
	SIDSIZE
	SSIDSIZE
	PRIQS
	EVENTQS
	CMDQS
	AttrPermsOvr
	AttrTypesOvr
	REL
	QueuesPreset
	TablesPreset
	ECMDQ

	// IDR2 (§6.3.3).
	BAVATOS

	// IDR3 (§6.3.4).
	HAD
	PBHA
	XNX
	PPS
	MPAM
	FWB
	STT
	RIL
	BBML
	E0PD
	PTWNNC
	DPT
	PASIDTT
	EPAN
	S1PI
	S2PI
	S2PO
	THE
	MTEPERM
	AIE

	// IDR5 (§6.3.6). IDR4 is IMPLEMENTATION DEFINED.
	OAS
	GRAN4K
	GRAN16K
	GRAN64K
	DS
	D128
	VAX
	StallMax

	// IIDR (§6.3.7).
	Implementer
	Revision
	Variant
	ProductID

	// AIDR (§6.3.8).
	ArchMinor
	ArchMajor

	numIDFields
)

// The identification registers as rows of idFields name them: 0 to 5 are IDR0
// to IDR5.
const (
	regIIDR = 6
	regAIDR = 7
)

type idRow struct {
	name          string
	reg, lo, wide uint8
}

var idFields = [numIDFields]idRow{
	S2P: {"S2P", 0, 0, 1}, S1P: {"S1P", 0, 1, 1}, TTF: {"TTF", 0, 2, 2}, COHACC: {"COHACC", 0, 4, 1},
	BTM: {"BTM", 0, 5, 1}, HTTU: {"HTTU", 0, 6, 2}, DORMHINT: {"DORMHINT", 0, 8, 1}, Hyp: {"Hyp", 0, 9, 1},
	ATS: {"ATS", 0, 10, 1}, NS1ATS: {"NS1ATS", 0, 11, 1}, ASID16: {"ASID16", 0, 12, 1}, MSI: {"MSI", 0, 13, 1},
	SEV: {"SEV", 0, 14, 1}, ATOS: {"ATOS", 0, 15, 1}, PRI: {"PRI", 0, 16, 1}, VMW: {"VMW", 0, 17, 1},
	VMID16: {"VMID16", 0, 18, 1}, CD2L: {"CD2L", 0, 19, 1}, VATOS: {"VATOS", 0, 20, 1}, TTENDIAN: {"TTENDIAN", 0, 21, 2},
	ATSRECERR: {"ATSRECERR", 0, 23, 1}, StallModel: {"STALL_MODEL", 0, 24, 2}, TermModel: {"TERM_MODEL", 0, 26, 1},
	STLevel: {"ST_LEVEL", 0, 27, 2}, RMEImpl: {"RME_IMPL", 0, 30, 1},

	SIDSIZE: {"SIDSIZE", 1, 0, 6}, SSIDSIZE: {"SSIDSIZE", 1, 6, 5}, PRIQS: {"PRIQS", 1, 11, 5}, EVENTQS: {"EVENTQS", 1, 16, 5},
	CMDQS: {"CMDQS", 1, 21, 5}, AttrPermsOvr: {"ATTR_PERMS_OVR", 1, 26, 1}, AttrTypesOvr: {"ATTR_TYPES_OVR", 1, 27, 1},
	REL: {"REL", 1, 28, 1}, QueuesPreset: {"QUEUES_PRESET", 1, 29, 1}, TablesPreset: {"TABLES_PRESET", 1, 30, 1}, ECMDQ: {"ECMDQ", 1, 31, 1},

	BAVATOS: {"BA_VATOS", 2, 0, 10},

	HAD: {"HAD", 3, 2, 1}, PBHA: {"PBHA", 3, 3, 1}, XNX: {"XNX", 3, 4, 1}, PPS: {"PPS", 3, 5, 1}, MPAM: {"MPAM", 3, 7, 1},
	FWB: {"FWB", 3, 8, 1}, STT: {"STT", 3, 9, 1}, RIL: {"RIL", 3, 10, 1}, BBML: {"BBML", 3, 11, 2}, E0PD: {"E0PD", 3, 13, 1},
	PTWNNC: {"PTWNNC", 3, 14, 1}, DPT: {"DPT", 3, 15, 1}, PASIDTT: {"PASIDTT", 3, 16, 1}, EPAN: {"EPAN", 3, 17, 1},
	S1PI: {"S1PI", 3, 18, 1}, S2PI: {"S2PI", 3, 19, 1}, S2PO: {"S2PO", 3, 20, 1}, THE: {"THE", 3, 21, 1},
	MTEPERM: {"MTEPERM", 3, 22, 1}, AIE: {"AIE", 3, 23, 1},

	OAS: {"OAS", 5, 0, 3}, GRAN4K: {"GRAN4K", 5, 4, 1}, GRAN16K: {"GRAN16K", 5, 5, 1}, GRAN64K: {"GRAN64K", 5, 6, 1},
	DS: {"DS", 5, 7, 1}, D128: {"D128", 5, 8, 1}, VAX: {"VAX", 5, 10, 2}, StallMax: {"STALL_MAX", 5, 16, 16},

	Implementer: {"Implementer", regIIDR, 0, 12}, Revision: {"Revision", regIIDR, 12, 4},
	Variant: {"Variant", regIIDR, 16, 4}, ProductID: {"ProductID", regIIDR, 20, 12},

	ArchMinor: {"ArchMinor", regAIDR, 0, 4}, ArchMajor: {"ArchMajor", regAIDR, 4, 4},
}

// IDFields lists every field, in the order of the registers and of the bits in
// them.
func IDFields() []IDField {
	all := make([]IDField, numIDFields)
	for i := range all {
		all[i] = IDField(i)
	}
	return all
}

// row returns the field's row. A value that is no field has no bits.
func (f IDField) row() *idRow {
	if f >= numIDFields {
		return &noField
	}
	return &idFields[f]
}

var noField idRow

// String is the specification's name of the field, without its register.
func (f IDField) String() string {
	if f >= numIDFields {
		return fmt.Sprintf("IDField(%d)", uint8(f))
	}
	return idFields[f].name
}

// Register names the register that the field stands in: "IDR0" to "IDR5",
// "IIDR" or "AIDR".
func (f IDField) Register() string {
	switch r := f.row().reg; r {
	case regIIDR:
		return "IIDR"
	case regAIDR:
		return "AIDR"
	default:
		return fmt.Sprintf("IDR%d", r)
	}
}

// Max is the largest value that fits into the field.
func (f IDField) Max() uint32 { return 1<<f.row().wide - 1 }

func (r *IDRegs) word(f IDField) *uint32 {
	switch reg := f.row().reg; reg {
	case regIIDR:
		return &r.IIDR
	case regAIDR:
		return &r.AIDR
	default:
		return &r.IDR[reg]
	}
}

// Get returns the value of a field.
func (r IDRegs) Get(f IDField) uint32 {
	d := f.row()
	return uint32(bits(uint64(*r.word(f)), uint(d.lo), uint(d.wide)))
}

// Has reports whether a field is other than zero.
func (r IDRegs) Has(f IDField) bool { return r.Get(f) != 0 }

// Set replaces the value of a field, cut to the field's width.
func (r *IDRegs) Set(f IDField, v uint32) {
	d, w := f.row(), r.word(f)
	*w = uint32(setBits(uint64(*w), uint(d.lo), uint(d.wide), uint64(v)))
}

// Values of IDR0.TTF.
const (
	TTFAArch32 = 1 << 0
	TTFAArch64 = 1 << 1
)

// Values of IDR0.TTENDIAN.
const (
	TTENDIANMixed  = 0
	TTENDIANLittle = 2
	TTENDIANBig    = 3
)

// Values of IDR0.STALL_MODEL.
const (
	StallBoth      = 0 // CD.S and STE.S1STALLD choose
	StallTerminate = 1 // a fault always terminates
	StallForced    = 2 // a fault always stalls
)

// AddrBits is the width in bits of an address size encoding, as in IDR5.OAS,
// CD.IPS and STE.S2PS: 32, 36, 40, 42, 44, 48, 52 or 56.
func AddrBits(enc uint32) uint {
	return uint([8]uint8{32, 36, 40, 42, 44, 48, 52, 56}[enc&7])
}

// OutputBits is the SMMU's output address size in bits (IDR5.OAS).
func (r IDRegs) OutputBits() uint { return AddrBits(r.Get(OAS)) }

// IPABits is the size of the largest IPA, in bits: what the specification calls
// IAS (§3.4).
func (r IDRegs) IPABits() uint {
	size := uint(0)
	if r.Get(TTF)&TTFAArch32 != 0 {
		size = 40
	}
	if r.Get(TTF)&TTFAArch64 != 0 {
		size = max(size, r.OutputBits())
	}
	return size
}

// tableMask covers the addresses that a TTB field of a CD or STE can hold: bits
// [51:48] came with SMMUv3.1, and before that were RES0 (§5.2, S2TTB; §5.4, TTB0).
func (r *IDRegs) tableMask() uint64 {
	if r.Version() == 0 {
		return 1<<48 - 1
	}
	return 1<<52 - 1
}

// OutputMask covers the addresses that fit the output address size.
func (r IDRegs) OutputMask() uint64 { return 1<<r.OutputBits() - 1 }

// Version is the architecture version that AIDR promises, 0 for SMMUv3.0 to 4
// for SMMUv3.4.
func (r IDRegs) Version() uint32 { return r.Get(ArchMinor) }

// MarshalText is String.
func (f IDField) MarshalText() ([]byte, error) { return []byte(f.String()), nil }
