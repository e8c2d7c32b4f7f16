//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// vSTE is a guest's STE as far as the kernel takes one: its first two double-words. The rest, stage 2, is the kernel's.
type vSTE [2]uint64

// allowed are the bits of a vSTE that the kernel takes: V, Config, S1Fmt, S1ContextPtr, S1CDMax, and S1DSS, S1CIR, S1COR,
// S1CSH, S1STALLD, EATS. Any other is answered with EIO.
var allowed = vSTE{0xf80f_ffff_ffff_ffff, 0x3800_00ff}

// The vSTEs of the tables that all streams share. A stage that aborts has V set: that the STE is what is wrong is for the
// virtual device to report.
var (
	steAbort  = vSTE{1 | uint64(smmuv3.ConfigAbort)<<1}
	steBypass = vSTE{1 | uint64(smmuv3.ConfigBypass)<<1}
)

// steOf is the vSTE of a stage that translates, for a guest that was shown ids, on an SMMU that could stall or not. The error
// matches bridge.ErrRejected.
func steOf(g bridge.GuestStage, ids *smmuv3.IDRegs, stalls bool) (vSTE, error) {
	s := g.STE()
	v := vSTE{s[0], s[1]}
	// The kernel does not look at S1CDMax, S1Fmt and S1STALLD, and the hardware would answer every transaction with
	// C_BAD_STE, of which the guest could make nothing.
	switch rule := s.Illegal(ids); {
	case g.S2VMID != 0:
		return v, fmt.Errorf("%w: S2VMID is %d, and the VMID is the kernel's", bridge.ErrRejected, g.S2VMID)
	case rule != nil:
		return v, fmt.Errorf("%w: %v", bridge.ErrRejected, rule)
	case uint32(g.S1CDMax) > ids.Get(smmuv3.SSIDSIZE):
		return v, fmt.Errorf("%w: S1CDMax %d is more than SSIDSIZE %d", bridge.ErrRejected, g.S1CDMax, ids.Get(smmuv3.SSIDSIZE))
	case s.S1ContextPtr() != uint64(g.S1ContextPtr) || v[0]&^allowed[0] != 0:
		return v, fmt.Errorf("%w: S1ContextPtr %v is misaligned or out of range", bridge.ErrRejected, g.S1ContextPtr)
	case g.EATS != smmuv3.EATSNone && !ids.Has(smmuv3.ATS):
		return v, fmt.Errorf("%w: EATS is %v, and ATS is not offered", bridge.ErrRejected, g.EATS)
	case v[1]&^allowed[1] != 0:
		return v, fmt.Errorf("%w: the kernel takes no vSTE %#x", bridge.ErrRejected, v)
	}
	// The guest was told that nothing stalls, and CD.S is its own: where the hardware could stall it must not, least of all
	// PCIe devices (§3.12.1, §3.12.2.3). Elsewhere the bit would make the physical STE illegal (§5.2.2).
	if stalls {
		s.SetS1STALLD(true)
		v[1] = s[1]
	}
	return v, nil
}
