package smmuv3

import "fmt"

// IDRegs holds the identification registers (§6.3.1 to §6.3.8) of a host's SMMU, or of the SMMU
// that a guest reads. Values compare with ==.
type IDRegs struct {
	IDR  [6]uint32 // IDR0 to IDR5
	IIDR uint32
	AIDR uint32
}

// IDField identifies a field of the identification registers. The zero value is S2P.
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

// The registers of fields: 0 to 5 are IDR0 to IDR5.
const (
	regIIDR = 6
	regAIDR = 7
)

// idRow is a field of the ID registers. Its place is in the register.
type idRow struct {
	reg uint8
	row
}

var idFields = [numIDFields]idRow{
	// IDR0 (§6.3.1).
	S2P: {0, row{name: "S2P", place: 0 + wide, mean: noOrYes}},
	S1P: {0, row{name: "S1P", place: 1 + wide, mean: noOrYes}},
	TTF: {0, row{name: "TTF", place: 2 + 2*wide,
		mean: oneOf("none", "AArch32", "AArch64", "AArch32 and AArch64")}},
	COHACC: {0, row{name: "COHACC", place: 4 + wide, mean: noOrYes}},
	BTM:    {0, row{name: "BTM", place: 5 + wide, mean: noOrYes}},
	HTTU: {0, row{name: "HTTU", place: 6 + 2*wide,
		mean: oneOf("none", "Access flag", "Access flag and dirty state",
			"Access flag, also of tables, and dirty state")}},
	DORMHINT: {0, row{name: "DORMHINT", place: 8 + wide, mean: noOrYes}},
	Hyp:      {0, row{name: "Hyp", place: 9 + wide, mean: noOrYes}},
	ATS:      {0, row{name: "ATS", place: 10 + wide, mean: noOrYes}},
	NS1ATS:   {0, row{name: "NS1ATS", place: 11 + wide, mean: noOrYes}},
	ASID16:   {0, row{name: "ASID16", place: 12 + wide, mean: noOrYes}},
	MSI:      {0, row{name: "MSI", place: 13 + wide, mean: noOrYes}},
	SEV:      {0, row{name: "SEV", place: 14 + wide, mean: noOrYes}},
	ATOS:     {0, row{name: "ATOS", place: 15 + wide, mean: noOrYes}},
	PRI:      {0, row{name: "PRI", place: 16 + wide, mean: noOrYes}},
	VMW:      {0, row{name: "VMW", place: 17 + wide, mean: noOrYes}},
	VMID16:   {0, row{name: "VMID16", place: 18 + wide, mean: noOrYes}},
	CD2L:     {0, row{name: "CD2L", place: 19 + wide, mean: noOrYes}},
	VATOS:    {0, row{name: "VATOS", place: 20 + wide, mean: noOrYes}},
	TTENDIAN: {0, row{name: "TTENDIAN", place: 21 + 2*wide,
		mean: oneOf("mixed", "reserved", "little-endian", "big-endian")}},
	ATSRECERR: {0, row{name: "ATSRECERR", place: 23 + wide, mean: noOrYes}},
	StallModel: {0, row{name: "STALL_MODEL", place: 24 + 2*wide,
		mean: oneOf("stall and terminate", "terminate only", "stall only", "reserved")}},
	TermModel: {0, row{name: "TERM_MODEL", place: 26 + wide,
		mean: oneOf("abort, or read zero and ignore writes", "abort only")}},
	STLevel: {0, row{name: "ST_LEVEL", place: 27 + 2*wide,
		mean: oneOf("linear", "linear and two-level", "reserved", "reserved")}},
	RMEImpl: {0, row{name: "RME_IMPL", place: 30 + wide, mean: noOrYes}},

	// IDR1 (§6.3.2).
	SIDSIZE: {1, row{name: "SIDSIZE", place: 0 + 6*wide, mean: func(v uint64) string {
		return fmt.Sprintf("%d bits of StreamID", v)
	}}},
	SSIDSIZE:     {1, row{name: "SSIDSIZE", place: 6 + 5*wide, mean: substreamBits}},
	PRIQS:        {1, row{name: "PRIQS", place: 11 + 5*wide, mean: entries}},
	EVENTQS:      {1, row{name: "EVENTQS", place: 16 + 5*wide, mean: entries}},
	CMDQS:        {1, row{name: "CMDQS", place: 21 + 5*wide, mean: entries}},
	AttrPermsOvr: {1, row{name: "ATTR_PERMS_OVR", place: 26 + wide, mean: noOrYes}},
	AttrTypesOvr: {1, row{name: "ATTR_TYPES_OVR", place: 27 + wide, mean: noOrYes}},
	REL:          {1, row{name: "REL", place: 28 + wide, mean: noOrYes}},
	QueuesPreset: {1, row{name: "QUEUES_PRESET", place: 29 + wide, mean: noOrYes}},
	TablesPreset: {1, row{name: "TABLES_PRESET", place: 30 + wide, mean: noOrYes}},
	ECMDQ:        {1, row{name: "ECMDQ", place: 31 + wide, mean: noOrYes}},

	// IDR2 (§6.3.3).
	BAVATOS: {2, row{name: "BA_VATOS", place: 0 + 10*wide}},

	// IDR3 (§6.3.4).
	HAD:     {3, row{name: "HAD", place: 2 + wide, mean: noOrYes}},
	PBHA:    {3, row{name: "PBHA", place: 3 + wide, mean: noOrYes}},
	XNX:     {3, row{name: "XNX", place: 4 + wide, mean: noOrYes}},
	PPS:     {3, row{name: "PPS", place: 5 + wide, mean: noOrYes}},
	MPAM:    {3, row{name: "MPAM", place: 7 + wide, mean: noOrYes}},
	FWB:     {3, row{name: "FWB", place: 8 + wide, mean: noOrYes}},
	STT:     {3, row{name: "STT", place: 9 + wide, mean: noOrYes}},
	RIL:     {3, row{name: "RIL", place: 10 + wide, mean: noOrYes}},
	BBML:    {3, row{name: "BBML", place: 11 + 2*wide, mean: oneOf("level 0", "level 1", "level 2", "reserved")}},
	E0PD:    {3, row{name: "E0PD", place: 13 + wide, mean: noOrYes}},
	PTWNNC:  {3, row{name: "PTWNNC", place: 14 + wide, mean: noOrYes}},
	DPT:     {3, row{name: "DPT", place: 15 + wide, mean: noOrYes}},
	PASIDTT: {3, row{name: "PASIDTT", place: 16 + wide, mean: noOrYes}},
	EPAN:    {3, row{name: "EPAN", place: 17 + wide, mean: noOrYes}},
	S1PI:    {3, row{name: "S1PI", place: 18 + wide, mean: noOrYes}},
	S2PI:    {3, row{name: "S2PI", place: 19 + wide, mean: noOrYes}},
	S2PO:    {3, row{name: "S2PO", place: 20 + wide, mean: noOrYes}},
	THE:     {3, row{name: "THE", place: 21 + wide, mean: noOrYes}},
	MTEPERM: {3, row{name: "MTEPERM", place: 22 + wide, mean: noOrYes}},
	AIE:     {3, row{name: "AIE", place: 23 + wide, mean: noOrYes}},

	// IDR5 (§6.3.6).
	OAS:     {5, row{name: "OAS", place: 0 + 3*wide, mean: addressSize}},
	GRAN4K:  {5, row{name: "GRAN4K", place: 4 + wide, mean: noOrYes}},
	GRAN16K: {5, row{name: "GRAN16K", place: 5 + wide, mean: noOrYes}},
	GRAN64K: {5, row{name: "GRAN64K", place: 6 + wide, mean: noOrYes}},
	DS:      {5, row{name: "DS", place: 7 + wide, mean: noOrYes}},
	D128:    {5, row{name: "D128", place: 8 + wide, mean: noOrYes}},
	VAX: {5, row{name: "VAX", place: 10 + 2*wide,
		mean: oneOf("48-bit addresses", "52-bit addresses", "56-bit addresses", "reserved")}},
	StallMax: {5, row{name: "STALL_MAX", place: 16 + 16*wide}},

	// IIDR (§6.3.7).
	Implementer: {regIIDR, row{name: "Implementer", place: 0 + 12*wide}},
	Revision:    {regIIDR, row{name: "Revision", place: 12 + 4*wide}},
	Variant:     {regIIDR, row{name: "Variant", place: 16 + 4*wide}},
	ProductID:   {regIIDR, row{name: "ProductID", place: 20 + 12*wide}},

	// AIDR (§6.3.8).
	ArchMinor: {regAIDR, row{name: "ArchMinor", place: 0 + 4*wide, mean: func(v uint64) string {
		return fmt.Sprintf("SMMUv3.%d", v)
	}}},
	ArchMajor: {regAIDR, row{name: "ArchMajor", place: 4 + 4*wide}},
}

// IDFields returns every field, in the order of the registers and of their bits.
func IDFields() []IDField {
	all := make([]IDField, numIDFields)
	for i := range all {
		all[i] = IDField(i)
	}
	return all
}

// row returns the field's row. The row of an invalid field has no bits.
func (f IDField) row() *idRow {
	if f >= numIDFields {
		return &noField
	}
	return &idFields[f]
}

var noField idRow

func entries(v uint64) string { return fmt.Sprintf("up to %d entries", uint64(1)<<v) }

func substreamBits(v uint64) string {
	if v == 0 {
		return "no substreams"
	}
	return fmt.Sprintf("%d bits of SubstreamID", v)
}

var noOrYes = oneOf("no", "yes")

// String returns the specification's name of the field, without its register.
func (f IDField) String() string {
	if f >= numIDFields {
		return fmt.Sprintf("IDField(%d)", uint8(f))
	}
	return idFields[f].name
}

// MarshalText implements encoding.TextMarshaler. It returns the result of String.
func (f IDField) MarshalText() ([]byte, error) { return []byte(f.String()), nil }

// Register returns the name of the field's register: "IDR0" to "IDR5", "IIDR" or "AIDR".
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

// Bits returns the field's last and first bit in its register.
func (f IDField) Bits() (hi, lo uint) {
	p := f.row().place
	return max(p.hi(), p.lo()), p.lo()
}

// Max returns the largest value that fits into the field.
func (f IDField) Max() uint32 { return 1<<f.row().width() - 1 }

// Meaning describes a value of the field. It is "" for plain numbers.
func (f IDField) Meaning(v uint32) string {
	if mean := f.row().mean; mean != nil {
		return mean(uint64(v))
	}
	return ""
}

func (r *IDRegs) word(reg uint8) *uint32 {
	switch reg {
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
	return uint32(d.of(uint64(*r.word(d.reg))))
}

// Has reports whether a field is not zero.
func (r IDRegs) Has(f IDField) bool { return r.Get(f) != 0 }

// Set sets a field to v, truncated to the field's width.
func (r *IDRegs) Set(f IDField, v uint32) {
	d := f.row()
	w := r.word(d.reg)
	*w = uint32(d.in(uint64(*w), uint64(v)))
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
	StallBoth      = 0 // CD.S and STE.S2S select
	StallTerminate = 1 // faults always terminate
	StallForced    = 2 // faults always stall
)

// AddrBits returns the number of bits that an address size encodes, as in IDR5.OAS,
// CD.IPS and STE.S2PS: 32, 36, 40, 42, 44, 48, 52 or 56.
func AddrBits(enc uint32) uint {
	return uint([8]uint8{32, 36, 40, 42, 44, 48, 52, 56}[enc&7])
}

// OutputBits returns the SMMU's output address size in bits (IDR5.OAS).
func (r IDRegs) OutputBits() uint { return AddrBits(r.Get(OAS)) }

// IPABits returns the size of the largest IPA in bits, which the specification calls IAS (§3.4).
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

// tableMask returns the bits that a CD or STE holds of the address of a VMSAv8-64 table. Bits
// [51:48] are RES0 in SMMUv3.0, bits [55:52] in every version (§5.2, S2TTB; §5.4, TTB0).
func (r *IDRegs) tableMask() uint64 {
	if r.Version() == 0 {
		return 1<<48 - 1
	}
	return 1<<52 - 1
}

// OutputMask returns the bits of an address within the output address size.
func (r IDRegs) OutputMask() uint64 { return 1<<r.OutputBits() - 1 }

// Version returns the minor version of the architecture: 0 for SMMUv3.0 to 4 for SMMUv3.4.
func (r IDRegs) Version() uint32 { return r.Get(ArchMinor) }
