package record

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Refetcher is a Host that also implements bridge.STERefetcher. A device reads the STE again for a
// transaction of such a host, and after an F_STE_FETCH event of any other.
type Refetcher struct {
	*Host
	refetch func(smmuv3.StreamID) bool // Host.mu guards it
}

var (
	_ bridge.STERefetcher  = (*Refetcher)(nil)
	_ bridge.PageRequester = (*Refetcher)(nil)
	_ bridge.Staller       = (*Refetcher)(nil)
)

// NewRefetcher returns a host with these capabilities.
func NewRefetcher(caps bridge.Capabilities) *Refetcher { return &Refetcher{Host: New(caps)} }

// SetSTERefetch implements bridge.STERefetcher.
func (r *Refetcher) SetSTERefetch(refetch func(smmuv3.StreamID) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refetch = refetch
	r.claims = append(r.claims, Call{Op: SetSTERefetch, Release: refetch == nil})
}

// Refetch asks the device to read the STE of a stream again. A real host does this when the Cause
// of a transaction's stage is F_STE_FETCH. It returns the device's answer: whether a host retries
// the transaction. Refetch returns false without a device.
func (r *Refetcher) Refetch(sid smmuv3.StreamID) bool {
	r.mu.Lock()
	refetch := r.refetch
	r.mu.Unlock()
	return refetch != nil && refetch(sid)
}
