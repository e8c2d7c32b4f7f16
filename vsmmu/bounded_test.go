package vsmmu

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// bounded returns a rig with a queue of 2^12 commands and no worker. When a store returns, only the
// vCPU has done work.
func bounded(t *testing.T, streams int, change ...func(*Config)) *rig {
	r := newRig(t, append(change, func(c *Config) { c.IDs.Set(smmuv3.CMDQS, 12) })...)
	for sid := range smmuv3.StreamID(streams) {
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.w64(0x80, strtabAt)
	r.w32(0x88, 8)
	r.w64(cmdqBase, cmdqAt|12)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_SMMUEN)
	r.host.Forget()
	close(r.quit)
	<-r.done
	r.quit = make(chan struct{}) // for Close
	return r
}

// TestOneStoreIsBounded shows that a store to CMDQ_PROD stays within the bounds of Device's
// documentation, for any commands, and that the rest stays pending.
func TestOneStoreIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		streams int
		cmds    []smmuv3.Command // repeated until the queue is full
		change  bool             // of each STE, before
		used    uint32
		calls   int // of the host
	}{
		{"cheap ones", 1, []smmuv3.Command{{0x01}}, false, 256, 0},
		{"TLBI", 1, []smmuv3.Command{tlbi(1)}, false, 256, 0},
		{"SYNC with nothing to wait for", 1, []smmuv3.Command{cmdSync}, false, 256, 0},
		{"SYNC with an interrupt", 1, []smmuv3.Command{cmdSyncIRQ}, false, 8, 0},
		{"TLBI and SYNC", 1, []smmuv3.Command{tlbi(1), cmdSync}, false, 5, 2},
		{"63 TLBI and SYNC", 1, append(make63(), cmdSync), false, 64 + 63, 1},
		{"CFGI_STE", 1, []smmuv3.Command{cmdCfgiSTE(0)}, false, 2, 0},
		{"CFGI_STE, changed", 1, []smmuv3.Command{cmdCfgiSTE(0)}, true, 2, 1},
		{"CFGI_ALL of two streams", 2, []smmuv3.Command{{0x04, 31}}, true, 1, 2},
		{"CFGI_ALL of more than fit", 100, []smmuv3.Command{{0x04, 31}}, true, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := bounded(t, tc.streams)
			if tc.change {
				for sid := range smmuv3.StreamID(tc.streams) {
					r.ste(sid, 0xb|cdAt)
				}
			}
			cmds := make([]smmuv3.Command, 4096)
			for i := range cmds {
				cmds[i] = tc.cmds[i%len(tc.cmds)]
			}
			r.w32(cmdqProd, r.put(cmds...))
			assert.Equal(t, tc.used, r.r32(cmdqCons))
			assert.Len(t, r.host.Forget(), tc.calls)
			assert.True(t, r.pending.Load(), "the rest stays pending")

			r.w32(cmdqProd, r.r32(cmdqProd))
			assert.LessOrEqual(t, r.r32(cmdqCons), 2*tc.used, "a store later")
			r.idle()
			assert.Equal(t, uint32(4096), r.r32(cmdqCons))
		})
	}
}

// TestShortRunsNeedNoWorker shows that a driver's usual run of commands is complete when the store
// returns, also with endpoints of two hosts. A worker would need the processor on which the guest
// polls for the SYNC.
func TestShortRunsNeedNoWorker(t *testing.T) {
	r := bounded(t, 1)
	caps, err := r.host.Capabilities()
	require.NoError(t, err)
	second := record.New(caps)
	require.NoError(t, r.Attach(7, second, "disk"))
	r.host.Forget()
	second.Forget()
	r.w32(cmdqProd, r.put(tlbi(1), cmdSyncIRQ))
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	assert.Len(t, r.host.Forget(), 1)
	assert.Len(t, second.Forget(), 1)
}

func make63() (cmds []smmuv3.Command) {
	for i := range 63 {
		cmds = append(cmds, tlbi(i))
	}
	return cmds
}

// TestOtherStoresWaitForNoHost shows that the worker calls the hosts for SMMUEN and GBPA, and
// executes commands that an acknowledged error or CMDQEN starts. Changes that need no host are
// acknowledged at once.
func TestOtherStoresWaitForNoHost(t *testing.T) {
	r := bounded(t, 1)
	r.w32(cr0, smmuv3.CR0_CMDQEN)
	assert.Equal(t, uint32(smmuv3.CR0_CMDQEN|smmuv3.CR0_SMMUEN), r.r32(cr0ack))
	assert.Empty(t, r.host.Calls())
	r.idle()
	assert.Equal(t, uint32(smmuv3.CR0_CMDQEN), r.r32(cr0ack))
	r.host.Forget()

	r.w32(gbpa, 0x80100000)
	assert.Equal(t, uint32(0x80100000), r.r32(gbpa))
	assert.Empty(t, r.host.Calls())
	r.idle()
	assert.Equal(t, uint32(0x00100000), r.r32(gbpa))
	r.host.Forget()

	r.w32(cr0, 0)
	assert.Zero(t, r.r32(cr0ack))
	r.w32(cmdqProd, r.put(tlbi(1), cmdSync, smmuv3.Command{0xff}, cmdSync))
	r.w32(cr0, smmuv3.CR0_CMDQEN)
	assert.Equal(t, uint32(smmuv3.CR0_CMDQEN), r.r32(cr0ack))
	assert.Zero(t, r.r32(cmdqCons))
	r.idle()
	assert.Equal(t, uint32(0x01000002), r.r32(cmdqCons), "CERROR_ILL")
	r.mem.SetWords(cmdqAt+2*16, 0x46)
	r.w32(gerrorn, 1)
	assert.Equal(t, uint32(2), r.r32(cmdqCons))
	r.idle()
	assert.Equal(t, uint32(4), r.r32(cmdqCons))
}

// TestRefetchIsBounded shows that a store does not refresh streams whose STE could not be fetched.
func TestRefetchIsBounded(t *testing.T) {
	r := bounded(t, 5)
	r.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 1 << 14}, nil)
	r.GuestWrote(everywhere)
	r.mem.Heal()
	r.host.Forget()
	r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 1))
	r.w32(cmdqProd, 0)
	assert.Empty(t, r.host.Calls())
	assert.True(t, r.pending.Load())
	r.idle()
	assert.Len(t, r.host.Forget(), 5)
}

// TestRefetchStarvesNothing shows that an endpoint whose STE is fetched again without end delays no
// command, for any number of streams.
func TestRefetchStarvesNothing(t *testing.T) {
	// unread queues commands while the device cannot fetch the STEs of an endpoint's streams.
	unread := func(streams int, stes guestmem.Range, cmds ...smmuv3.Command) *rig {
		r := bounded(t, streams)
		r.mem.FailReads(stes, nil)
		r.GuestWrote(everywhere)
		prod := r.put(cmds...)
		r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 1))
		r.w32(cmdqProd, prod)
		return r
	}
	one := guestmem.Range{GPA: strtabAt + 64, Len: 64}

	r := unread(100, one, slices.Repeat([]smmuv3.Command{cmdSync}, 100)...)
	for range 5 {
		r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 1))
		r.turns(1)
	}
	assert.Equal(t, uint32(100), r.r32(cmdqCons))

	r = unread(256, guestmem.Range{GPA: strtabAt, Len: 64 * 256}, cmdSync)
	r.turns(1)
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "though no STE can be fetched")

	r = unread(5000, one, cmdSync) // of which the table has 256
	r.turns(1)
	assert.Equal(t, uint32(1), r.r32(cmdqCons), "even if a look at each stream exceeds the budget of a turn")

	r = bounded(t, 300)
	r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 1))
	r.w32(cmdqProd, r.put(cmdSync))
	assert.Zero(t, r.r32(cmdqCons), "the search for these streams exceeds the share of a store")
	r.idle()
	assert.Equal(t, uint32(1), r.r32(cmdqCons))
}

// TestWatchIsBounded shows that notifying Watch about many streams costs as much as many commands,
// and nothing for a StreamID without a stream.
func TestWatchIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name    string
		streams int
		sid     smmuv3.StreamID
		used    uint32
	}{
		{"few streams", 16, 0, 2},
		{"some streams", 100, 0, 1},
		{"more than fit", 200, 0, 0},
		{"none of them", 200, 201, 256},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := bounded(t, tc.streams, func(c *Config) { c.Watch = func([]guestmem.Range) {} })
			cmds := slices.Repeat([]smmuv3.Command{cmdCfgiSTE(tc.sid)}, 300)
			r.w32(cmdqProd, r.put(cmds...))
			assert.Equal(t, tc.used, r.r32(cmdqCons))
			r.idle()
			assert.Equal(t, uint32(300), r.r32(cmdqCons))
		})
	}
}

// TestFullBatchesAreBounded shows that the execution of a batch counts as a call of its host, even
// if earlier commands filled most of the batch. A store makes at most two calls in all.
func TestFullBatchesAreBounded(t *testing.T) {
	one := []smmuv3.Command{tlbi(2)}
	more := []smmuv3.Command{tlbi(2), tlbi(3), cmdSync, tlbi(4), cmdSync, tlbi(5), cmdSync}
	for _, tc := range []struct {
		hosts, calls int
		cmds         []smmuv3.Command
	}{{1, 1, one}, {2, 2, one}, {3, 0, one}, {1, 2, more}, {2, 2, more}, {3, 0, more}, {4, 0, more}} {
		r := bounded(t, 1)
		all := []*record.Host{r.host}
		for len(all) < tc.hosts {
			h := newHost(r.Device.IDs())
			require.NoError(t, r.Attach(smmuv3.StreamID(len(all)), h, "disk"))
			all = append(all, h)
		}
		r.run(slices.Repeat([]smmuv3.Command{tlbi(1)}, batchMax-1)...)
		for _, h := range all {
			for _, c := range h.Forget() {
				require.NotEqual(t, record.Invalidate, c.Op)
			}
		}
		r.w32(cmdqProd, r.put(tc.cmds...))
		made := 0
		for _, h := range all {
			made += len(h.Forget())
		}
		assert.Equalf(t, tc.calls, made, "%d hosts, %d commands", tc.hosts, len(tc.cmds))
		r.idle()
		assert.Equal(t, r.r32(cmdqProd), r.r32(cmdqCons))
	}
}

// TestFullBatchesStarveNothing shows that commands are executed where so many hosts' batches fill
// that they cost more than a turn of the worker.
func TestFullBatchesStarveNothing(t *testing.T) {
	r := bounded(t, 0)
	for sid := range smmuv3.StreamID(40) {
		require.NoError(t, r.Attach(sid, newHost(r.Device.IDs()), sid))
	}
	r.w32(cmdqProd, r.put(slices.Repeat([]smmuv3.Command{tlbi(1)}, 2*batchMax)...))
	r.turns(2 * batchMax / runMax)
	assert.Equal(t, uint32(2*batchMax), r.r32(cmdqCons))
}

// TestResyncIsBounded shows that the worker, and not a store, rebinds the many streams of a host
// that works again.
func TestResyncIsBounded(t *testing.T) {
	for _, tc := range []struct{ streams, calls int }{{1, 2}, {2, 0}, {100, 0}} {
		r := bounded(t, tc.streams)
		for sid := range smmuv3.StreamID(tc.streams) {
			r.ste(sid, 0xb|cdAt)
		}
		r.host.FailWith(func(c record.Call) error {
			if c.Op == record.Invalidate {
				return errAgain
			}
			return nil
		})
		r.run(smmuv3.Command{0x04, 31}, tlbi(1), cmdSync)
		r.host.FailWith(nil)
		r.host.Forget()
		r.w32(cmdqProd, r.put(cmdSync))
		assert.Lenf(t, r.host.Forget(), tc.calls, "%d streams", tc.streams)
		r.idle()
		assert.Equal(t, r.r32(cmdqProd), r.r32(cmdqCons))
		assert.Equal(t, translates, r.stage(0))
	}
}

// TestWorkersTurnIsBounded shows that the worker releases the lock after at most one command more
// than its turn's budget.
func TestWorkersTurnIsBounded(t *testing.T) {
	r := bounded(t, 1)
	r.put(slices.Repeat([]smmuv3.Command{cmdCfgiSTE(0)}, 4096)...)
	r.w32(cmdqProd, 4096)
	require.Equal(t, uint32(2), r.r32(cmdqCons))
	r.turns(1)
	assert.LessOrEqual(t, r.r32(cmdqCons), uint32(2+budgetWorker/costHost+1))
	assert.True(t, r.pending.Load())
}

// TestWorkerDoesTheRest shows that after one store, the worker consumes a full queue.
func TestWorkerDoesTheRest(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.Set(smmuv3.CMDQS, 14) })
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.w64(cmdqBase, cmdqAt|14)
	r.enable(smmuv3.CR0_CMDQEN)
	r.host.Forget()
	cmds := make([]smmuv3.Command, 1<<14)
	for i := range cmds {
		cmds[i] = []smmuv3.Command{tlbi(1), cmdCfgiSTE(3), cmdSync}[i%3]
	}
	r.w32(cmdqProd, r.put(cmds...))
	r.eventually(func() bool { return r.r32(cmdqCons) == 1<<14 }, "the queue is consumed")
	assert.Zero(t, r.gerror())
}

// TestLoadsWaitForNothing shows that a guest's loads return while any lock of the device is held.
func TestLoadsWaitForNothing(t *testing.T) {
	r := newRig(t)
	r.engine.Lock()
	defer r.engine.Unlock()
	r.regMu.Lock()
	defer r.regMu.Unlock()
	r.eventq.mu.Lock()
	defer r.eventq.mu.Unlock()
	r.irq.mu.Lock()
	defer r.irq.mu.Unlock()
	for off := uint64(0); off < 0x20000; off += 4 {
		r.Load(off, 4)
	}
}

// TestNoAllocation shows that commands, events, loads and stores allocate nothing in the steady
// state.
func TestNoAllocation(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	r := newRig(t)
	require.NoError(t, r.Attach(3, nullHost{}, "disk"))
	r.setup()
	r.ste(3, 0xb|cdAt)
	r.run(cmdCfgiSTE(3), cmdSync)
	r.idle()
	var ring []smmuv3.Command
	for range 64 {
		ring = append(ring, tlbi(1), smmuv3.Command{0x05 | 3<<32, 1}, cmdCfgiSTE(3), cmdSync)
	}
	prod := r.r32(cmdqProd)
	r.put(ring...)
	ev := fault(1)
	assert.Zero(t, testing.AllocsPerRun(1000, func() {
		prod = (prod + 4) & 0x1ff
		r.w32(cmdqProd, prod)
		r.idle()
		ev.SetInputAddr(ev.InputAddr() + 0x1000)
		r.deliver(ev)
		r.w32(eventqCons, r.r32(eventqProd))
	}))
	assert.Zero(t, r.gerror())
}

// lastMSI is an interrupt controller that keeps the last MSI.
type lastMSI struct{ msi [2]uint64 }

func (i *lastMSI) Pulse(Line) error { return nil }
func (i *lastMSI) SignalMSI(addr guestmem.GPA, data uint32) error {
	i.msi = [2]uint64{uint64(addr), uint64(data)}
	return nil
}

// TestMSIsAllocateNothing_3_18 covers MSIs to an interrupt controller and to memory, if the memory
// is a guestmem.Mapper.
func TestMSIsAllocateNothing_3_18(t *testing.T) {
	const ramAt, romAt, doorbell = 0x40_0000, 0x100_0000, 0x808_0040
	for _, tc := range []struct {
		name      string
		to        uint64
		word      uint64    // in memory
		signalled [2]uint64 // otherwise
		gerror    uint32
	}{
		{"an interrupt controller", doorbell, 0, [2]uint64{doorbell, 0x77}, 0},
		{"memory", ramAt, 0x77, [2]uint64{}, 0},
		{"read-only memory", romAt, 0, [2]uint64{}, 1 << 4}, // MSI_CMDQ_ABT_ERR (§7.5)
	} {
		t.Run(tc.name, func(t *testing.T) {
			ram, irqs := new(guestmem.Slots), new(lastMSI)
			require.NoError(t, ram.Add(guestmem.Slot{GPA: 0, Mem: make([]byte, romAt)}))
			require.NoError(t, ram.Add(guestmem.Slot{GPA: romAt, Mem: make([]byte, 4096), ReadOnly: true}))
			d, err := New(Config{IDs: rigIDs, Memory: ram, Interrupts: irqs})
			require.NoError(t, err)
			defer d.Close()
			r := &rig{TB: t, Device: d}
			for i := range guestmem.GPA(32) {
				require.NoError(t, ram.Store64(cmdqAt+16*i, 0x1046|0x77<<32))
				require.NoError(t, ram.Store64(cmdqAt+16*i+8, tc.to))
			}
			r.w64(cmdqBase, cmdqAt|5)
			r.enable(smmuv3.CR0_CMDQEN)
			prod := uint32(0)
			sync := func() {
				prod = (prod + 1) & 0x3f
				r.w32(cmdqProd, prod)
				r.idle()
			}
			sync()
			word, err := ram.Load64(ramAt)
			require.NoError(t, err)
			assert.Equal(t, tc.word, word)
			assert.Equal(t, tc.signalled, irqs.msi)
			assert.Equal(t, tc.gerror, r.gerror())
			if tc.gerror == 0 { // an abort is an error, reported once
				assert.Zero(t, testing.AllocsPerRun(100, sync))
				assert.Equal(t, prod, r.r32(cmdqCons))
			}
		})
	}
}

// TestBatchesAreBounded shows that invalidations without a SYNC are executed when they fill a
// batch.
func TestBatchesAreBounded(t *testing.T) {
	r := bounded(t, 1)
	cmds := make([]smmuv3.Command, 4096)
	for i := range cmds {
		cmds[i] = tlbi(i)
	}
	r.w32(cmdqProd, r.put(cmds...))
	r.idle()
	calls := r.host.Forget()
	require.Len(t, calls, 8)
	for _, c := range calls {
		assert.Equal(t, record.Invalidate, c.Op)
		assert.Len(t, c.Commands, batchMax)
	}
}

// TestSTERefetchDoesNotWaitForTheEngine shows that refetching an STE takes no time of the engine
// while the fetch fails, and waits for a busy engine no longer than refetchWait.
func TestSTERefetchDoesNotWaitForTheEngine(t *testing.T) {
	r := bounded(t, 2)
	r.mem.FailReads(guestmem.Range{GPA: strtabAt + 64, Len: 64}, nil)
	r.GuestWrote(everywhere)
	require.Equal(t, smmuv3.FSTEFetch, r.stage(1).Cause)
	r.idle()

	r.engine.Lock()
	for range 100 {
		assert.False(t, r.refetchSTE(1))
	}
	assert.False(t, r.pending.Load())
	assert.False(t, r.refetch.Load())
	r.mem.Heal()
	began := time.Now()
	assert.False(t, r.refetchSTE(1), "the engine is busy")
	assert.GreaterOrEqual(t, time.Since(began), refetchWait)
	r.engine.Unlock()

	r.idle()
	assert.NotEqual(t, smmuv3.FSTEFetch, r.stage(1).Cause, "the engine refetches the STE later")
	assert.Nil(t, r.refetches.done, "no transaction waits any more")

	require.NoError(t, r.Close())
	began = time.Now()
	assert.False(t, r.refetchSTE(1))
	assert.Less(t, time.Since(began), refetchWait)
}
