package vsmmu

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestFetchAbort_7_1 shows that the commands before an aborted fetch are consumed, for each
// position of the abort, and that consumption continues at that position.
func TestFetchAbort_7_1(t *testing.T) {
	for _, at := range []uint64{0, 1, 2, 100, 127, 128, 254} {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			r := newRig(t)
			r.setup()
			r.mem.FailReads(guestmem.Range{GPA: cmdqAt + guestmem.GPA(16*at) + 8, Len: 8}, nil)
			cmds := make([]smmuv3.Command, 255)
			for i := range cmds {
				cmds[i] = tlbi(i)
			}
			r.run(cmds...)
			assert.Equal(t, uint32(1), r.gerror())
			assert.Equal(t, uint32(at)|2<<24, r.r32(cmdqCons), "CERROR_ABT, and RD on the command")

			r.w32(gerrorn, 1)
			r.eventually(func() bool { return r.gerror() == 1 }, "it fails again")
			r.mem.Heal()
			r.w32(gerrorn, r.r32(gerror))
			r.eventually(func() bool { return r.r32(cmdqCons) == 255 }, "the rest is consumed")
		})
	}
}

// TestPRODPulledBack_7_1 shows that the guest may move PROD back to the offending command while an
// error is active.
func TestPRODPulledBack_7_1(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.run(tlbi(1), smmuv3.Command{0xff}, tlbi(2), tlbi(3))
	require.Equal(t, uint32(1|1<<24), r.r32(cmdqCons))
	r.w32(cmdqProd, 1)
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(1), r.r32(cmdqCons))
	r.run(cmdSync)
	assert.Equal(t, []smmuv3.Command{tlbi(1)}, r.invalidated())
}

// TestInvalidIndicesStopTheQueue_3_5_1 shows that no command is consumed
// until the indices are valid.
func TestInvalidIndicesStopTheQueue_3_5_1(t *testing.T) {
	for _, tc := range []struct{ prod, cons uint32 }{
		{0, 1}, {0x1ff, 0}, {0x101, 0}, {5, 0xff}, {0x105, 4}, {0xff, 0x100}, {0x180, 0x181},
	} {
		t.Run(fmt.Sprintf("PROD=%#x CONS=%#x", tc.prod, tc.cons), func(t *testing.T) {
			r := newRig(t)
			r.w64(cmdqBase, cmdqAt|8)
			r.w32(cmdqCons, tc.cons)
			r.w32(cmdqProd, tc.prod)
			r.enable(smmuv3.CR0_CMDQEN)
			reads := r.mem.Reads()
			r.w32(cmdqProd, tc.prod)
			r.idle()
			assert.Equal(t, tc.cons, r.r32(cmdqCons))
			assert.Equal(t, reads, r.mem.Reads())
			assert.Zero(t, r.gerror())

			r.w32(cmdqProd, tc.cons)
			r.run(cmdSync)
			assert.Equal(t, (tc.cons+1)&0x1ff, r.r32(cmdqCons))
		})
	}
}

// TestQueueSizes_3_5_1 sends commands around the wrap of queues of every size, from a base that the
// SMMU aligns down (§6.3.26).
func TestQueueSizes_3_5_1(t *testing.T) {
	for log2 := range uint32(20) {
		t.Run(fmt.Sprint(log2), func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			size := uint32(1) << log2
			const base = 0x8000_0000
			r.w64(cmdqBase, base|uint64(size)<<4&^0x3f>>1&^0x1f|uint64(log2))
			start := (size - 1) | size // the last entry, in the second lap
			r.w32(cmdqCons, start)
			r.w32(cmdqProd, start)
			r.enable(smmuv3.CR0_CMDQEN)

			index, n := start, 0
			for n < 3*int(min(size, 40)) {
				k := min(int(size), 7) // as many as there is room for
				var want []smmuv3.Command
				for range k - 1 {
					c := tlbi(n)
					r.mem.SetWords(base+guestmem.GPA(index&(size-1))*16, c[0], c[1])
					want = append(want, c)
					index, n = (index+1)&(2*size-1), n+1
				}
				r.mem.SetWords(base+guestmem.GPA(index&(size-1))*16, 0x46, 0)
				index, n = (index+1)&(2*size-1), n+1
				r.w32(cmdqProd, index)
				r.idle()
				require.Equal(t, index, r.r32(cmdqCons))
				require.Equal(t, want, r.invalidated())
			}
			assert.Zero(t, r.gerror())
		})
	}
}

// TestQueueSizeIsCapped_6_3_26 shows that LOG2SIZE is capped at IDR1.CMDQS, and reads back as
// written.
func TestQueueSizeIsCapped_6_3_26(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.CMDQS, 2) })
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.w64(cmdqBase, 0x8000_0020|31)
	assert.Equal(t, uint64(0x8000_003f), r.Load(cmdqBase, 8))
	r.w32(cmdqProd, 7) // beyond the index and wrap of four entries: 3 with wrap
	r.w32(cmdqCons, 3)
	for i := range 4 {
		r.mem.SetWords(0x8000_0000+guestmem.GPA(16*i), 0x11|uint64(i)<<48, 0)
	}
	r.enable(smmuv3.CR0_CMDQEN)
	r.idle()
	assert.Equal(t, uint32(7), r.r32(cmdqCons), "a full queue of four, from 64-byte alignment")
	assert.Zero(t, r.gerror())
}

// TestCMDQEN_6_3_9_3 shows that no command is fetched while the queue is disabled, and that a new
// base takes effect when the queue is enabled again.
func TestCMDQEN_6_3_9_3(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.enable(0)
	r.host.Forget()
	reads := r.mem.Reads()
	r.put(tlbi(1), cmdSync)
	r.w32(cmdqProd, 2)
	r.idle()
	assert.Zero(t, r.r32(cmdqCons))
	assert.Equal(t, reads, r.mem.Reads())

	r.w64(cmdqBase, 0x9000_0000|1)
	r.w32(cmdqCons, 1)
	r.mem.SetWords(0x9000_0010, 0x46, 0)
	r.enable(smmuv3.CR0_CMDQEN)
	r.idle()
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	assert.Empty(t, r.host.Calls(), "the commands in the old queue were not consumed")

	r.mem.SetWords(0x9000_0000, 0xff, 0)
	r.w32(cmdqProd, 3)
	r.idle()
	require.Equal(t, uint32(1), r.gerror())
	r.enable(0)
	r.enable(smmuv3.CR0_CMDQEN)
	r.idle()
	assert.Equal(t, uint32(1), r.gerror(), "CMDQEN acknowledges no error")
	assert.Equal(t, uint32(2|1<<24), r.r32(cmdqCons))
}

// TestReasonComesWithTheError_7_1 shows that no vCPU sees CMDQ_ERR without CMDQ_CONS.ERR, even if
// the worker stops again while a vCPU still acknowledges the last error.
func TestReasonComesWithTheError_7_1(t *testing.T) {
	r := newRig(t)
	r.setup()
	quit, awake := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(awake)
		for {
			select {
			case <-quit:
				return
			default:
				r.pending.Store(true)
				r.wakeWorker()
				runtime.Gosched() // otherwise this loop occupies a single processor for 10 ms at a time
			}
		}
	}()
	r.w32(cmdqProd, r.put(smmuv3.Command{0xff}))
	for range 5000 {
		for r.gerror() != 1 {
			runtime.Gosched()
		}
		if r.r32(cmdqCons) != 1<<24 {
			t.Errorf("CMDQ_CONS is %#x", r.r32(cmdqCons))
			break
		}
		r.w32(gerrorn, r.r32(gerror))
	}
	close(quit)
	<-awake
}

// TestReasonStaysWithTheError_6_3_20 shows that acknowledging another error leaves CMDQ_CONS.ERR.
func TestReasonStaysWithTheError_6_3_20(t *testing.T) {
	r := newRig(t)
	r.setup()
	r.run(smmuv3.Command{0xff})
	require.Equal(t, uint32(0x0100_0000), r.r32(cmdqCons), "CERROR_ILL")
	r.w32(gerrorn, 1<<2)
	assert.Equal(t, uint32(0x0100_0000), r.r32(cmdqCons))
	r.mem.SetWords(cmdqAt, 0x46)
	r.w32(gerrorn, 1)
	r.idle()
	assert.Equal(t, uint32(1), r.r32(cmdqCons))
}
