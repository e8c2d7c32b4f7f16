package vsmmu

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestWherePeersFail has a case for each known mistake of other implementations of this device in
// registers, queues and stream tables. Mistakes in ID registers are in package idr, in CDs in
// bridge/soft, and in Linux's interface in bridge/iommufd.
func TestWherePeersFail(t *testing.T) {
	ready := func(t *testing.T, change ...func(*Config)) *rig {
		r := newRig(t, change...)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.host.Forget()
		return r
	}

	t.Run("dies of an STE for a stage 2 that is not there", func(t *testing.T) {
		r := ready(t)
		for _, config := range []uint64{6, 7} {
			r.ste(3, 1|config<<1, 0, ^uint64(1<<51)) // S2AA64=0, all else set
			r.run(cmdCfgiSTE(3), cmdSync)
			r.idle()
			assert.Equal(t, badSTE, r.stage(3))
		}
	})
	t.Run("shifts by LOG2SIZE 63", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.mem.SetWords(64*3, 0xb|cdAt) // a table of 2^63 STEs begins at 0
		r.w64(0x80, strtabAt)
		r.w32(0x88, 63)
		r.enable(1)
		assert.Equal(t, translates, r.stage(3))
	})
	t.Run("consumes a whole queue within one store", func(t *testing.T) {
		r := ready(t)
		r.engine.Lock() // the worker stays out
		r.w32(cmdqProd, r.put(make([]smmuv3.Command, 200)...))
		assert.Zero(t, r.r32(cmdqCons), "and so does the vCPU: it never waits for the engine")
		r.engine.Unlock()
	})
	t.Run("consumes the ring when PROD is behind CONS", func(t *testing.T) {
		r := newRig(t)
		r.w64(cmdqBase, cmdqAt|8)
		r.w32(cmdqCons, 1)
		r.enable(smmuv3.CR0_CMDQEN)
		reads := r.mem.Reads()
		r.w32(cmdqProd, 0)
		r.idle()
		assert.Equal(t, uint32(1), r.r32(cmdqCons))
		assert.Equal(t, reads, r.mem.Reads())
	})
	t.Run("takes STRTAB_BASE, CMDQ_BASE, CMDQ_CONS and EVENTQ_PROD while enabled", func(t *testing.T) {
		r := ready(t)
		for _, off := range []uint64{0x80, 0x88, 0x90, 0x9c, 0xa0, 0xa8, 0x100a8} {
			old := r.Load(off, 4)
			r.w32(off, ^uint32(0))
			assert.Equalf(t, old, r.Load(off, 4), "at %#x", off)
		}
	})
	t.Run("takes a full event queue for an abort", func(t *testing.T) {
		r := ready(t)
		for i := range uint64(17) {
			r.host.Emit(fault(i))
		}
		assert.Zero(t, r.gerror())
		assert.Equal(t, uint32(overflow|16), r.r32(eventqProd))
	})
	t.Run("takes an L1STD.Span beyond SPLIT+1", func(t *testing.T) {
		r := newRig(t)
		require.NoError(t, r.Attach(0x1ff, r.host, "disk"))
		r.w64(0x80, 0x7000_0000)
		r.w32(0x88, 1<<16|8<<6|16)
		r.w32(0x2c, 2) // RECINVSID
		r.mem.SetWords(0x7000_0008, 0x7100_0000|10)
		r.mem.SetWords(0x7100_0000+64*0xff, 0xb|cdAt)
		r.enable(1)
		assert.Equal(t, bridge.GuestStage{Cause: smmuv3.CBadStreamID}, r.stage(0x1ff))
		r.mem.SetWords(0x7000_0008, 0x7100_0000|9)
		r.GuestWrote(everywhere)
		assert.Equal(t, translates, r.stage(0x1ff), "SPLIT+1 is legal")
	})
	t.Run("keeps STRTAB_BASE_CFG.FMT until reset", func(t *testing.T) {
		r := ready(t)
		r.enable(0)
		r.w32(0x88, 1<<16|8<<6|8)
		r.enable(1)
		r.enable(0)
		r.w32(0x88, 8)
		assert.Equal(t, uint32(8), r.r32(0x88))
		r.ste(3, 0xb|cdAt)
		r.enable(1)
		assert.Equal(t, translates, r.stage(3))
	})
	t.Run("fetches from a misaligned CMDQ_BASE", func(t *testing.T) {
		r := newRig(t)
		r.w64(cmdqBase, cmdqAt|0x20|8)
		r.enable(smmuv3.CR0_CMDQEN)
		r.mem.SetWords(cmdqAt, 0x46)
		r.mem.SetWords(cmdqAt+0x20, 0xff)
		r.w32(cmdqProd, 1)
		r.idle()
		assert.Zero(t, r.gerror())
	})
	t.Run("drops 64-bit accesses to pairs of 32-bit registers", func(t *testing.T) {
		r := newRig(t)
		r.w64(0xb8, 0x0000000f_12345678)
		assert.Equal(t, uint64(0x0000000f_12345678), r.Load(0xb8, 8))
	})
	t.Run("keeps CMDQ_CONS.ERR after the acknowledgement", func(t *testing.T) {
		r := ready(t)
		r.run(smmuv3.Command{0xff})
		require.Equal(t, uint32(1<<24), r.r32(cmdqCons))
		r.w32(cmdqProd, 0)
		r.w32(gerrorn, 1)
		assert.Zero(t, r.r32(cmdqCons))
	})
	for name, c := range map[string]smmuv3.Command{
		"SYNC with CS=3": {0x3046}, "TLBI_EL2_ALL": {0x20}, "TLBI_EL3_ALL": {0x18},
		"ATC_INV without ATS": {0x40 | 3<<32, 52}, "RESUME": {0x44 | 3<<32}, "STALL_TERM": {0x45 | 3<<32},
	} {
		t.Run("takes in silence: "+name, func(t *testing.T) {
			r := ready(t)
			r.run(c)
			assert.Equal(t, uint32(1<<24), r.r32(cmdqCons))
			assert.Equal(t, uint32(1), r.gerror())
		})
	}
	t.Run("moves devices at a GBPA write while enabled, and none when SMMUEN changes", func(t *testing.T) {
		r := ready(t)
		r.w32(gbpa, 0x80100000)
		r.idle()
		assert.Empty(t, r.binds())
		r.enable(0)
		assert.Equal(t, []bridge.GuestStage{offAbort}, r.binds())
	})
	t.Run("leaves the stale stage when an STE cannot be fetched", func(t *testing.T) {
		r := newRig(t)
		r.ste(3, 0xb|cdAt)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 1 << 14}, nil)
		r.run(cmdCfgiSTE(3), cmdSync)
		r.idle()
		assert.Equal(t, bridge.Abort, r.stage(3).Disposition)
	})
	t.Run("raises an error for an event while EVENTQEN is 0", func(t *testing.T) {
		r := ready(t)
		r.enable(smmuv3.CR0_CMDQEN)
		r.host.Emit(fault(1))
		assert.Zero(t, r.gerror())
		assert.Zero(t, r.r32(eventqProd))
	})
	for name, words := range map[string][]uint64{
		"S1CDMax beyond SSIDSIZE":               {0xb | cdAt | 11<<59},
		"S1STALLD where faults terminate":       {0xb | cdAt, 1 << 27},
		"EATS=split outside nested translation": {0xb | cdAt, 2 << 28},
		"S1ContextPtr beyond the OAS":           {0xb | 1<<44},
	} {
		t.Run("takes unchecked: "+name, func(t *testing.T) {
			r := ready(t, withATS)
			r.ste(3, words...)
			r.run(cmdCfgiSTE(3), cmdSync)
			r.idle()
			assert.Equal(t, badSTE, r.stage(3))
		})
	}
	t.Run("does not resume when GERRORN is written", func(t *testing.T) {
		r := ready(t)
		r.run(smmuv3.Command{0xff}, cmdSync)
		r.mem.SetWords(cmdqAt, 0x46)
		r.w32(gerrorn, 1)
		r.idle()
		assert.Equal(t, uint32(2), r.r32(cmdqCons))
	})
	t.Run("holds interrupts at a level", func(t *testing.T) {
		r := ready(t)
		r.run(cmdSyncIRQ, cmdSyncIRQ)
		r.idle()
		assert.Equal(t, []Line{LineCmdSync, LineCmdSync}, r.irqs.take(), "an edge each, and nothing to clear")
	})
	t.Run("dies when a stream cannot be made to abort", func(t *testing.T) {
		r := newRig(t)
		r.ste(3, 0xb|cdAt)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.ste(3, 0)
		r.host.FailWith(func(record.Call) error { return errors.New("no") })
		r.run(cmdCfgiSTE(3))
		r.idle()
		assert.Equal(t, uint32(smmuv3.GERROR_SFM_ERR), r.gerror())
	})
	t.Run("tells the guest CERROR_ILL for what the host rejects, and floods the log", func(t *testing.T) {
		log := newLog()
		r := newRig(t, func(c *Config) { c.Log = log.Logger })
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		r.host.FailWith(func(c record.Call) error {
			if c.Stage.Disposition == bridge.Translate {
				return bridge.ErrRejected
			}
			return nil
		})
		r.ste(3, 0xb|cdAt)
		for range 100 {
			r.run(cmdCfgiSTE(3), cmdSync)
			r.idle()
		}
		assert.Zero(t, r.gerror())
		assert.Equal(t, []smmuv3.Event{{4 | 3<<32}}, r.events(), "once, until the guest has seen it")
		assert.LessOrEqual(t, log.count(), logBurst+10)
	})
}
