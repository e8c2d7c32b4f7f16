package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const overflow = 1 << 31 // OVFLG, OVACKFLG

// fault returns a record with a page of its own.
func fault(page uint64) smmuv3.Event { return smmuv3.Event{0x10 | 3<<32, 1 << 41, page << 12} }

// fates returns the outcomes of the events since the last call.
func (r *rig) fates() map[Fate]uint64 {
	now := r.Stats().Events
	diff := map[Fate]uint64{}
	for f, n := range now {
		if n -= r.lastFates[f]; n != 0 {
			diff[f] = n
		}
	}
	r.lastFates = now
	return diff
}

// TestEventRecords_7_3 shows that a record of any type is in memory as the host made it,
// little-endian.
func TestEventRecords_7_3(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	for i, ev := range []smmuv3.Event{
		{0x00000003_00005801, 0x0000000e_00050000, 0x1234},   // F_UUT: Reason, PnU, InD, RnW
		{0x00000103_00000002},                                // C_BAD_STREAMID
		{0x00000003_00000003, 0x7, 0, 0x00ff_ffff_ffff_fff8}, // F_STE_FETCH: Reason, FetchAddr
		{0x00000003_00000004},                                // C_BAD_STE
		{0x00000003_00000006},                                // F_STREAM_DISABLED
		{0x00000003_00abc008},                                // C_BAD_SUBSTREAMID: SubstreamID without SSV
		{0x00000003_00abc809, 0, 0, 0x40000040},              // F_CD_FETCH: FetchAddr
		{0x00000003_00abc80a},                                // C_BAD_CD
		{0x00000003_00abc80b, 0x00000108_00000000, 0xffff_8000_dead_b000, 0x5000_0008},      // F_WALK_EABT: CLASS = TT, RnW
		{0x00000003_00abc810, 0x00000208_00000000, 0xffff_8000_dead_beef, 0},                // F_TRANSLATION: CLASS = IN, RnW
		{0x00000003_00000011, 0x00000200_00000000, 0x0100_0000_0000_0000, 0},                // F_ADDR_SIZE
		{0x00000003_00000012, 0x00000202_00000000, 0x1000, 0},                               // F_ACCESS: PnU
		{0x00000003_00000013, 0x0000120e_00000000, 0x1000, 0},                               // F_PERMISSION: TTRnW, PnU, InD, RnW
		{0xffffffff_ffffffff, 0xffffffff_ffffffff, 0xffffffff_ffffffff, 0xffffffffffffffff}, // any bits from a host
	} {
		r.host.Emit(ev)
		assert.Equalf(t, ev[:], r.mem.Words(eventqAt+32*guestmem.GPA(i), 4), "%v", ev)
		assert.Equal(t, uint32(i+1), r.r32(eventqProd))
	}
	var p [32]byte
	require.NoError(t, r.mem.ReadAt(p[:], eventqAt+32*9))
	assert.Equal(t, []byte{0x10, 0xc8, 0xab, 0x00, 0x03, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x02, 0, 0,
		0xef, 0xbe, 0xad, 0xde, 0x00, 0x80, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0}, p[:])
}

// TestEventQueueNotWritable_7_2_1 shows that an event is discarded in silence while the queue is
// disabled or stopped by an abort.
func TestEventQueueNotWritable_7_2_1(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.w32(irqCtrl, 5)
	r.host.Emit(fault(1))
	assert.Equal(t, map[Fate]uint64{Discarded: 1}, r.fates())
	assert.Zero(t, r.r32(eventqProd))
	assert.Zero(t, r.gerror(), "no error, no overflow")
	assert.Empty(t, r.irqs.take())

	r.setup()
	r.mem.FailWrites(guestmem.Range{GPA: eventqAt, Len: 512}, nil)
	r.host.Emit(fault(1))
	assert.Equal(t, map[Fate]uint64{Aborted: 1}, r.fates())
	assert.Equal(t, uint32(1<<2), r.gerror(), "EVENTQ_ABT_ERR §7.2.2")
	assert.Zero(t, r.r32(eventqProd), "PROD does not move without a record")
	assert.Equal(t, []Line{LineGError}, r.irqs.take(), "the empty queue raises no interrupt")

	r.mem.Heal()
	r.host.Emit(fault(2))
	assert.Equal(t, map[Fate]uint64{Discarded: 1}, r.fates(), "until the abort is acknowledged")
	r.w32(gerrorn, 1<<2)
	r.host.Emit(fault(3))
	assert.Equal(t, map[Fate]uint64{Recorded: 1}, r.fates())
	assert.Equal(t, []smmuv3.Event{fault(3)}, r.events())
	assert.Equal(t, []Line{LineEventQ}, r.irqs.take())
}

// TestOverflow_7_4 follows OVFLG and OVACKFLG through three overflows.
func TestOverflow_7_4(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	for i := range uint64(16) {
		r.host.Emit(fault(i))
	}
	require.Equal(t, uint32(16), r.r32(eventqProd), "full, and nothing lost yet")
	r.host.Emit(fault(16))
	assert.Equal(t, uint32(overflow|16), r.r32(eventqProd))
	r.host.Emit(fault(17))
	assert.Equal(t, uint32(overflow|16), r.r32(eventqProd), "OVFLG toggles once")
	assert.Equal(t, map[Fate]uint64{Recorded: 16, Overflowed: 2}, r.fates())
	assert.Zero(t, r.gerror(), "an overflow is no global error")

	r.w32(eventqCons, 1) // one consumed, the overflow not acknowledged
	r.host.Emit(fault(18))
	assert.Equal(t, uint32(overflow|17), r.r32(eventqProd), "the queue takes events nevertheless")
	r.host.Emit(fault(19))
	assert.Equal(t, uint32(overflow|17), r.r32(eventqProd), "a second overflow is not visible")

	r.w32(eventqCons, overflow|1)
	r.host.Emit(fault(20))
	assert.Equal(t, uint32(17), r.r32(eventqProd), "acknowledged: toggles again")
	r.w32(eventqCons, 17)
	r.host.Emit(fault(21))
	assert.Equal(t, uint32(18), r.r32(eventqProd))
	assert.Equal(t, uint32(0), r.gerror())
}

// TestInvalidEventIndicesAreAFullQueue_3_5_1 shows that no record is overwritten while the indices
// are invalid.
func TestInvalidEventIndicesAreAFullQueue_3_5_1(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	writes := r.mem.Writes()
	for _, cons := range []uint32{0x1, 0x5, 0x8, 0xf} {
		r.w32(eventqCons, cons)
		r.host.Emit(fault(1))
		assert.Equal(t, map[Fate]uint64{Overflowed: 1}, r.fates(), "CONS=%#x PROD=0", cons)
	}
	assert.Equal(t, writes, r.mem.Writes())
	r.w32(eventqCons, 0)
	r.host.Emit(fault(1))
	assert.Equal(t, map[Fate]uint64{Recorded: 1}, r.fates())
}

// TestEventQueueSizes_3_5_1 shows that queues of every size wrap, from a base that the SMMU aligns
// down. LOG2SIZE is capped at IDR1.EVENTQS, here 10.
func TestEventQueueSizes_3_5_1(t *testing.T) {
	for log2 := range uint32(32) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		size := uint32(1) << min(log2, 10)
		start := (size - 1) | size // the last entry, in the second lap
		r.w64(eventqBase, 0xa000_0000+uint64(size)*16&^0x1f|uint64(log2))
		r.w32(eventqProd, start)
		r.w32(eventqCons, start)
		r.enable(smmuv3.CR0_EVENTQEN)
		for i := range uint32(5) {
			at := (start + i) & (2*size - 1)
			r.host.Emit(fault(uint64(i)))
			next := (at + 1) & (2*size - 1)
			require.Equalf(t, next, r.r32(eventqProd), "2^%d", log2)
			ev := fault(uint64(i))
			require.Equal(t, ev[:], r.mem.Words(0xa000_0000+guestmem.GPA(at&(size-1))*32, 4))
			r.w32(eventqCons, next)
		}
	}
}

// TestEVENTQEN_6_3_9_4 shows that a base written while the queue is disabled takes effect when the
// queue is enabled.
func TestEVENTQEN_6_3_9_4(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Emit(fault(1))
	r.enable(smmuv3.CR0_CMDQEN)
	r.host.Emit(fault(2))
	assert.Equal(t, uint32(1), r.r32(eventqProd))
	r.w64(eventqBase, 0xa000_0000|2)
	r.w32(eventqProd, 3)
	r.w32(eventqCons, 3)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	r.host.Emit(fault(1))
	assert.Equal(t, uint32(4), r.r32(eventqProd), "not merged with one in another queue")
	ev := fault(1)
	assert.Equal(t, ev[:], r.mem.Words(0xa000_0000+3*32, 4))
}

// TestMerging_7_3_1 shows that an event is merged into the last record that the guest has not
// consumed, if they differ only in fields that the event's description exempts.
func TestMerging_7_3_1(t *testing.T) {
	for _, tc := range []struct {
		name string
		a, b smmuv3.Event
		want Fate
	}{
		{"the same", smmuv3.Event{4 | 3<<32}, smmuv3.Event{4 | 3<<32}, Merged},
		{"another stream", smmuv3.Event{4 | 3<<32}, smmuv3.Event{4 | 4<<32}, Recorded},
		{"another substream", smmuv3.Event{0x0a | 1<<11}, smmuv3.Event{0x0a | 1<<11 | 1<<12}, Recorded},
		{"another type", smmuv3.Event{0x10 | 3<<32}, smmuv3.Event{0x11 | 3<<32}, Recorded},
		{"F_TRANSL_FORBIDDEN in the same page", smmuv3.Event{7, 0, 0x1008}, smmuv3.Event{7, 0, 0x1010}, Merged},
		{"F_WALK_EABT in the same page", smmuv3.Event{0x0b, 0, 0x1008}, smmuv3.Event{0x0b, 0, 0x1010}, Merged},
		{"F_TRANSLATION in the same page", smmuv3.Event{0x10, 0, 0x1000}, smmuv3.Event{0x10, 0, 0x1fff}, Merged},
		{"F_TRANSLATION in the next", smmuv3.Event{0x10, 0, 0x1000}, smmuv3.Event{0x10, 0, 0x2000}, Recorded},
		{"F_TRANSLATION, of a write", smmuv3.Event{0x10, 1 << 35, 0x1000}, smmuv3.Event{0x10, 0, 0x1000}, Recorded},
		{"F_ADDR_SIZE in the same page", smmuv3.Event{0x11, 0, 0x1000}, smmuv3.Event{0x11, 0, 0x1fff}, Merged},
		{"F_ACCESS in the same page", smmuv3.Event{0x12, 0, 0x1000}, smmuv3.Event{0x12, 0, 0x1fff}, Merged},
		{"F_PERMISSION in the same page", smmuv3.Event{0x13, 0, 0x1000}, smmuv3.Event{0x13, 0, 0x1fff}, Merged},
		{"F_TLB_CONFLICT in the same page", smmuv3.Event{0x20, 0, 0x1000}, smmuv3.Event{0x20, 0, 0x1fff}, Merged},
		{"F_UUT in the same page", smmuv3.Event{0x01, 0, 0x1000}, smmuv3.Event{0x01, 0, 0x1fff}, Recorded},
		{"F_STE_FETCH elsewhere", smmuv3.Event{0x03, 0, 0, 0x1000}, smmuv3.Event{0x03, 0, 0, 0x1040}, Recorded},
		{"stalled", smmuv3.Event{0x10, 1 << 31, 0x1000}, smmuv3.Event{0x10, 1 << 31, 0x1000}, Recorded},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.host.Emit(tc.a)
			r.fates()
			r.host.Emit(tc.b)
			assert.Equal(t, map[Fate]uint64{tc.want: 1}, r.fates())
		})
	}

	t.Run("not with one that was consumed", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		for range 3 {
			r.host.Emit(fault(1))
			r.host.Emit(fault(1))
			assert.Equal(t, map[Fate]uint64{Recorded: 1, Merged: 1}, r.fates())
			assert.Equal(t, []smmuv3.Event{fault(1)}, r.events())
			assert.Equal(t, []Line{LineEventQ}, r.irqs.take())
		}
	})
	t.Run("not with one that another followed", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		for _, page := range []uint64{1, 2, 1} {
			r.host.Emit(fault(page))
		}
		assert.Len(t, r.events(), 3)
	})
	t.Run("a full queue still merges", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		for i := range uint64(16) {
			r.host.Emit(fault(i))
		}
		r.host.Emit(fault(15))
		assert.Equal(t, uint32(16), r.r32(eventqProd), "nothing is lost, so nothing overflows")
	})
}

// TestEventInterrupt_3_18_2 shows that the interrupt comes when the queue stops being empty, and
// that PROD is visible by then.
func TestEventInterrupt_3_18_2(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	var prod []uint32
	r.irqs.onPulse = func(Line) { prod = append(prod, r.r32(eventqProd)) }
	r.host.Emit(fault(1))
	r.host.Emit(fault(2))
	r.host.Emit(fault(3))
	assert.Equal(t, []uint32{1}, prod)
	r.w32(eventqCons, 2) // not all
	r.host.Emit(fault(4))
	assert.Equal(t, []uint32{1}, prod)
	r.w32(eventqCons, 4)
	r.host.Emit(fault(5))
	assert.Equal(t, []uint32{1, 5}, prod)
}

// TestEventInterruptAgainstCONS shows that a guest that consumes the last record while the next one
// is written gets the interrupt: it read PROD before PROD moved.
func TestEventInterruptAgainstCONS(t *testing.T) {
	r := newRig(t)
	r.Device.mem = guestmem.NewWordMemory(&onWrite{r.mem.Mapped(), func(gpa guestmem.GPA) {
		if gpa == eventqAt+32 {
			r.w32(eventqCons, 1)
		}
	}})
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Emit(fault(1))
	assert.Equal(t, []Line{LineEventQ}, r.irqs.take())
	r.host.Emit(fault(2))
	assert.Equal(t, []Line{LineEventQ}, r.irqs.take())
}

// onWrite is memory that calls f before each write.
type onWrite struct {
	guestmem.Mapper
	f func(guestmem.GPA)
}

func (m *onWrite) Slice(gpa guestmem.GPA, n int, write bool) ([]byte, error) {
	if write {
		m.f(gpa)
	}
	return m.Mapper.Slice(gpa, n, write)
}

// TestRecordBeforePROD_3_5_2 shows that PROD does not cover a record while it is written.
func TestRecordBeforePROD_3_5_2(t *testing.T) {
	r := newRig(t)
	var seen []uint32
	r.Device.mem = guestmem.NewWordMemory(&onWrite{r.mem.Mapped(), func(guestmem.GPA) { seen = append(seen, r.r32(eventqProd)) }})
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Emit(fault(1))
	r.host.Emit(fault(2))
	assert.Equal(t, []uint32{0, 1}, seen)
}
