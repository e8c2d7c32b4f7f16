package vsmmu

import (
	"log/slog"
	"sync"
	"time"
)

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
