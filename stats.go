package vsmmuv3

import (
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Stats counts the work of an SMMU and its endpoints since New, and holds the state of the streams.
// It marshals to JSON, so one line publishes it:
//
//	expvar.Publish("smmu", expvar.Func(func() any { return smmu.Stats() }))
//
// A restored SMMU counts from zero.
type Stats struct {
	Device vsmmu.Stats `json:"device"`
	Host   soft.Stats  `json:"host"`
}

// Stats returns the counts. It waits for a host call in progress, as vsmmu.Device.Stats does, and
// must not be called from a callback.
func (s *SMMU) Stats() Stats {
	if s.made("stats") != nil {
		return Stats{}
	}
	return Stats{s.Device.Stats(), s.Host.Stats()}
}
