package vsmmu

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Stats counts what a device has done since New.
type Stats struct {
	Events          [NumFates]uint64 // by Fate
	PageRequests    [NumFates]uint64 // by Fate
	Invalidations   uint64           // calls of Host.Invalidate for the guest's commands
	HostErrors      uint64           // failed calls of hosts, except those to bind a stage
	Refused         uint64           // stages that a host refused
	ServiceFailures uint64           // activations of GERROR.SFM_ERR
	LogDropped      uint64           // log records that the rate limit dropped
}

type counters struct {
	events, requests                                                [NumFates]atomic.Uint64
	invalidations, hostErrors, refused, serviceFailures, logDropped atomic.Uint64
}

// Stats returns the counts. It reads them one by one, so they may not add up while the device runs.
func (d *Device) Stats() Stats {
	c := &d.stats
	s := Stats{
		Invalidations:   c.invalidations.Load(),
		HostErrors:      c.hostErrors.Load(),
		Refused:         c.refused.Load(),
		ServiceFailures: c.serviceFailures.Load(),
		LogDropped:      c.logDropped.Load(),
	}
	for f := range s.Events {
		s.Events[f] = c.events[f].Load()
		s.PageRequests[f] = c.requests[f].Load()
	}
	return s
}

// A guest can cause any of the device's log records. The device logs at most logBurst records at
// once, and then one each logEvery.
const (
	logBurst = 16
	logEvery = time.Second
)

type limiter struct {
	mu     sync.Mutex
	tokens int
	last   time.Time
}

func (l *limiter) allow(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := now.Sub(l.last) / logEvery; n > 0 {
		l.tokens = int(min(time.Duration(l.tokens)+n, logBurst))
		l.last = now
	}
	if l.tokens == 0 {
		return false
	}
	l.tokens--
	return true
}

// report logs an error that no method returns.
func (d *Device) report(msg string, err error) {
	if d.log == nil {
		return
	}
	if !d.limit.allow(time.Now()) {
		d.stats.logDropped.Add(1)
		return
	}
	if d.reentry != nil {
		d.reentry.warn(d.log, msg, err)
		return
	}
	d.log.Warn(msg, slog.Any("err", err))
}

// hostFailed counts and logs a failed call of a host.
func (d *Device) hostFailed(msg string, err error) {
	d.stats.hostErrors.Add(1)
	d.report(msg, err)
}
