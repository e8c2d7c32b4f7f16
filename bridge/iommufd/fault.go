//go:build linux && (amd64 || arm64)

package iommufd

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// guestView is a record of the physical SMMU as one of an SMMU that has stage 1 only. ok is false for what no guest is to see.
func guestView(e smmuv3.Event) (_ smmuv3.Event, ok bool) {
	switch e.Type() {
	case smmuv3.CBadSTE, smmuv3.FStreamDisabled, smmuv3.CBadSubstreamID, smmuv3.CBadCD:
		return e, true
	case smmuv3.FTranslation, smmuv3.FAddrSize, smmuv3.FAccess, smmuv3.FPermission:
		switch {
		case e.Stall():
			return e, false // the guest was told that nothing stalls, and could not resume it
		case e.S2():
			return stage1Of(e)
		}
		e[3] = 0 // IPA: RES0 without stage 2
		return e, true
	}
	// The others are the host's affair, such as an external abort, whose FetchAddr is a physical address of the host (§7.3.10,
	// §7.3.12), or not known.
	return e, false
}

// stage1Of is what a guest sees of a fault at stage 2, in which its memory is not where it says. Where that befell a structure
// of the guest's, an SMMU without stage 2 would have met an external abort (notes of §7.3.10 and §7.3.12).
func stage1Of(e smmuv3.Event) (_ smmuv3.Event, ok bool) {
	switch e.Class() {
	case smmuv3.ClassCD:
		fetch := smmuv3.NewEvent(smmuv3.FCDFetch, e.StreamID())
		if e.SSV() {
			fetch.SetSubstream(e.SubstreamID())
		}
		fetch.SetFetchAddr(e.FetchAddr())
		return fetch, true
	case smmuv3.ClassTT:
		walk := smmuv3.NewEvent(smmuv3.FWalkEABT, e.StreamID())
		if e.SSV() {
			walk.SetSubstream(e.SubstreamID())
		}
		walk.SetPnU(e.PnU())
		walk.SetInD(e.InD())
		walk.SetRnW(e.RnW())
		walk.SetClass(smmuv3.ClassTT)
		walk.SetInputAddr(e.InputAddr())
		walk.SetFetchAddr(e.FetchAddr()) // the IPA: it has the same place in the record
		return walk, true
	}
	// The device's own access: it has gone out of the guest's SMMU, and aborts on the bus behind it, unseen.
	return e, false
}
