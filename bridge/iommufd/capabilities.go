//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// fields are the fields of IOMMU_GET_HW_INFO's registers that a VMM may use. The registers are
// those of the hardware, and the documentation of struct iommu_hw_info_arm_smmuv3 lists the
// features that the kernel supports in nested translation. Other fields, such as HTTU and BTM, do
// not apply to a guest.
//
// OAS is not in that list, but other VMMs use it as well. No other field defines the valid values
// of CD.IPS, and only the hardware's own table walks depend on OAS.
var fields = []smmuv3.IDField{
	smmuv3.STLevel, smmuv3.TermModel, smmuv3.TTENDIAN, smmuv3.CD2L, smmuv3.ASID16, smmuv3.TTF,
	smmuv3.SIDSIZE, smmuv3.SSIDSIZE,
	smmuv3.BBML, smmuv3.RIL,
	smmuv3.VAX, smmuv3.GRAN64K, smmuv3.GRAN16K, smmuv3.GRAN4K, smmuv3.DS, smmuv3.OAS,
	smmuv3.ArchMinor, smmuv3.ArchMajor,
}

// idRegs returns the features that the physical SMMU can execute for a guest.
func (h *hardware) idRegs(ats bool) (smmuv3.IDRegs, error) {
	switch h.kind {
	case uapi.HWInfoTypeARMSMMUv3:
	case uapi.HWInfoTypeNone: // also an SMMUv3, if its driver was built without support for nesting
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the kernel does not describe the device's IOMMU (an SMMUv3 %s)",
			ErrUnsupported, tooOld)
	default:
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the device is not behind an SMMUv3 but an IOMMU of hw_info type %d",
			ErrUnsupported, h.kind)
	}
	raw := h.raw()
	if raw.Get(smmuv3.StallModel) == smmuv3.StallForced {
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the SMMU stalls every fault (IDR0.STALL_MODEL = 2), "+
			"and the kernel cannot resume transactions for a guest", ErrUnsupported)
	}
	var ids smmuv3.IDRegs
	for _, f := range fields {
		ids.Set(f, raw.Get(f))
	}
	// The documentation does not list S1P and COHACC. Nested tables need stage 1, and VFIO refuses
	// devices whose accesses are not coherent.
	ids.Set(smmuv3.S1P, 1)
	ids.Set(smmuv3.COHACC, 1)
	// If the hardware can stall, steOf sets S1STALLD.
	ids.Set(smmuv3.StallModel, smmuv3.StallTerminate)
	// The documentation does not list IDR3.HAD either. But every SMMUv3.1 with stage 1 has HAD
	// (§6.3.4), and only the hardware reads CD.HAD0 and CD.HAD1, not the kernel. An SMMU without
	// HAD can only be an SMMUv3.0.
	if ids.Version() >= 1 {
		ids.Set(smmuv3.HAD, 1)
	}
	if ats && raw.Has(smmuv3.ATS) {
		ids.Set(smmuv3.ATS, 1)
	}
	return ids, nil
}

func (h *hardware) raw() smmuv3.IDRegs {
	return smmuv3.IDRegs{IDR: h.regs.IDR, IIDR: h.regs.IIDR, AIDR: h.regs.AIDR}
}

// stalls reports whether a faulting transaction stalls if CD.S is set.
func (h *hardware) stalls() bool {
	raw := h.raw()
	return raw.Get(smmuv3.StallModel) == smmuv3.StallBoth
}

// repeats reports whether TLBI and CFGI commands must be sent twice.
func (h *hardware) repeats() bool { return h.regs.Flags&uapi.HWInfoErrataRepeatTLBICFGI != 0 }
