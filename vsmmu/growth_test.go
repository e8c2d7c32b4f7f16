package vsmmu

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestNothingMakesTheDeviceGrow shows that no guest, endpoint or host makes the device's memory
// grow beyond its bounds. Each case repeats one action many times.
func TestNothingMakesTheDeviceGrow(t *testing.T) {
	const times = 70_000
	for _, tc := range []struct {
		name  string
		do    func(r *rig, i uint64)
		kept  func(r *rig) int
		bound int
	}{
		{"invalidations without a SYNC are batched up to 512",
			func(r *rig, i uint64) {
				r.engine.Lock()
				defer r.engine.Unlock()
				r.batch(r.hosts[0], 0x11|i<<48, 0)
			},
			func(r *rig) int { return r.hosts[0].n }, batchMax},
		{"events that fill the queue are lost",
			func(r *rig, i uint64) { r.host.Emit(fault(i)) },
			func(r *rig) int { return len(r.events()) }, 16},
		{"page requests that fill the queue are answered",
			func(r *rig, i uint64) { r.host.Request(smmuv3.PageRequest{1<<62 | 3, i << 12}); r.host.Forget() },
			func(r *rig) int { return len(r.host.Calls()) }, 0},
		{"stalls are reported up to STALL_MAX",
			func(r *rig, i uint64) { r.deliver(stalled(3, uint16(i))) },
			func(r *rig) int { return len(r.eventq.stalls.reported) }, 8},
		{"stalls of a host without bounds wait, as many as there are STAGs",
			func(r *rig, i uint64) { r.deliver(stalled(3, 7)) },
			func(r *rig) int { return len(r.eventq.stalls.waiting) }, waitingMax},
		{"an STE that cannot be fetched leaves nothing behind",
			func(r *rig, i uint64) { r.refetchSTE(5) },
			func(r *rig) int { return len(r.wake) }, 1},
		{"StreamIDs without an endpoint take nothing",
			func(r *rig, i uint64) { _ = r.Detach(smmuv3.StreamID(i)); r.Device.Stage(smmuv3.StreamID(i)) },
			func(r *rig) int { return len(r.streams.All()) }, 1},
		{"an Attach that fails takes no host",
			func(r *rig, i uint64) { _ = r.Attach(3, newHost(rigIDs), "disk") },
			func(r *rig) int { return len(r.registered) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, withPRI, withStalls, func(c *Config) { c.IDs.Set(smmuv3.StallMax, 8) })
			r.ste(3, 0xb|cdAt)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.mem.FailReads(guestmem.Range{GPA: strtabAt + 5*64, Len: 64}, nil)
			for i := range uint64(times) {
				tc.do(r, i)
			}
			r.engine.Lock()
			defer r.engine.Unlock()
			assert.LessOrEqual(t, tc.kept(r), tc.bound)
		})
	}
}

// TestWaitingStallsAreFreed_7_2_1 shows that the list of stalled transactions is freed once they
// are retried.
func TestWaitingStallsAreFreed_7_2_1(t *testing.T) {
	r := newRig(t, withStalls)
	require.NoError(t, r.Attach(3, r.host, "GPU"))
	r.setup()
	for i := range uint64(1000) {
		r.deliver(stalled(3, uint16(i)))
	}
	r.eventually(func() bool {
		r.events()
		r.run(smmuv3.Command{0x45 | 3<<32}) // CMD_STALL_TERM
		r.eventq.mu.Lock()
		defer r.eventq.mu.Unlock()
		return r.eventq.stalls.waiting == nil
	}, "every stalled transaction was retried")
}

// TestHeapDoesNotGrow shows that commands and events do not grow the heap in the steady state.
func TestHeapDoesNotGrow(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, nullHost{}, "disk"))
	r.setup()
	round := func() {
		for i := range uint64(1000) {
			r.run(tlbi(int(i)), cmdCfgiSTE(3), cmdCfgiSTE(smmuv3.StreamID(i+4)), cmdSync)
			r.deliver(fault(i))
		}
		r.events()
	}
	round()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	round()
	runtime.GC()
	runtime.ReadMemStats(&after)
	assert.Less(t, int64(after.HeapAlloc)-int64(before.HeapAlloc), int64(64<<10))
}
