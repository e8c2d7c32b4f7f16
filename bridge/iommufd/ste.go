//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// vSTE is the part of a guest's STE that the kernel accepts: the first two double-words. The kernel
// writes the rest, which describes stage 2.
type vSTE [2]uint64

// allowed masks the bits of a vSTE that the kernel accepts. The kernel answers other bits with EIO.
var allowed = func() vSTE {
	var s smmuv3.STE
	s.SetV(true)
	s.SetConfig(0b111)
	s.SetS1Fmt(0b11)
	s.SetS1ContextPtr(1<<52 - 1) // the kernel knows no addresses of more than 52 bits
	s.SetS1CDMax(31)
	s.SetS1DSS(0b11)
	s.SetS1CIR(0b11)
	s.SetS1COR(0b11)
	s.SetS1CSH(0b11)
	s.SetS1STALLD(true)
	s.SetEATS(0b11)
	return vSTE(s[:2])
}()

// The vSTEs of the tables that all streams share. steAbort has V set, since the virtual device
// itself reports an invalid STE to the guest.
var (
	steAbort  = steWith(smmuv3.ConfigAbort)
	steBypass = steWith(smmuv3.ConfigBypass)
)

func steWith(c smmuv3.STEConfig) vSTE {
	var s smmuv3.STE
	s.SetV(true)
	s.SetConfig(c)
	return vSTE(s[:2])
}

// eats returns STE.EATS.
func (v vSTE) eats() smmuv3.EATS {
	s := smmuv3.STE{v[0], v[1]}
	return s.EATS()
}

// steOf returns the vSTE of a stage with Disposition Translate. ids are the ID registers that the
// guest reads; stalls reports whether the physical SMMU can stall. An error matches
// bridge.ErrRejected.
func steOf(g bridge.GuestStage, ids *smmuv3.IDRegs, stalls bool) (vSTE, error) {
	s := g.STE()
	v := vSTE(s[:2])
	// The kernel does not check S1CDMax, S1Fmt and S1STALLD. With a bad value the hardware would
	// report every transaction to the guest as C_BAD_STE.
	switch rule := s.Illegal(ids); {
	case g.S2VMID != 0:
		return v, fmt.Errorf("%w: S2VMID is %d but the kernel chooses the VMID", bridge.ErrRejected, g.S2VMID)
	case rule != nil:
		return v, fmt.Errorf("%w: %v", bridge.ErrRejected, rule)
	case uint32(g.S1CDMax) > ids.Get(smmuv3.SSIDSIZE):
		return v, fmt.Errorf("%w: S1CDMax %d exceeds SSIDSIZE %d",
			bridge.ErrRejected, g.S1CDMax, ids.Get(smmuv3.SSIDSIZE))
	case s.S1ContextPtr() != uint64(g.S1ContextPtr) || v[0]&^allowed[0] != 0:
		return v, fmt.Errorf("%w: S1ContextPtr %v is misaligned or out of range", bridge.ErrRejected, g.S1ContextPtr)
	case g.EATS != smmuv3.EATSNone && !ids.Has(smmuv3.ATS):
		return v, fmt.Errorf("%w: EATS is %v but the host does not offer ATS", bridge.ErrRejected, g.EATS)
	case g.EATS > smmuv3.EATSFull:
		return v, fmt.Errorf("%w: EATS is %v but the kernel supports none and full", bridge.ErrRejected, g.EATS)
	}
	// The guest's STALL_MODEL shows no stalls, but the guest writes CD.S itself. S1STALLD keeps the
	// hardware from stalling, which PCIe devices must never do (§3.12.1, §3.12.2.3). The bit is
	// illegal if the hardware cannot stall (§5.2.2).
	if stalls {
		s.SetS1STALLD(true)
		v = vSTE(s[:2])
	}
	return v, nil
}
