//go:build linux && (amd64 || arm64)

package iommufd

import "sync/atomic"

// Stats are counters of a Host since Open.
type Stats struct {
	Ioctls        uint64 // requests to the kernel
	Invalidations uint64 // of these, IOMMU_HWPT_INVALIDATE
	Commands      uint64 // commands in these requests

	Events         uint64 // faults for the guest
	EventsLost     uint64 // faults that the kernel dropped because its queue was full
	EventsWithheld uint64 // faults that do not concern the guest
	EventErrors    uint64 // failed reads of the kernel's queue

	// Objects is the current number of objects in the kernel. It includes objects that the kernel
	// refused to destroy; the host tries again. It is 0 after a Close without error.
	Objects int
}

type counters struct {
	requests, commands                 atomic.Uint64
	events, lost, withheld, readErrors atomic.Uint64
}

// Stats returns the current counters. It never waits.
func (h *Host) Stats() Stats {
	return Stats{
		Ioctls:         h.k.ioctls.Load(),
		Invalidations:  h.counts.requests.Load(),
		Commands:       h.counts.commands.Load(),
		Events:         h.counts.events.Load(),
		EventsLost:     h.counts.lost.Load(),
		EventsWithheld: h.counts.withheld.Load(),
		EventErrors:    h.counts.readErrors.Load(),
		Objects:        int(h.k.objects.Load()),
	}
}
