package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// These tests replay the stores and loads of drivers that no test boots, where the drivers differ
// from Linux.

// TestKdumpKernelKeepsSMMUEN replays a kernel that boots after a crash. The kernel keeps the SMMU
// enabled, since DMA continues through tables that it adopts. It replaces the queues, which may be
// in any state. No stream changes.
func TestKdumpKernelKeepsSMMUEN(t *testing.T) {
	const cmdqAt2, eventqAt2 = 0x210000, 0x310000
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.run(cmdSync, smmuv3.Command{0xff}, tlbi(1), cmdSync) // the crash comes before CMDQ_ERR is acknowledged
	require.Equal(t, uint32(1), r.gerror())
	r.host.Emit(fault(1))
	require.Equal(t, translates, r.stage(3))
	r.host.Forget()
	r.irqs.take()

	r.w32(irqCtrl, 0)
	assert.Zero(t, r.r32(irqAck))
	r.enable(smmuv3.CR0_SMMUEN)
	r.w32(gerrorn, r.r32(gerror))
	assert.Zero(t, r.gerror())
	r.w64(0x80, 0xdead_0000) // STRTAB_BASE stays, as do CR1 and CR2
	assert.Equal(t, uint64(strtabAt), r.Load(0x80, 8))

	r.w64(cmdqBase, cmdqAt2|7)
	r.w32(cmdqProd, 0)
	r.w32(cmdqCons, 0)
	assert.Zero(t, r.r32(cmdqCons), "ERR is cleared with the error")
	r.enable(smmuv3.CR0_SMMUEN | smmuv3.CR0_CMDQEN)
	r.run(smmuv3.Command{0x04, 31}, cmdSync) // CFGI_ALL
	r.run(smmuv3.Command{0x30}, cmdSync)     // TLBI_NSNH_ALL
	assert.Equal(t, uint32(4), r.r32(cmdqCons))
	assert.Equal(t, []smmuv3.Command{{0x06 | 3<<32}, {0x30}}, r.invalidated(), "and no stage is bound")

	r.w64(eventqBase, eventqAt2|4)
	r.w32(eventqProd, 0)
	r.w32(eventqCons, 0)
	r.enable(smmuv3.CR0_SMMUEN | smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	assert.Empty(t, r.irqs.take(), "no interrupt for earlier events")
	r.w32(irqCtrl, smmuv3.IRQ_CTRL_EVENTQ_IRQEN|smmuv3.IRQ_CTRL_GERROR_IRQEN)
	r.host.Emit(fault(1))
	assert.Equal(t, uint32(1), r.r32(eventqProd))
	assert.NotZero(t, r.mem.Words(eventqAt2, 1)[0])
	assert.Equal(t, []Line{LineEventQ}, r.irqs.take())
	assert.Equal(t, translates, r.stage(3))
}

// TestFreeBSD replays FreeBSD's driver. The driver waits for each CMD_SYNC by the word that its MSI
// overwrites, for any IDR0.MSI. It reads PROD and CONS in one load, disables only SMMUEN before it
// begins, and writes a new STE's first double-word last, with a CFGI_STE before and after.
func TestFreeBSD(t *testing.T) {
	r := newRig(t) // whose IDR0.MSI is 1
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.host.Forget()

	r.w32(cr0, r.r32(cr0)&^1)
	for _, cfg := range []uint64{0x68, 0xb0} { // GERROR_IRQ_CFG0, EVENTQ_IRQ_CFG0: no MSIs
		r.w64(cfg, 0)
		r.w32(cfg+8, 0)
		r.w32(cfg+12, 0)
	}
	for _, v := range []uint32{0, smmuv3.IRQ_CTRL_EVENTQ_IRQEN | smmuv3.IRQ_CTRL_GERROR_IRQEN} {
		r.w32(irqCtrl, v)
		assert.Equal(t, v, r.r32(irqAck))
	}
	r.w32(0x28, 0xd75)              // CR1: inner shareable, write-back
	r.w32(0x2c, 0x7)                // CR2: PTM and E2H are RES0
	r.w64(0x80, 1<<62|strtabAt)     // STRTAB_BASE, RA
	r.w32(0x88, 8)                  // linear
	r.w64(cmdqBase, 1<<62|cmdqAt|8) // RA
	r.w32(cmdqProd, 0)
	r.w32(cmdqCons, 0)
	r.enable(smmuv3.CR0_CMDQEN)
	sync := func() {
		at := guestmem.GPA(cmdqAt + 16*(r.r32(cmdqProd)&0xff))
		r.run(smmuv3.Command{0x46 | 1<<12 | 3<<22 | 0xf<<24, uint64(at)})
		assert.Zero(t, uint32(r.mem.Words(at, 1)[0]), "the SYNC's own first word")
	}
	cfgi := func() { r.run(smmuv3.Command{0x03 | 3<<32}); sync() }
	r.run(smmuv3.Command{0x04, 31})
	sync()
	r.run(smmuv3.Command{0x30})
	sync()
	r.w64(eventqBase, 1<<62|eventqAt|4)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN)
	r.enable(smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_SMMUEN)
	assert.Equal(t, []bridge.GuestStage{badSTE}, r.binds())

	r.mem.SetWords(strtabAt+64*3+8, 1<<28|0xd4, 0, 0, 0, 0, 0, 0) // EATS without ATS, S1CSH, S1COR, S1CIR
	cfgi()
	r.mem.SetWords(strtabAt+64*3, 0xb|cdAt)
	cfgi()
	r.run(smmuv3.Command{0x05 | 3<<32, 1}) // CFGI_CD
	cfgi()
	r.run(smmuv3.Command{0x01 | 3<<32}) // PREFETCH_CONFIG
	sync()
	stage := translates
	stage.S1CIR, stage.S1COR, stage.S1CSH = 1, 1, 3
	assert.Equal(t, []bridge.GuestStage{stage}, r.binds())

	r.host.Emit(fault(1))
	assert.Equal(t, uint64(1), r.Load(eventqProd, 8), "PROD 1, CONS 0")
	r.w32(eventqCons, 1)
	assert.Equal(t, uint64(1|1<<32), r.Load(eventqProd, 8))
	assert.Zero(t, r.gerror())
}

// TestFirmwareHandsOver replays firmware. It aborts all DMA until it knows a device, then
// translates. At its end it disables everything at once, and makes DMA bypass. It clears errors by
// a store to GERROR, which is read-only.
func TestFirmwareHandsOver(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	set := func(and, or uint32) { // GBPA
		r.w32(gbpa, r.r32(gbpa)&and|or|1<<31)
		r.idle()
		require.Zero(t, r.r32(gbpa)&(1<<31))
	}
	set(^uint32(0), 1<<20)
	assert.Equal(t, offAbort, r.stage(3))
	r.w32(gerror, r.r32(gerror)&0x1fd)
	r.setup()
	assert.Equal(t, translates, r.stage(3))
	r.run(tlbi(1), smmuv3.Command{0x46 | 2<<12}) // CS = SIG_SEV: the driver reads CONS
	assert.Equal(t, uint32(2), r.r32(cmdqCons))

	set(^uint32(1<<20), 0)
	assert.Equal(t, translates, r.stage(3), "GBPA is in effect while the SMMU is disabled")
	r.enable(0)
	assert.Equal(t, offBypass, r.stage(3))
	assert.Zero(t, r.gerror())
}
