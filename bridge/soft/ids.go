package soft

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// DefaultIDs are the ID registers of a software SMMU for 48-bit addresses (§6.3.1 to
// §6.3.8). They have all that this package carries out, except
//
//   - stage 2: see Stage2IDs;
//   - stalls: STALL_MODEL 0b00 or 0b10, with as many in STALL_MAX as may stall at a
//     time;
//   - ATS, with PRI or not, which does not go with stage 2;
//   - flags of tables, HTTU 0b11, which older Linux takes for no flags at all;
//   - more address bits: OAS 0b110, VAX 0b01, DS 1.
//
// An embedder who wants one of these sets it, and passes the registers as Config.IDs.
// HTTU takes memory that is a guestmem.Swapper.
func DefaultIDs() smmuv3.IDRegs {
	var r smmuv3.IDRegs
	for f, v := range map[smmuv3.IDField]uint32{
		smmuv3.S1P:        1,
		smmuv3.TTF:        smmuv3.TTFAArch64,
		smmuv3.COHACC:     1,
		smmuv3.HTTU:       httuDirty,
		smmuv3.ASID16:     1,
		smmuv3.CD2L:       1,
		smmuv3.TTENDIAN:   smmuv3.TTENDIANMixed,
		smmuv3.StallModel: smmuv3.StallTerminate,
		smmuv3.STLevel:    1,
		smmuv3.SIDSIZE:    32,
		smmuv3.SSIDSIZE:   20,
		smmuv3.HAD:        1,
		smmuv3.STT:        1,
		smmuv3.RIL:        1,
		smmuv3.BBML:       2,
		smmuv3.E0PD:       1,
		smmuv3.EPAN:       1,
		smmuv3.OAS:        oas48,
		smmuv3.GRAN4K:     1,
		smmuv3.GRAN16K:    1,
		smmuv3.GRAN64K:    1,
		smmuv3.ArchMinor:  2,
	} {
		r.Set(f, v)
	}
	return r
}

// Stage2IDs are DefaultIDs with a stage 2 as well, for guests that are hypervisors: an
// idr.Policy has to ask for it, too.
func Stage2IDs() smmuv3.IDRegs {
	r := DefaultIDs()
	for _, f := range []smmuv3.IDField{smmuv3.S2P, smmuv3.VMID16, smmuv3.XNX, smmuv3.FWB, smmuv3.PTWNNC} {
		r.Set(f, 1)
	}
	return r
}

// Values of IDR5.OAS.
const (
	oas48 = 5
	oas52 = 6
)

// Values of IDR0.HTTU: flags and dirty state of pages and blocks, and flags of
// tables, too.
const (
	httuDirty  = 2
	httuTables = 3
)

// limits are, of the fields that say what an SMMU does with a transaction, the
// largest values that this package carries out; a field that is not here must
// be 0. TTF, TTENDIAN and STALL_MODEL are no quantities, and judged apart.
var limits = map[smmuv3.IDField]uint32{
	smmuv3.S1P: 1, smmuv3.S2P: 1, smmuv3.VMID16: 1, smmuv3.COHACC: 1, smmuv3.HTTU: httuTables, smmuv3.ASID16: 1, smmuv3.CD2L: 1,
	smmuv3.ATS: 1, smmuv3.TermModel: 1, smmuv3.SSIDSIZE: 20,
	smmuv3.XNX: 1, smmuv3.FWB: 1, smmuv3.PTWNNC: 1,
	smmuv3.HAD: 1, smmuv3.STT: 1, smmuv3.RIL: 1, smmuv3.BBML: 2, smmuv3.E0PD: 1, smmuv3.EPAN: 1,
	smmuv3.StallMax: 1<<16 - 1,
	smmuv3.OAS:      oas52, smmuv3.GRAN4K: 1, smmuv3.GRAN16K: 1, smmuv3.GRAN64K: 1, smmuv3.VAX: 1, smmuv3.DS: 1,
}

// notOurs are the fields that promise nothing about transactions: the virtual
// device carries them out, or they only inform.
var notOurs = map[smmuv3.IDField]bool{
	smmuv3.DORMHINT: true, smmuv3.MSI: true, smmuv3.SEV: true, smmuv3.STLevel: true,
	smmuv3.SIDSIZE: true, smmuv3.PRIQS: true, smmuv3.EVENTQS: true, smmuv3.CMDQS: true,
	smmuv3.REL: true, smmuv3.QueuesPreset: true, smmuv3.TablesPreset: true, smmuv3.BAVATOS: true,
	smmuv3.Implementer: true, smmuv3.Revision: true, smmuv3.Variant: true, smmuv3.ProductID: true,
	smmuv3.ArchMinor: true, smmuv3.ArchMajor: true,
}

// checkIDs refuses ID registers that promise more than is carried out.
func checkIDs(r smmuv3.IDRegs) error {
	for _, f := range smmuv3.IDFields() {
		v := r.Get(f)
		ok := v <= limits[f]
		switch f {
		case smmuv3.TTF:
			ok = v == smmuv3.TTFAArch64
		case smmuv3.TTENDIAN:
			ok = v != 1 // reserved
		case smmuv3.StallModel:
			ok = v == smmuv3.StallTerminate || v <= smmuv3.StallForced && r.Get(smmuv3.StallMax) != 0
		case smmuv3.ATS:
			ok = v == 0 || !r.Has(smmuv3.S2P) // split-stage ATS would be promised, too
		case smmuv3.PRI:
			ok = v == 0 || r.Has(smmuv3.ATS)
		case smmuv3.StallMax:
			ok = v == 0 || r.Get(smmuv3.StallModel) != smmuv3.StallTerminate
		}
		if !ok && !notOurs[f] {
			return fmt.Errorf("soft: %s.%v = %d is not carried out", f.Register(), f, v)
		}
	}
	return nil
}
