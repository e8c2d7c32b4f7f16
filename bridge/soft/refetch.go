package soft

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// SetSTERefetch implements bridge.STERefetcher.
func (h *Host) SetSTERefetch(refetch func(smmuv3.StreamID) bool) {
	if refetch == nil {
		h.refetch.Store(nil)
		return
	}
	h.refetch.Store(&refetch)
}

// refetch returns the function that asks the device to fetch the STE again (§3.21.3), for a
// transaction whose stage has Cause F_STE_FETCH. It returns nil if no device registered a function,
// or if the transaction has already asked.
//
// The caller is in a section, and leaves it before it calls the function: the device may bind
// another stage.
func (b *binding) refetch(a *access) func(smmuv3.StreamID) bool {
	if b.stage.Cause != smmuv3.FSTEFetch || b.stage.Disabled || a.refetched {
		return nil
	}
	a.refetched = true
	if ask := b.host.refetch.Load(); ask != nil {
		return *ask
	}
	return nil
}
