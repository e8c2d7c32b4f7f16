package vsmmu

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestEverythingAtOnce is for the race detector: vCPUs store and load, a host raises events and
// sometimes fails, and the embedder attaches, detaches and resets, all at the same time. The device
// works afterwards.
func TestEverythingAtOnce(t *testing.T) {
	const rounds = 2000
	r := newRig(t, withPRI, withStalls, func(c *Config) {
		c.Watch = func([]guestmem.Range) {}
		c.IDs.Set(smmuv3.CMDQS, 8)
	})
	for sid := range smmuv3.StreamID(4) {
		r.ste(sid, 0xb|cdAt)
	}
	cmds := []smmuv3.Command{
		tlbi(1), cmdSync, cmdSyncIRQ, cmdCfgiSTE(1), {0x04, 31}, {0x05 | 2<<32, 1}, {0x30}, {0x1046, 0x500000}, {0xff},
		cmdResume(1, 2, 1), cmdResume(2, 3, 0), {0x45 | 1<<32}, {0x41 | 1<<32, 5 | 2<<12}, {0x40 | 3<<32, 52},
	}
	for i := range 256 {
		c := cmds[i%len(cmds)]
		r.mem.SetWords(cmdqAt+guestmem.GPA(16*i), c[0], c[1])
	}
	var fails sync.Mutex
	dice := rand.New(rand.NewPCG(1, 2))
	r.host.FailWith(func(c record.Call) error {
		fails.Lock()
		defer fails.Unlock()
		if c.Op != record.Attach && c.Op != record.CloseStream && dice.IntN(20) == 0 {
			return errAgain
		}
		return nil
	})
	offs := []uint64{0x20, 0x24, 0x2c, 0x44, 0x50, 0x60, 0x64, 0x68, 0x80, 0x88, 0x90, 0x98, 0x9c, 0xa0, 0xb0, 0x100a8, 0x100ac, 0xc0, 0xd0, 0x100c8, 0x100cc}

	var all sync.WaitGroup
	for vcpu := range uint64(4) {
		all.Go(func() {
			dice := rand.New(rand.NewPCG(vcpu, 1))
			for range rounds {
				switch off := offs[dice.IntN(len(offs))]; dice.IntN(8) {
				case 0:
					r.Store(off, 4<<dice.IntN(2), dice.Uint64())
				case 1:
					r.w64(0x90, cmdqAt|8)
					r.w64(0x80, strtabAt)
					r.w32(0x88, 8)
					r.w64(0xa0, eventqAt|4)
					r.w64(0xc0, priqAt|4)
				case 2:
					r.w32(cr0, 0xf)
				case 3:
					r.w32(gerrorn, r.r32(gerror))
				case 4:
					r.w32(cmdqProd, r.r32(cmdqCons)+uint32(dice.IntN(64)))
				case 5:
					r.ste(smmuv3.StreamID(dice.IntN(4)), [...]uint64{0, 9, 0xb | cdAt, ^uint64(0)}[dice.IntN(4)])
				case 6:
					r.w32(eventqCons, r.r32(eventqProd))
					r.w32(priqCons, r.r32(priqProd))
				default:
					r.Load(off, 4<<dice.IntN(2))
				}
			}
		})
	}
	all.Go(func() { // the host
		for i := range uint64(rounds) {
			r.host.Emit(fault(i / 2))
			if i%50 == 0 {
				r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 1))
			}
			r.host.Emit(stalled(smmuv3.StreamID(i%4), uint16(i%8)))
			r.host.Request(smmuv3.PageRequest{i%4 | (i%16)<<60, i % 512})
		}
	})
	all.Go(func() { // the embedder
		for i := range rounds / 10 {
			sid := smmuv3.StreamID(i % 4)
			if r.Attach(sid, r.host, sid) != nil {
				_ = r.Detach(sid)
			}
			r.GuestWrote(everywhere)
			_, _ = r.Device.Stage(sid)
			_ = r.Stats()
			if i%20 == 0 {
				_ = r.Reset()
			}
		}
	})
	all.Wait()

	r.host.FailWith(nil)
	require.NoError(t, r.Reset())
	_ = r.Detach(1)
	require.NoError(t, r.Attach(1, r.host, "new"))
	r.ste(1, 0xb|cdAt)
	r.setup()
	r.run(cmdCfgiSTE(1), tlbi(1), cmdSync)
	r.idle()
	assert.Equal(t, translates, r.stage(1))
	assert.Equal(t, uint32(3), r.r32(cmdqCons))
	assert.Zero(t, r.gerror())
}

// TestCloseAtAnyTime shows that calls made while the device closes return.
func TestCloseAtAnyTime(t *testing.T) {
	for range 50 {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.put(make([]smmuv3.Command, 255)...)
		for i := range uint64(255) {
			r.mem.SetWords(cmdqAt+guestmem.GPA(16*i), 0x46)
		}
		var all sync.WaitGroup
		all.Go(func() { r.w32(cmdqProd, 255); r.w32(gbpa, 0x80100000); r.w32(cr0, 0) })
		all.Go(func() { r.host.Emit(fault(1)); r.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 3)) })
		all.Go(func() { _ = r.Reset() })
		all.Go(func() { _ = r.Close() })
		all.Go(func() { _ = r.Close() })
		all.Go(func() { _ = r.Attach(4, r.host, "late") })
		all.Wait()
		assert.ErrorIs(t, r.Close(), ErrClosed)
		assert.Zero(t, r.Load(0, 4))
		_, attached := r.host.Stage(3)
		assert.False(t, attached)
		_, attached = r.host.Stage(4)
		assert.False(t, attached)
	}
}

// TestNoWorkIsForgotten shows that work from two vCPUs at the same moment is done without a further
// store.
func TestNoWorkIsForgotten(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.enable(smmuv3.CR0_CMDQEN) // SMMUEN is 0: GBPA is in effect
	for i := range uint64(256) {
		r.mem.SetWords(cmdqAt+guestmem.GPA(16*i), 0x11) // TLBI
	}
	prod := uint32(0)
	for range 2000 {
		prod = (prod + 3) & 0x1ff
		var both sync.WaitGroup
		both.Go(func() { r.w32(cmdqProd, prod) })
		both.Go(func() { r.w32(gbpa, 0x80100000) })
		both.Wait()
		r.eventually(func() bool { return r.r32(cmdqCons) == prod && r.r32(gbpa)>>31 == 0 }, "the work is done")
		r.host.Forget()
	}
}
