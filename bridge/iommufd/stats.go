//go:build linux && (amd64 || arm64)

package iommufd

import "sync/atomic"

// Stats are figures of a Host since it was opened.
type Stats struct {
	Ioctls        uint64 // requests to the kernel, of all kinds
	Invalidations uint64 // of these, IOMMU_HWPT_INVALIDATE
	Commands      uint64 // that went with them

	Events         uint64 // faults delivered
	EventsLost     uint64 // faults that the kernel had no room for
	EventsWithheld uint64 // faults that are none of the guest's
	EventErrors    uint64 // failures to read faults

	Objects int // what there is in the kernel at the moment; 0 after a Close without error
}

type counters struct {
	requests, commands                 atomic.Uint64
	events, lost, withheld, readErrors atomic.Uint64
}

// Stats returns the figures as they stand. It waits for nothing.
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
