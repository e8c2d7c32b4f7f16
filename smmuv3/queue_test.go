package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The base is aligned to the queue's size, which is capped (§6.3.26, §6.3.29).
func TestQueueBase(t *testing.T) {
	const mask48 = 0xffff_ffff_ffff
	for _, c := range []struct {
		name  string
		base  QueueBase
		entry uint64
		max   uint32
		addr  uint64
		log2  uint
	}{
		{"256 commands, aligned to 4 KiB", 0x4000_0fe8, CommandSize, 19, 0x4000_0000, 8},
		{"one command, aligned to 32 bytes", 0x4000_0020, CommandSize, 19, 0x4000_0020, 0},
		{"LOG2SIZE is the low five bits", 0x4000_003f, CommandSize, 0, 0x4000_0020, 0},
		{"one event", 0x4000_0020, EventSize, 19, 0x4000_0020, 0},
		{"128 events, aligned to 4 KiB", 0x4000_0fe7, EventSize, 19, 0x4000_0000, 7},
		{"LOG2SIZE capped, and the alignment with it", 0x4000_0fff, CommandSize, 4, 0x4000_0f00, 4},
		{"the most entries", 0x4fff_fff3, CommandSize, 19, 0x4f80_0000, 19},
		{"RA is no address", 0x4000_0000_4000_0001, CommandSize, 19, 0x4000_0000, 1},
		{"cut to OAS", 0xffff_ffff_ffff_ffe0, CommandSize, 19, 0xffff_ffff_ffe0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := c.base.Queue(c.entry, c.max, mask48)
			assert.Equal(t, Queue{Addr: c.addr, Log2Size: c.log2, entrySize: c.entry}, q)
		})
	}
	assert.EqualValues(t, 0x40ff_ffff_ffff_ffff, uint64(QUEUE_BASE_Mask))
}

// The wrap bit is above the index, and bits above it are ignored (§3.5.1).
func TestQueueIndex(t *testing.T) {
	q := QueueBase(0x4000_0002).Queue(CommandSize, 19, ^uint64(0)) // 4 entries
	assert.Equal(t, Index(7), q.Mask())
	for _, c := range []struct {
		i          Index
		entry      uint64
		next       Index
		contiguous uint32
	}{
		{0, 0x4000_0000, 1, 4},
		{3, 0x4000_0030, 4, 1},
		{4, 0x4000_0000, 5, 4},
		{7, 0x4000_0030, 0, 1},
		{0x8000_0003, 0x4000_0030, 4, 1}, // OVFLG
		{0xffff_fff8, 0x4000_0000, 1, 4},
	} {
		assert.Equal(t, c.entry, q.Entry(c.i), "%#x", c.i)
		assert.Equal(t, c.next, q.Next(c.i, 1), "%#x", c.i)
		assert.Equal(t, c.contiguous, q.Contiguous(c.i), "%#x", c.i)
	}

	one := QueueBase(0x4000_0000).Queue(CommandSize, 19, ^uint64(0)) // the wrap bit is bit 0
	assert.Equal(t, Index(1), one.Mask())
	assert.Equal(t, uint64(0x4000_0000), one.Entry(1))
	assert.Equal(t, Index(0), one.Next(1, 1))
	assert.Equal(t, uint32(1), one.Contiguous(1))

	most := QueueBase(19).Queue(EventSize, 19, ^uint64(0))
	assert.Equal(t, Index(0xf_ffff), most.Mask())
	assert.Equal(t, uint64(0xff_ffe0), most.Entry(0x7_ffff))
}

// A queue is empty if its indices are equal, and full if only their wrap bits differ. Inconsistent
// indices give no length (§3.5.1).
func TestQueueLen(t *testing.T) {
	q := QueueBase(2).Queue(CommandSize, 19, ^uint64(0)) // 4 entries: wrap is bit 2
	for _, c := range []struct {
		name       string
		prod, cons Index
		n          uint32
		ok         bool
	}{
		{"empty", 0, 0, 0, true},
		{"empty, wrapped", 6, 6, 0, true},
		{"partial", 3, 1, 2, true},
		{"partial, across the wrap", 5, 3, 2, true},
		{"partial, across the second wrap", 1, 6, 3, true},
		{"full", 4, 0, 4, true},
		{"full, wrapped", 2, 6, 4, true},
		{"PROD > CONS, other wrap", 5, 0, 5, false},
		{"PROD < CONS, same wrap", 0, 1, 7, false},
		{"PROD < CONS, same wrap, both wrapped", 4, 7, 5, false},
		{"bits above the wrap bit are ignored", 0x8000_0003, 0x7000_0001, 2, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, ok := q.Len(c.prod, c.cons)
			assert.Equal(t, c.ok, ok)
			if ok {
				assert.Equal(t, c.n, n)
			}
		})
	}
}
