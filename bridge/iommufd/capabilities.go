//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// fields are what may be taken from the registers that IOMMU_GET_HW_INFO gives. It gives them as the hardware has them, and
// its documentation names those of which the kernel takes care in nested translation: a VMM must not look at others, such
// as HTTU and BTM, since they hold in the hardware and not for a guest.
//
// OAS is not among those that it names. It is taken all the same, as other VMMs do, for there is no other way to learn what
// sizes CD.IPS may have, and as it concerns nothing but the reach of the hardware's own walks.
var fields = []smmuv3.IDField{
	smmuv3.STLevel, smmuv3.TermModel, smmuv3.TTENDIAN, smmuv3.CD2L, smmuv3.ASID16, smmuv3.TTF,
	smmuv3.SIDSIZE, smmuv3.SSIDSIZE,
	smmuv3.BBML, smmuv3.RIL,
	smmuv3.VAX, smmuv3.GRAN64K, smmuv3.GRAN16K, smmuv3.GRAN4K, smmuv3.DS, smmuv3.OAS,
	smmuv3.ArchMinor, smmuv3.ArchMajor,
}

// idRegs is what the physical SMMU can carry out for a guest.
func (h *hardware) idRegs(ats bool) (smmuv3.IDRegs, error) {
	switch h.kind {
	case uapi.HWInfoTypeARMSMMUv3:
	case uapi.HWInfoTypeNone: // so does the driver of an SMMUv3 that was built without what nesting needs
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the kernel says nothing of the IOMMU that the device is behind: if that is an SMMUv3, %s", ErrUnsupported, tooOld)
	default:
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the device is not behind an SMMUv3 (hw_info type %d)", ErrUnsupported, h.kind)
	}
	raw := h.raw()
	if raw.Get(smmuv3.StallModel) == smmuv3.StallForced {
		return smmuv3.IDRegs{}, fmt.Errorf("%w: the SMMU stalls whatever faults (IDR0.STALL_MODEL), and the kernel has no way to resume it for a guest", ErrUnsupported)
	}
	var ids smmuv3.IDRegs
	for _, f := range fields {
		ids.Set(f, raw.Get(f))
	}
	// The same documentation has these two taken as given: stage 1 where nested tables can be made, and coherent walks
	// because VFIO takes no device without.
	ids.Set(smmuv3.S1P, 1)
	ids.Set(smmuv3.COHACC, 1)
	// Where the hardware could stall, its STEs forbid it (steOf).
	ids.Set(smmuv3.StallModel, smmuv3.StallTerminate)
	// IDR3.HAD is not to be looked at, but every SMMUv3.1 with stage 1 has it (§6.3.4), and it takes nothing of the kernel:
	// only the hardware reads CD.HAD0 and CD.HAD1. Without it a guest could be promised no more than SMMUv3.0.
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

// stalls reports whether a faulting transaction stalls where the guest's CD asks for it.
func (h *hardware) stalls() bool {
	raw := h.raw()
	return raw.Get(smmuv3.StallModel) == smmuv3.StallBoth
}

// repeats reports whether invalidations have to be issued twice.
func (h *hardware) repeats() bool { return h.regs.Flags&uapi.HWInfoErrataRepeatTLBICFGI != 0 }
