// Package pl031 emulates Arm's PrimeCell Real Time Clock (PL031, ARM DDI 0224) as far as firmware
// uses it: it tells the time, and has no alarm.
package pl031

import (
	"sync"
	"time"
)

// RTC is a register file. Load and Store may be called from any goroutine. The zero value has the
// current time.
type RTC struct {
	// Now returns the time; nil means time.Now.
	Now func() time.Time

	mu     sync.Mutex
	offset uint32 // seconds that the guest set the clock ahead
}

// Size is the size of the register file in bytes.
const Size = 4 << 10

// Register offsets (§3.2).
const (
	dr  = 0x00
	lr  = 0x08
	cr  = 0x0c
	ids = 0xfe0
)

// identification holds RTCPeriphID0-3 and RTCPCellID0-3.
var identification = [8]uint64{0x31, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1}

// Load reads the register at off. It ignores the size of the access.
func (r *RTC) Load(off uint64, _ int) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case off == dr || off == lr:
		return uint64(r.seconds() + r.offset)
	case off == cr:
		return 1 // enabled
	case off >= ids && off < ids+4*uint64(len(identification)) && off%4 == 0:
		return identification[(off-ids)/4]
	}
	return 0
}

// Store writes the register at off. Only the load register, which sets the time, can be written.
func (r *RTC) Store(off uint64, _ int, value uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if off == lr {
		r.offset = uint32(value) - r.seconds()
	}
}

func (r *RTC) seconds() uint32 {
	if r.Now != nil {
		return uint32(r.Now().Unix())
	}
	return uint32(time.Now().Unix())
}
