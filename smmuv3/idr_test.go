package smmuv3

import (
	mathbits "math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The fields of the Non-secure ID registers, from bit 0 up (§6.3.1 to §6.3.8).
func TestIDFieldLayout(t *testing.T) {
	want := []struct {
		field IDField
		reg   string
		name  string
		mask  uint32
	}{
		{S2P, "IDR0", "S2P", 0x0000_0001}, {S1P, "IDR0", "S1P", 0x0000_0002}, {TTF, "IDR0", "TTF", 0x0000_000c},
		{COHACC, "IDR0", "COHACC", 0x0000_0010}, {BTM, "IDR0", "BTM", 0x0000_0020}, {HTTU, "IDR0", "HTTU", 0x0000_00c0},
		{DORMHINT, "IDR0", "DORMHINT", 0x0000_0100}, {Hyp, "IDR0", "Hyp", 0x0000_0200}, {ATS, "IDR0", "ATS", 0x0000_0400},
		{NS1ATS, "IDR0", "NS1ATS", 0x0000_0800}, {ASID16, "IDR0", "ASID16", 0x0000_1000}, {MSI, "IDR0", "MSI", 0x0000_2000},
		{SEV, "IDR0", "SEV", 0x0000_4000}, {ATOS, "IDR0", "ATOS", 0x0000_8000}, {PRI, "IDR0", "PRI", 0x0001_0000},
		{VMW, "IDR0", "VMW", 0x0002_0000}, {VMID16, "IDR0", "VMID16", 0x0004_0000}, {CD2L, "IDR0", "CD2L", 0x0008_0000},
		{VATOS, "IDR0", "VATOS", 0x0010_0000}, {TTENDIAN, "IDR0", "TTENDIAN", 0x0060_0000}, {ATSRECERR, "IDR0", "ATSRECERR", 0x0080_0000},
		{StallModel, "IDR0", "STALL_MODEL", 0x0300_0000}, {TermModel, "IDR0", "TERM_MODEL", 0x0400_0000},
		{STLevel, "IDR0", "ST_LEVEL", 0x1800_0000}, {RMEImpl, "IDR0", "RME_IMPL", 0x4000_0000},

		{SIDSIZE, "IDR1", "SIDSIZE", 0x0000_003f}, {SSIDSIZE, "IDR1", "SSIDSIZE", 0x0000_07c0}, {PRIQS, "IDR1", "PRIQS", 0x0000_f800},
		{EVENTQS, "IDR1", "EVENTQS", 0x001f_0000}, {CMDQS, "IDR1", "CMDQS", 0x03e0_0000}, {AttrPermsOvr, "IDR1", "ATTR_PERMS_OVR", 0x0400_0000},
		{AttrTypesOvr, "IDR1", "ATTR_TYPES_OVR", 0x0800_0000}, {REL, "IDR1", "REL", 0x1000_0000}, {QueuesPreset, "IDR1", "QUEUES_PRESET", 0x2000_0000},
		{TablesPreset, "IDR1", "TABLES_PRESET", 0x4000_0000}, {ECMDQ, "IDR1", "ECMDQ", 0x8000_0000},

		{BAVATOS, "IDR2", "BA_VATOS", 0x0000_03ff},

		{HAD, "IDR3", "HAD", 0x0000_0004}, {PBHA, "IDR3", "PBHA", 0x0000_0008}, {XNX, "IDR3", "XNX", 0x0000_0010},
		{PPS, "IDR3", "PPS", 0x0000_0020}, {MPAM, "IDR3", "MPAM", 0x0000_0080}, {FWB, "IDR3", "FWB", 0x0000_0100},
		{STT, "IDR3", "STT", 0x0000_0200}, {RIL, "IDR3", "RIL", 0x0000_0400}, {BBML, "IDR3", "BBML", 0x0000_1800},
		{E0PD, "IDR3", "E0PD", 0x0000_2000}, {PTWNNC, "IDR3", "PTWNNC", 0x0000_4000}, {DPT, "IDR3", "DPT", 0x0000_8000},
		{PASIDTT, "IDR3", "PASIDTT", 0x0001_0000}, {EPAN, "IDR3", "EPAN", 0x0002_0000}, {S1PI, "IDR3", "S1PI", 0x0004_0000},
		{S2PI, "IDR3", "S2PI", 0x0008_0000}, {S2PO, "IDR3", "S2PO", 0x0010_0000}, {THE, "IDR3", "THE", 0x0020_0000},
		{MTEPERM, "IDR3", "MTEPERM", 0x0040_0000}, {AIE, "IDR3", "AIE", 0x0080_0000},

		{OAS, "IDR5", "OAS", 0x0000_0007}, {GRAN4K, "IDR5", "GRAN4K", 0x0000_0010}, {GRAN16K, "IDR5", "GRAN16K", 0x0000_0020},
		{GRAN64K, "IDR5", "GRAN64K", 0x0000_0040}, {DS, "IDR5", "DS", 0x0000_0080}, {D128, "IDR5", "D128", 0x0000_0100},
		{VAX, "IDR5", "VAX", 0x0000_0c00}, {StallMax, "IDR5", "STALL_MAX", 0xffff_0000},

		{Implementer, "IIDR", "Implementer", 0x0000_0fff}, {Revision, "IIDR", "Revision", 0x0000_f000},
		{Variant, "IIDR", "Variant", 0x000f_0000}, {ProductID, "IIDR", "ProductID", 0xfff0_0000},
		{ArchMinor, "AIDR", "ArchMinor", 0x0000_000f}, {ArchMajor, "AIDR", "ArchMajor", 0x0000_00f0},
	}
	register := func(r *IDRegs, name string) *uint32 {
		switch name {
		case "IIDR":
			return &r.IIDR
		case "AIDR":
			return &r.AIDR
		}
		return &r.IDR[name[3]-'0']
	}

	require.Len(t, IDFields(), len(want))
	for i, w := range want {
		t.Run(w.name, func(t *testing.T) {
			most := w.mask >> mathbits.TrailingZeros32(w.mask)
			assert.Equal(t, w.field, IDFields()[i], "the order of the list")
			assert.Equal(t, w.name, w.field.String())
			assert.Equal(t, w.reg, w.field.Register())
			assert.Equal(t, most, w.field.Max())

			var only IDRegs
			*register(&only, w.reg) = w.mask
			ones := IDRegs{[6]uint32{^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0), ^uint32(0)}, ^uint32(0), ^uint32(0)}
			others := ones
			*register(&others, w.reg) = ^w.mask
			assert.Equal(t, most, only.Get(w.field))
			assert.True(t, only.Has(w.field))
			assert.Zero(t, others.Get(w.field))
			assert.False(t, others.Has(w.field))

			var r IDRegs
			r.Set(w.field, ^uint32(0))
			assert.Equal(t, only, r, "set in zeros, cut to the field")
			r = ones
			r.Set(w.field, 0)
			assert.Equal(t, others, r, "cleared in ones")
		})
	}
	assert.Equal(t, "IDField(200)", IDField(200).String())
}

// The values of whole registers follow §6.3.1 to §6.3.8. IIDR identifies an Arm MMU-600.
func TestIDRegs_Get(t *testing.T) {
	r := IDRegs{IDR: [6]uint32{0x0948_101a, 0x0273_0510, 0, 0x0000_0c00, 0, 0x0080_0075}, IIDR: 0x4830_043b, AIDR: 0x02}
	for f, want := range map[IDField]uint32{
		S1P: 1, S2P: 0, TTF: TTFAArch64, COHACC: 1, ASID16: 1, CD2L: 1, TTENDIAN: TTENDIANLittle, StallModel: StallTerminate, STLevel: 1,
		SIDSIZE: 16, SSIDSIZE: 20, EVENTQS: 19, CMDQS: 19, PRIQS: 0,
		RIL: 1, BBML: 1, HAD: 0,
		OAS: 5, GRAN4K: 1, GRAN16K: 1, GRAN64K: 1, VAX: 0, StallMax: 128,
		Implementer: 0x43b, ProductID: 0x483, Variant: 0, Revision: 0,
		ArchMinor: 2, ArchMajor: 0,
	} {
		assert.Equal(t, want, r.Get(f), "%v", f)
	}
	assert.Equal(t, uint(48), r.OutputBits())
	assert.Equal(t, uint64(0xffff_ffff_ffff), r.OutputMask())
	assert.Equal(t, uint32(2), r.Version())
}

// The encodings of address sizes (§6.3.6, OAS).
func TestAddrBits(t *testing.T) {
	for enc, want := range []uint{32, 36, 40, 42, 44, 48, 52, 56} {
		assert.Equal(t, want, AddrBits(uint32(enc)))
		r := ids(OAS, enc)
		assert.Equal(t, uint64(1)<<want-1, r.OutputMask())
	}
}

// The encodings of §6.3.1.
func TestIDREncodings(t *testing.T) {
	assert.EqualValues(t, []int{0b01, 0b10}, []int{TTFAArch32, TTFAArch64})
	assert.EqualValues(t, []int{0b00, 0b10, 0b11}, []int{TTENDIANMixed, TTENDIANLittle, TTENDIANBig})
	assert.EqualValues(t, []int{0b00, 0b01, 0b10}, []int{StallBoth, StallTerminate, StallForced})
}
