//go:build linux && (amd64 || arm64)

package iommufd

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// guestView converts a record of the physical SMMU to one of an SMMU with stage 1 only. ok is false
// for a fault that does not concern the guest.
func guestView(e smmuv3.Event) (_ smmuv3.Event, ok bool) {
	switch e.Type() {
	case smmuv3.CBadSTE, smmuv3.FStreamDisabled, smmuv3.CBadSubstreamID, smmuv3.CBadCD:
		return e, true
	case smmuv3.FTranslation, smmuv3.FAddrSize, smmuv3.FAccess, smmuv3.FPermission:
		switch {
		case e.Stall():
			return e, false // the guest's STALL_MODEL shows no stalls, so it cannot resume the transaction
		case e.S2():
			return stage1Of(e)
		}
		e[3] = 0 // IPA is RES0 without stage 2
		return e, true
	}
	// Other events concern the host or are unknown. The FetchAddr of an external abort, for
	// example, is a physical address (§7.3.10, §7.3.12).
	return e, false
}

// stage1Of converts a fault of stage 2 to an event of an SMMU without stage 2. The fault means that
// the guest has no memory at the address. An SMMU without stage 2 reports an external abort if it
// fetches a CD or a translation table there (notes of §7.3.10 and §7.3.12).
func stage1Of(e smmuv3.Event) (_ smmuv3.Event, ok bool) {
	var abort smmuv3.Event
	switch e.Class() {
	case smmuv3.ClassCD:
		abort = smmuv3.NewFCDFetch(e.StreamID(), e.FetchAddr(), 0)
	case smmuv3.ClassTT:
		access := smmuv3.Access{Addr: e.InputAddr(), Read: e.RnW(), Privileged: e.PnU(), Instr: e.InD()}
		// The new FetchAddr is the IPA of the old record. Both fields have the same position.
		abort = smmuv3.NewFWalkEABT(e.StreamID(), access, smmuv3.StageFault{Class: smmuv3.ClassTT}, e.FetchAddr(), 0)
	default:
		// The guest's SMMU translates the device's own access, and memory then aborts it. An SMMU
		// records no event for such an abort.
		return e, false
	}
	if e.SSV() {
		abort.SetSubstream(e.SubstreamID())
	}
	return abort, true
}
