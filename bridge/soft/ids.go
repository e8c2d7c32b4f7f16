package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// DefaultIDs returns the ID registers of a software SMMU for 48-bit addresses (§6.3.1 to
// §6.3.8). They offer all features that this package implements, except
//
//   - stage 2: see Stage2IDs;
//   - stalls: STALL_MODEL 0b00 or 0b10, with the largest number of stalled transactions in
//     STALL_MAX (idr.Derive refuses a host with 0b10, forced stalls);
//   - ATS, with or without PRI; with both stages it needs NS1ATS 1, since there is no split-stage
//     ATS;
//   - Access flags of tables, HTTU 0b11, which older Linux treats as no HTTU at all;
//   - addresses of 52 bits: OAS 0b110, VAX 0b01, DS 1.
//
// To offer one of these, set its field and pass the registers as Config.IDs. HTTU requires memory
// that is a guestmem.Swapper.
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
		smmuv3.FWB:        1, // from SMMUv3.2 on, with or without stage 2
		smmuv3.OAS:        oas48,
		smmuv3.GRAN4K:     1,
		smmuv3.GRAN16K:    1,
		smmuv3.GRAN64K:    1,
		smmuv3.ArchMinor:  4,
	} {
		r.Set(f, v)
	}
	return r
}

// Stage2IDs returns DefaultIDs with stage 2, for guests that are hypervisors. The guest gets stage
// 2 only if the device's idr.Policy asks for it.
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

// Values of IDR0.HTTU.
const (
	httuDirty  = 2 // Access flag and dirty state of pages and blocks
	httuTables = 3 // and the Access flag of tables
)

// limits holds the largest value that this package implements, for each field that affects
// transactions. A field without a limit must be 0. TTF, TTENDIAN and STALL_MODEL are not ordered:
// checkOffer has their rules.
var limits = map[smmuv3.IDField]uint32{
	smmuv3.S1P: 1, smmuv3.S2P: 1, smmuv3.VMID16: 1, smmuv3.COHACC: 1, smmuv3.HTTU: httuTables,
	smmuv3.ASID16: 1, smmuv3.CD2L: 1, smmuv3.ATS: 1, smmuv3.NS1ATS: 1, smmuv3.TermModel: 1, smmuv3.SSIDSIZE: 20,
	smmuv3.XNX: 1, smmuv3.FWB: 1, smmuv3.PTWNNC: 1,
	smmuv3.HAD: 1, smmuv3.STT: 1, smmuv3.RIL: 1, smmuv3.BBML: 2, smmuv3.E0PD: 1, smmuv3.EPAN: 1,
	smmuv3.StallMax: 1<<16 - 1,
	smmuv3.OAS:      oas52, smmuv3.GRAN4K: 1, smmuv3.GRAN16K: 1, smmuv3.GRAN64K: 1, smmuv3.VAX: 1, smmuv3.DS: 1,
}

// deviceFields are the fields that do not affect transactions. The virtual device implements them,
// or they are informative.
var deviceFields = map[smmuv3.IDField]bool{
	smmuv3.DORMHINT: true, smmuv3.MSI: true, smmuv3.SEV: true, smmuv3.STLevel: true,
	smmuv3.SIDSIZE: true, smmuv3.PRIQS: true, smmuv3.EVENTQS: true, smmuv3.CMDQS: true,
	smmuv3.REL: true, smmuv3.QueuesPreset: true, smmuv3.TablesPreset: true, smmuv3.BAVATOS: true,
	smmuv3.Implementer: true, smmuv3.Revision: true, smmuv3.Variant: true, smmuv3.ProductID: true,
}

// checkOffer returns an error if a host cannot offer these ID registers.
func checkOffer(r smmuv3.IDRegs) error {
	for _, f := range smmuv3.IDFields() {
		v := r.Get(f)
		ok, why := v <= limits[f] || deviceFields[f], "is not implemented"
		switch f {
		case smmuv3.ArchMinor, smmuv3.ArchMajor:
			ok = true
		case smmuv3.TTF:
			ok = v == smmuv3.TTFAArch64
		case smmuv3.TTENDIAN:
			ok = v != 1 // reserved
		case smmuv3.StallModel:
			ok = v == smmuv3.StallTerminate || v <= smmuv3.StallForced && r.Get(smmuv3.StallMax) != 0
			if v <= smmuv3.StallForced {
				why = "requires STALL_MAX of 1 or more (§6.3.6)"
			}
		case smmuv3.ATS:
			ok = v == 0 || !r.Has(smmuv3.S2P) || !r.Has(smmuv3.S1P) || r.Has(smmuv3.NS1ATS)
			why = "requires NS1ATS = 1 with both stages (no split-stage ATS)"
		case smmuv3.NS1ATS:
			ok = v == 0 || r.Has(smmuv3.ATS) && r.Has(smmuv3.S1P) && r.Has(smmuv3.S2P)
			why = "requires ATS, S1P and S2P (§6.3.1)"
		case smmuv3.PRI:
			ok = v == 0 || r.Has(smmuv3.ATS)
			why = "requires ATS = 1 (§6.3.1)"
		case smmuv3.StallMax:
			ok = v == 0 || r.Get(smmuv3.StallModel) != smmuv3.StallTerminate
			why = "requires a STALL_MODEL that stalls (§6.3.6)"
		}
		if !ok {
			return fmt.Errorf("%s.%v = %d %s", f.Register(), f, v, why)
		}
	}
	if err := checkUsable(r); err != nil {
		return err
	}
	small := r.Has(smmuv3.GRAN4K) || r.Has(smmuv3.GRAN16K)
	switch wide := r.Has(smmuv3.DS) || r.Has(smmuv3.GRAN64K); {
	case r.Has(smmuv3.DS) && (!r.Has(smmuv3.VAX) || !small):
		return errors.New("IDR5.DS requires VAX, and GRAN4K or GRAN16K (§6.3.6)")
	case r.Has(smmuv3.VAX) && !wide:
		return errors.New("IDR5.VAX requires GRAN64K or DS (§6.3.6)")
	case r.Get(smmuv3.OAS) == oas52 && !wide:
		return errors.New("IDR5.OAS of 52 bits requires GRAN64K or DS (§6.3.6)")
	}
	return nil
}

// checkUsable returns an error if an SMMU with these ID registers cannot translate at all.
func checkUsable(r smmuv3.IDRegs) error {
	switch {
	case !r.Has(smmuv3.S1P) && !r.Has(smmuv3.S2P):
		return errors.New("IDR0 has neither S1P nor S2P")
	case r.Get(smmuv3.TTF)&smmuv3.TTFAArch64 == 0:
		return fmt.Errorf("IDR0.TTF = %d has no AArch64 tables", r.Get(smmuv3.TTF))
	case !r.Has(smmuv3.GRAN4K) && !r.Has(smmuv3.GRAN16K) && !r.Has(smmuv3.GRAN64K):
		return errors.New("IDR5 has no granule: GRAN4K, GRAN16K and GRAN64K are 0")
	}
	return nil
}

// checkShown returns an error if ID registers for a guest exceed what the host offers.
func checkShown(guest, offered smmuv3.IDRegs) error {
	if guest == (smmuv3.IDRegs{}) {
		return errors.New("the guest's ID registers are zero (use those of idr.Derive)")
	}
	for _, f := range smmuv3.IDFields() {
		v, most := guest.Get(f), offered.Get(f)
		ok := v <= most || deviceFields[f]
		switch f {
		case smmuv3.FWB:
			ok = ok || !guest.Has(smmuv3.S2P) // mandatory from SMMUv3.2 on, without effect here
		case smmuv3.TTF:
			ok = v&^most == 0
		case smmuv3.TTENDIAN: // 0 is mixed-endian, 1 is reserved
			ok = v == most || most == smmuv3.TTENDIANMixed && v != 1
		case smmuv3.TermModel: // 0 leaves the choice to software
			ok = v == most || most == 0
		case smmuv3.StallModel:
			ok = v == most || most == smmuv3.StallBoth && v == smmuv3.StallTerminate
		}
		if !ok {
			return fmt.Errorf("%s.%v = %d exceeds the host's %d", f.Register(), f, v, most)
		}
	}
	return checkUsable(guest)
}

// shown is the SMMU that the guest's ID registers describe. The host reads structures, descriptors
// and commands as this SMMU does. shown is immutable.
type shown struct {
	ids        smmuv3.IDRegs
	outputMask uint64
	asidMask   smmuv3.ASID
	vmidMask   smmuv3.VMID
	stalls     int // the most stalled transactions
	ranges     rangeRules
}

func newShown(ids smmuv3.IDRegs) *shown {
	s := &shown{ids: ids, outputMask: ids.OutputMask(), asidMask: 1<<8 - 1, ranges: newRangeRules(&ids)}
	if ids.Has(smmuv3.ASID16) {
		s.asidMask = 1<<16 - 1
	}
	switch {
	case ids.Has(smmuv3.S2P) && ids.Has(smmuv3.VMID16):
		s.vmidMask = 1<<16 - 1
	case ids.Has(smmuv3.S2P):
		s.vmidMask = 1<<8 - 1
	}
	if ids.Get(smmuv3.StallModel) != smmuv3.StallTerminate {
		s.stalls = int(ids.Get(smmuv3.StallMax))
	}
	return s
}
