package vsmmu

import (
	"encoding/binary"
	"hash/crc32"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// save returns the rig's state.
func (r *rig) save() []byte {
	r.Helper()
	state, err := r.Save()
	require.NoError(r, err)
	return state
}

// fresh returns a new device and a new host, with the same streams, guest memory and interrupts.
func (r *rig) fresh(sids ...smmuv3.StreamID) *rig {
	r.Helper()
	n := &rig{TB: r.TB, mem: r.mem, irqs: r.irqs, host: newHost(r.IDs())}
	d, err := New(Config{IDs: r.IDs(), Memory: r.mem, Interrupts: r.irqs})
	require.NoError(r, err)
	r.Cleanup(func() { _ = d.Close() })
	n.Device = d
	for _, sid := range sids {
		require.NoError(r, n.Attach(sid, n.host, sid))
	}
	n.host.Forget()
	return n
}

// registers returns every register as the guest reads it.
func (r *rig) registers() (all []uint32) {
	for off := uint64(0); off < 0x100; off += 4 {
		all = append(all, r.r32(off))
	}
	return append(all, r.r32(eventqProd), r.r32(eventqCons), r.r32(priqProd), r.r32(priqCons))
}

// TestRestoredDeviceIsTheModel saves the device and restores it into another one with another host,
// after each step of a random life. Both the guest and the embedder see no difference.
func TestRestoredDeviceIsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := newPair(t, anyFeatures.Draw(rt, "features"))
		defer func() { _ = p.Close() }()
		step := p.actions()
		compare := step[""]
		step[""] = func(rt *rapid.T) {
			compare(rt)
			p.migrate(rt)
		}
		rt.Repeat(step)
	})
}

// migrate replaces the device and its host.
func (p *pair) migrate(t *rapid.T) {
	m, mood := p.model, p.model.host
	state, err := p.Save()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.due) != 0 {
		m.flush()
	}
	p.compare(t)
	_ = p.Close()

	p.host = newHost(p.IDs())
	m.host = willing
	d, err := New(Config{IDs: p.IDs(), Memory: p.mem, Interrupts: p.irqs})
	if err != nil {
		t.Fatal(err)
	}
	p.Device = d
	for _, sid := range m.order() {
		if err := p.Attach(sid, p.host, sid); err != nil {
			t.Fatal(err)
		}
	}
	p.host.Forget()
	if err := p.Restore(state); err != nil {
		t.Fatal(err)
	}
	m.migrate()
	p.compare(t)
	m.host = mood
	p.host.FailWith(p.fails)
	if len(state) > 2048+128*len(m.streams) {
		t.Fatalf("%d bytes for %d streams", len(state), len(m.streams))
	}
}

// TestStateLayout pins the encoding, see docs/save-format.md.
func TestStateLayout(t *testing.T) {
	r := newStallRig(t, withStalls)
	r.ste(3, 0xb|cdAt|5<<59, 0xfd)
	r.run(cmdCfgiSTE(3), cmdSync)
	r.host.Emit(stalled(4, 0xabcd))
	p := r.save()
	u32 := func(off int) uint32 { return binary.LittleEndian.Uint32(p[off:]) }
	u64 := func(off int) uint64 { return binary.LittleEndian.Uint64(p[off:]) }
	require.Len(t, p, 356+6+2*64+4)
	assert.Equal(t, "vSMMUv3\n", string(p[:8]))
	assert.Equal(t, uint32(2), u32(8), "version")
	assert.Equal(t, uint32(len(p)), u32(12), "length")
	assert.Equal(t, r.r32(0x00), u32(16), "IDR0")
	assert.Equal(t, r.r32(0x14), u32(36), "IDR5")
	assert.Equal(t, uint32(0xd), u32(48+0x20), "CR0")
	assert.Equal(t, uint64(strtabAt), u64(48+0x80), "STRTAB_BASE")
	assert.Equal(t, uint32(1), u32(48+0xa8), "EVENTQ_PROD")
	assert.Equal(t, uint32(0), u32(304), "GBPA")
	assert.Equal(t, uint32(1), u32(348), "stalled transactions")
	assert.Equal(t, uint32(2), u32(352), "streams")
	assert.Equal(t, []byte{4, 0, 0, 0, 0xcd, 0xab}, p[356:362])
	assert.Equal(t, uint32(3), u32(362), "StreamID")
	assert.Equal(t, []byte{2, 0, 1 << 4, 0}, p[366:370], "Translate, no cause, an STE was found")
	assert.Equal(t, uint64(0xb|cdAt|5<<59), u64(378), "STE dw0")
	assert.Equal(t, uint64(0xfd), u64(386), "STE dw1")
	assert.Zero(t, u64(394)|u64(402), "STE dw2 and dw3")
	assert.Equal(t, uint64(strtabAt+3*64), u64(418), "where the STE is")
	assert.Equal(t, crc32.ChecksumIEEE(p[:len(p)-4]), u32(len(p)-4))
}

// TestRestore shows that the restored device continues each kind of pending work.
func TestRestore(t *testing.T) {
	t.Run("an STE changed without CFGI takes no effect", func(t *testing.T) {
		r := newStallRig(t)
		r.ste(3, 0)
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(r.save()))
		assert.Equal(t, r.registers(), n.registers())
		assert.Equal(t, translates, n.stage(3))
		n.run(cmdCfgiSTE(3))
		assert.Equal(t, badSTE, n.stage(3))
	})
	t.Run("batched invalidations go to the old host, queued commands to the new", func(t *testing.T) {
		r := newStallRig(t)
		r.host.Forget()
		r.run(tlbi(1))
		var s state
		r.engine.Lock() // no other goroutine consumes the queue
		r.w32(cmdqProd, r.put(tlbi(2), cmdSyncIRQ))
		r.Device.save(&s)
		old := r.invalidated()
		r.engine.Unlock()
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(s.encode()))
		n.eventually(func() bool { return n.r32(cmdqCons) == 3 }, "the queue is consumed")
		assert.Equal(t, []smmuv3.Command{tlbi(1)}, old)
		assert.Equal(t, []smmuv3.Command{tlbi(2)}, n.invalidated())
	})
	t.Run("an unacknowledged error stays active", func(t *testing.T) {
		r := newStallRig(t)
		r.run(tlbi(1), smmuv3.Command{0xff}, cmdSyncIRQ)
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(r.save()))
		assert.Equal(t, uint32(1|1<<24), n.r32(cmdqCons))
		n.mem.SetWords(cmdqAt+16, 0x46, 0)
		n.irqs.take()
		n.w32(gerrorn, 1)
		n.eventually(func() bool { return n.r32(cmdqCons) == 3 }, "the queue continues")
		assert.Equal(t, []Line{LineCmdSync}, n.irqs.take())
	})
	t.Run("the next SYNC reports an earlier ATC timeout", func(t *testing.T) {
		r := newStallRig(t, withATS)
		r.ste(3, 0xb|cdAt, 1<<28)
		r.run(cmdCfgiSTE(3), smmuv3.Command{0x40 | 3<<32, 52})
		r.host.FailWith(func(record.Call) error { return bridge.ErrATCTimeout })
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(r.save()))
		n.run(cmdSync)
		assert.Equal(t, uint32(2|3<<24), n.r32(cmdqCons))
	})
	t.Run("an unacknowledged change of CR0 is applied", func(t *testing.T) {
		r := newStallRig(t)
		r.engine.Lock()
		r.w32(cr0, 0xc)
		state := &state{}
		r.Device.save(state)
		r.engine.Unlock()
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(state.encode()))
		n.eventually(func() bool { return n.r32(0x24) == 0xc }, "CR0ACK follows")
		assert.Equal(t, offBypass, n.stage(3))
	})
	t.Run("page requests", func(t *testing.T) {
		r := newPRIRig(t, withPRI)
		r.fill()
		r.host.Request(request(prLast))
		n := r.fresh(3)
		require.NoError(t, n.Restore(r.save()))
		n.host.Forget()
		n.host.Request(request(prLast))
		assert.Equal(t, []bridge.PageResponse{success}, n.responses(), "the overflow still blocks")
		n.w32(priqCons, 1<<31|4)
		n.host.Request(request(prLast))
		assert.Equal(t, uint32(1<<31|5), n.r32(priqProd))
	})
	t.Run("RESUME of a transaction that the old host held has no effect", func(t *testing.T) {
		r := newStallRig(t, withStalls)
		r.host.Emit(stalled(3, 7))
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(r.save()))
		n.host.Emit(stalled(3, 7)) // another
		n.idle()
		assert.Equal(t, uint32(1), n.r32(eventqProd), "a new event is not merged into the saved one")
		n.run(cmdResume(3, 7, 0b10))
		n.idle()
		n.eventually(func() bool { return !n.host.Stalled(3, 7) }, "the transaction is retried")
		assert.Equal(t, []record.Call{resume(3, 7, bridge.Retry)}, n.resumed())
	})
	t.Run("Service Failure Mode", func(t *testing.T) {
		r := newStallRig(t)
		r.host.FailWith(func(record.Call) error { return errAgain })
		r.ste(3, 0)
		r.run(cmdCfgiSTE(3))
		require.Equal(t, uint32(smmuv3.GERROR_SFM_ERR), r.gerror())
		n := r.fresh(3, 4)
		require.NoError(t, n.Restore(r.save()))
		assert.Equal(t, bridge.Abort, n.stage(4).Disposition)
		n.w32(cmdqProd, n.put(cmdSync))
		n.idle()
		assert.Equal(t, uint32(0), n.r32(cmdqCons), "commands stay where they are")
		require.NoError(t, n.Reset())
		assert.Equal(t, offBypass, n.stage(4))
	})
}

// TestSaveLeavesTheDeviceAtRest shows that Save executes all pending work first, even with a slow
// host, and that the restored device executes none of it again.
func TestSaveLeavesTheDeviceAtRest(t *testing.T) {
	r := newStallRig(t)
	r.host.FailWith(func(record.Call) error {
		time.Sleep(time.Millisecond)
		return nil
	})
	var cmds []smmuv3.Command
	for i := range 120 { // far more than a store executes
		cmds = append(cmds, tlbi(i), cmdSync)
	}
	// Linux's MSI overwrites the SYNC itself (§4.7.3), which could not be executed a second time.
	prod := r.put(cmds...)
	self := uint64(cmdqAt + 16*prod)
	r.w32(smmuv3.RegCMDQ_PROD, prod)
	r.w32(smmuv3.RegCMDQ_PROD, r.put(smmuv3.Command{0x1046, self}))
	state := r.save()
	done := len(r.invalidated())
	assert.Equal(t, []uint64{0}, r.mem.Words(guestmem.GPA(self), 1))

	n := r.fresh(3, 4)
	require.NoError(t, n.Restore(state))
	n.idle()
	assert.Equal(t, prod+1, n.r32(cmdqCons))
	assert.Zero(t, n.gerror())
	assert.Empty(t, n.invalidated())
	assert.Equal(t, 120, done)
	assert.Equal(t, r.registers(), n.registers(), "the device that was saved has done nothing more")
}

// TestSaveEndsWhileTheGuestContinues shows that Save executes the commands issued before it, and
// ends although the guest adds more.
func TestSaveEndsWhileTheGuestContinues(t *testing.T) {
	r := newStallRig(t)
	var added atomic.Int64
	r.host.FailWith(func(record.Call) error { // the engine calls this function
		added.Add(1)
		r.w32(cmdqProd, r.put(tlbi(1), cmdSync))
		return nil
	})
	r.w32(cmdqProd, r.put(tlbi(1), cmdSync))
	r.save()
	r.host.FailWith(nil)
	assert.Positive(t, added.Load())
}

// TestSavedIDs shows that New takes the IDs of a state. Attach then refuses a host that lacks one
// of their features, and names the field.
func TestSavedIDs(t *testing.T) {
	r := newStallRig(t)
	ids, err := SavedIDs(r.save())
	require.NoError(t, err)
	assert.Equal(t, rigIDs, ids)
	_, err = SavedIDs(nil)
	assert.ErrorIs(t, err, ErrState)
	bad := r.save()
	binary.LittleEndian.PutUint32(bad[16:], 0) // IDR0 without tables
	_, err = SavedIDs(binary.LittleEndian.AppendUint32(bad[:len(bad)-4], crc32.ChecksumIEEE(bad[:len(bad)-4])))
	assert.ErrorIs(t, err, ErrState)
	assert.ErrorContains(t, err, "TTF")

	n := r.fresh()
	lesser := ids
	lesser.Set(smmuv3.SSIDSIZE, 5)
	err = n.Attach(3, record.New(bridge.Capabilities{IDs: lesser}), "GPU")
	var fe *idr.FieldError
	require.ErrorAs(t, err, &fe)
	assert.Equal(t, smmuv3.SSIDSIZE, fe.Field)
}

// TestStateIsSmall shows that a state takes at most 2 KiB and 128 bytes for each stream, with as
// many stalls as possible.
func TestStateIsSmall(t *testing.T) {
	r := newRig(t, withStalls, func(c *Config) { c.IDs.Set(smmuv3.StallMax, 128) })
	r.w64(eventqBase, eventqAt|8)
	for sid := range smmuv3.StreamID(50) {
		require.NoError(t, r.Attach(sid, r.host, sid))
		r.ste(sid, 0xb|cdAt)
	}
	r.setup()
	r.enable(0x9)
	r.w64(eventqBase, eventqAt|8)
	r.enable(0xd)
	for stag := range uint16(200) {
		r.host.Emit(stalled(3, stag))
	}
	require.Len(t, r.eventq.stalls.reported, 128)
	assert.LessOrEqual(t, len(r.save()), 2048+128*50)
	for range 50 {
		require.NoError(t, r.Detach(r.streams.All()[0].ID))
	}
	assert.LessOrEqual(t, len(r.save()), 2048)

	assert.LessOrEqual(t, headerSize+deviceSize+128*stallSize+crc32.Size, 2048)
	assert.LessOrEqual(t, savedStreamSize, 128)
	ids := r.IDs()
	ids.Set(smmuv3.StallMax, 129)
	_, err := New(Config{IDs: ids, Memory: r.mem, Interrupts: r.irqs})
	assert.ErrorContains(t, err, "STALL_MAX")
}

// TestSaveOfARunningDevice shows that each state can be restored, while vCPUs store, hosts report
// events, and streams come and go.
func TestSaveOfARunningDevice(t *testing.T) {
	r := newPRIRig(t, withPRI, withStalls)
	var wg sync.WaitGroup
	quit := make(chan struct{})
	for _, f := range []func(i int){
		func(i int) {
			// A full queue takes nothing until the device has consumed some of it.
			if prod, err := r.driver().Place(tlbi(i), cmdResume(3, uint16(i), 1), cmdSyncIRQ); err == nil {
				r.w32(cmdqProd, prod)
			}
		},
		func(i int) { r.w32(gerrorn, r.r32(gerror)); r.w32(eventqCons, r.r32(eventqProd)) },
		func(i int) { r.host.Emit(stalled(3, uint16(i))); r.host.Emit(fault(uint64(i))) },
		func(i int) { r.host.Request(request(prLast)); r.w32(priqCons, r.r32(priqProd)) },
		func(i int) { r.w32(cr0, uint32(0xc|i&3)) },
	} {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-quit:
					return
				default:
					f(i)
				}
			}
		})
	}
	for range 50 {
		state := r.save()
		n := &rig{TB: t, mem: new(guestmem.Fake), irqs: new(irqs), host: newHost(r.IDs())}
		d, err := New(Config{IDs: r.IDs(), Memory: n.mem, Interrupts: n.irqs})
		require.NoError(t, err)
		require.NoError(t, d.Attach(3, n.host, "NVMe"))
		require.NoError(t, d.Restore(state))
		require.NoError(t, d.Close())
	}
	close(quit)
	wg.Wait()
}

// TestDirty shows that Dirty gets every write to guest memory, and no other.
func TestDirty(t *testing.T) {
	var dirty []guestmem.Range
	r := newPRIRig(t, withPRI, func(c *Config) {
		c.Dirty = func(g guestmem.Range) { dirty = append(dirty, g) }
	})
	r.host.Emit(fault(1))
	r.host.Request(request(prLast))
	r.run(smmuv3.Command{0x1046 | 0x77<<32, 0x600000})
	r.idle()
	assert.Equal(t, []guestmem.Range{{GPA: eventqAt, Len: 32}, {GPA: priqAt, Len: 16}, {GPA: 0x600000, Len: 4}}, dirty)
	r.mem.FailWrites(everywhere, nil)
	r.host.Emit(fault(2))
	r.run(smmuv3.Command{0x1046, 0x600000})
	r.idle()
	assert.Len(t, dirty, 3, "failed writes and MSIs outside memory are not reported")
}

// TestRestoreFetchesAgain_3_21_3 shows that a restored device refetches an STE whose fetch failed.
func TestRestoreFetchesAgain_3_21_3(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.ste(3, 0xb|cdAt)
	r.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 1 << 14}, nil)
	r.setup()
	s, err := decodeState(r.save())
	require.NoError(t, err)
	r.mem.Heal()
	for flag, want := range map[uint32]bridge.Disposition{0: bridge.Abort, stateRefetch: bridge.Translate} {
		s.Flags = flag
		n := r.fresh(3)
		require.NoError(t, n.Restore(s.encode()))
		n.idle()
		assert.Equal(t, want, n.stage(3).Disposition)
	}
}

// TestRestoredPRIQueueIsEnabledByBoth_6_3_9_5 shows that PRIQEN and SMMUEN together enable the
// queue.
func TestRestoredPRIQueueIsEnabledByBoth_6_3_9_5(t *testing.T) {
	for cr0, want := range map[uint32]Fate{
		smmuv3.CR0_SMMUEN: Discarded, smmuv3.CR0_PRIQEN: Discarded, smmuv3.CR0_SMMUEN | smmuv3.CR0_PRIQEN: Recorded,
	} {
		r := newRig(t, withPRI)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.w64(smmuv3.RegPRIQ_BASE, 0x500000|4)
		r.enable(cr0)
		n := r.fresh(3)
		require.NoError(t, n.Restore(r.save()))
		n.host.Request(smmuv3.PageRequest{3 | 1<<60 | 1<<62, 0x1000})
		assert.Equalf(t, uint64(1), n.Stats().PageRequests[want], "CR0 = %#x", cr0)
	}
}

// TestRestoredIndicesAreAsWideAsTheirQueue_6_3_28 shows that Restore clears index bits above the
// wrap bit.
func TestRestoredIndicesAreAsWideAsTheirQueue_6_3_28(t *testing.T) {
	r := newRig(t)
	r.w64(0x90, cmdqAt|4)
	r.w32(0xa0, 2)
	saved, err := r.Save()
	require.NoError(t, err)
	s, err := decodeState(saved)
	require.NoError(t, err)
	s.Regs[wCMDQProd], s.Regs[wCMDQCons], s.Regs[wEVENTQProd] = 0x25, 0x0100_0025, 0x8000_0079
	fresh := newRig(t)
	require.NoError(t, fresh.Restore(s.encode()))
	assert.Equal(t, uint32(0x5), fresh.r32(0x98))
	assert.Equal(t, uint32(0x0100_0005), fresh.r32(0x9c))
	assert.Equal(t, uint32(0x8000_0001), fresh.r32(0x100a8))
}
