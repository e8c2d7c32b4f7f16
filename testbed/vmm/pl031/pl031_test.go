package pl031

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestClockReadsAndSetsTheTime(t *testing.T) {
	now := time.Unix(1000, 0)
	r := &RTC{Now: func() time.Time { return now }}
	assert.EqualValues(t, 1000, r.Load(0x00, 4))
	r.Store(0x08, 4, 5000)
	now = time.Unix(1007, 0)
	assert.EqualValues(t, 5007, r.Load(0x00, 4))
	r.Store(0x00, 4, 1)
	assert.EqualValues(t, 5007, r.Load(0x00, 4), "RTCDR is read-only")
	assert.EqualValues(t, 1, r.Load(0x0c, 4), "enabled")
	assert.NotZero(t, new(RTC).Load(0x00, 4))
}

func TestIdentificationOfAPL031(t *testing.T) {
	var got []uint64
	for off := uint64(0xfe0); off < 0x1000; off += 4 {
		got = append(got, new(RTC).Load(off, 4))
	}
	assert.Equal(t, []uint64{0x31, 0x10, 0x04, 0, 0x0d, 0xf0, 0x05, 0xb1}, got)
	assert.Zero(t, new(RTC).Load(0x1000, 4))
	assert.Zero(t, new(RTC).Load(0xfe1, 4))
}
