package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// writable lists, for the rig's SMMU, which bits of each 32-bit word software may write, and which
// bits of CR0 or IRQ_CTRL make them read-only while set (§6.2.1, §6.2.2). The words are those of
// §6.3, not the package's.
var writable = []writableWord{
	{0x28, "CR1.QUEUE_*", 0x0000003f, 0xe, 0},
	{0x28, "CR1.TABLE_*", 0x00000fc0, 0x1, 0},
	{0x2c, "CR2", 0x00000002, 0x1, 0},
	{0x68, "GERROR_IRQ_CFG0[31:0]", 0xfffffffc, 0, 0x1},
	{0x6c, "GERROR_IRQ_CFG0[63:32]", 0x00ffffff, 0, 0x1},
	{0x70, "GERROR_IRQ_CFG1", 0xffffffff, 0, 0x1},
	{0x74, "GERROR_IRQ_CFG2", 0x0000003f, 0, 0x1},
	{0x80, "STRTAB_BASE[31:0]", 0xffffffc0, 0x1, 0},
	{0x84, "STRTAB_BASE[63:32]", 0x40ffffff, 0x1, 0},
	{0x88, "STRTAB_BASE_CFG", 0x000307ff, 0x1, 0},
	{0x90, "CMDQ_BASE[31:0]", 0xffffffff, 0x8, 0},
	{0x94, "CMDQ_BASE[63:32]", 0x40ffffff, 0x8, 0},
	{0x98, "CMDQ_PROD", 0x000fffff, 0, 0},
	{0x9c, "CMDQ_CONS", 0x000fffff, 0x8, 0},
	{0xa0, "EVENTQ_BASE[31:0]", 0xffffffff, 0x4, 0},
	{0xa4, "EVENTQ_BASE[63:32]", 0x40ffffff, 0x4, 0},
	{0xa8, "EVENTQ_PROD, page 0 alias", 0x800007ff, 0x4, 0},
	{0xac, "EVENTQ_CONS, page 0 alias", 0x800007ff, 0, 0},
	{0xb0, "EVENTQ_IRQ_CFG0[31:0]", 0xfffffffc, 0, 0x4},
	{0xb4, "EVENTQ_IRQ_CFG0[63:32]", 0x00ffffff, 0, 0x4},
	{0xb8, "EVENTQ_IRQ_CFG1", 0xffffffff, 0, 0x4},
	{0xbc, "EVENTQ_IRQ_CFG2", 0x0000003f, 0, 0x4},
	{0x100a8, "EVENTQ_PROD", 0x800007ff, 0x4, 0},
	{0x100ac, "EVENTQ_CONS", 0x800007ff, 0, 0},
}

// writableWord is a row of writable. A word may be in more than one row.
type writableWord struct {
	off  uint64
	name string
	mask uint32
	cr0  uint32
	irq  uint32
}

// queueBases are CMDQ_BASE, EVENTQ_BASE and PRIQ_BASE, whose LOG2SIZE says how many bits their
// queue's indices have.
var queueBases = []uint64{0x90, 0xa0, 0xc0}

// handshakes are the writable words that the SMMU acknowledges, with the value that remains of a
// store of all ones.
var handshakes = map[uint64]uint32{
	0x20: 0x0000000d, // CR0: SMMUEN, EVENTQEN, CMDQEN
	0x44: 0x001f3f1f, // GBPA: all fields, and Update has been cleared
	0x50: 0x00000005, // IRQ_CTRL: GERROR_IRQEN, EVENTQ_IRQEN
	0x64: 0x000001b5, // GERRORN: no PRI queue, no ECMDQ, no DPT
}

// TestRowsAreRegisters shows that each row's offset has a name, and that the row is as wide as the
// register of that name.
func TestRowsAreRegisters(t *testing.T) {
	for _, r := range registerMap {
		name := smmuv3.RegisterName(r.offset)
		assert.NotEmpty(t, name, "%#x", r.offset)
		assert.Equal(t, r.width == 64, smmuv3.RegisterName(r.offset+4) == name+"[63:32]", name)
	}
}

// TestRegisterMap_6_2 stores all ones to every word of the register space in the reset state, and
// reads back the stored bits. All other bits are read-only or RES0.
func TestRegisterMap_6_2(t *testing.T) {
	r := newRig(t)
	kept := map[uint64]uint32{}
	for off, v := range handshakes {
		kept[off] = v
	}
	for _, w := range writable {
		kept[w.off] |= w.mask
	}
	readOnly := map[uint64]uint32{
		0x00: rigIDs.IDR[0], 0x04: rigIDs.IDR[1], 0x14: rigIDs.IDR[5],
		// CIDR0 to CIDR3, and PIDR2.JEDEC; part and designer are 0.
		0xff0: 0x0d, 0xff4: 0xf0, 0xff8: 0x05, 0xffc: 0xb1, 0xfe8: 0x08,
	}
	for off := uint64(0); off < 0x20000; off += 4 {
		want, isKept := kept[off]
		if !isKept {
			want = readOnly[off]
			require.Equalf(t, want, r.r32(off), "reset value at %#x", off)
		}
		for _, base := range queueBases {
			if off != base {
				r.w32(base, 0x1f) // the indices have all their bits
			}
		}
		r.w32(off, 0xffffffff)
		r.idle()
		require.Equalf(t, want, r.r32(off), "at %#x", off)
		if isKept {
			require.NoError(t, r.Reset())
			require.Zerof(t, r.r32(off), "reset value at %#x", off)
		}
	}
	assert.Zero(t, r.Load(0x20000, 4), "beyond the pages")
	assert.Zero(t, r.Load(^uint64(7), 8))
	assert.Zero(t, r.Load(^uint64(3), 4))
	r.Store(^uint64(7), 8, ^uint64(0))
	r.Store(0x20020, 4, 0xffffffff)
	assert.Zero(t, r.r32(0x20))
}

// TestRegisterMap_Features shows that fields of features that the SMMU lacks are RES0.
func TestRegisterMap_Features(t *testing.T) {
	with := func(f smmuv3.IDField, v uint32) func(*Config) {
		return func(c *Config) { c.IDs.Set(f, v) }
	}
	for _, tc := range []struct {
		name   string
		change func(*Config)
		off    uint64
		want   uint32
	}{
		{"GERRORN without MSI", with(smmuv3.MSI, 0), 0x64, 0x105},
		{"GERROR_IRQ_CFG0 without MSI", with(smmuv3.MSI, 0), 0x68, 0},
		{"GERROR_IRQ_CFG1 without MSI", with(smmuv3.MSI, 0), 0x70, 0},
		{"EVENTQ_IRQ_CFG0 without MSI", with(smmuv3.MSI, 0), 0xb4, 0},
		{"EVENTQ_IRQ_CFG2 without MSI", with(smmuv3.MSI, 0), 0xbc, 0},
		{"STRTAB_BASE_CFG, linear tables only", func(c *Config) {
			c.IDs.Set(smmuv3.STLevel, 0)
			c.IDs.Set(smmuv3.SIDSIZE, 6)
		}, 0x88, 0x3f},
		{"CR0.ATSCHK with ATS", with(smmuv3.ATS, 1), 0x20, 0x1d},
		{"CMDQ_PROD, CMDQS 0", with(smmuv3.CMDQS, 0), 0x98, 0x1},
		{"CMDQ_PROD, CMDQS 19", with(smmuv3.CMDQS, 19), 0x98, 0xfffff},
		{"EVENTQ_CONS, EVENTQS 19", with(smmuv3.EVENTQS, 19), 0x100ac, 0x800fffff},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, tc.change)
			for _, base := range queueBases {
				r.w32(base, 0x1f)
			}
			r.w32(tc.off, 0xffffffff)
			assert.Equal(t, tc.want, r.r32(tc.off))
		})
	}
}

// TestGuards_6_2 stores to every word in every state of the enables, and in every transition
// between two of them. Until CR0ACK follows, a field counts as set if it is set in either register.
func TestGuards_6_2(t *testing.T) {
	cr0s := []uint32{0, 0x1, 0x4, 0x8, 0xd}
	for _, from := range cr0s {
		for _, to := range cr0s {
			for _, irq := range []uint32{0, 1, 4, 5} {
				r := newRig(t)
				r.w32(0x90, 0x1f)
				r.w32(0xa0, 0x1f)
				r.enable(from)
				r.w32(0x50, irq)
				r.engine.Lock() // no other goroutine applies CR0
				r.w32(0x20, to)
				require.Equal(t, from, r.r32(0x24))
				for _, row := range writable {
					var want uint32
					for _, w := range writable {
						if w.off == row.off && (from|to)&w.cr0 == 0 && irq&w.irq == 0 {
							want |= w.mask
						}
					}
					old := r.r32(row.off)
					r.w32(row.off, ^old)
					assert.Equalf(t, want, r.r32(row.off)^old, "bits of %s that could be changed: CR0=%#x to %#x, IRQ_CTRL=%d",
						row.name, from, to, irq)
					r.w32(row.off, old)
				}
				r.engine.Unlock()
			}
		}
	}
}

// TestAccess_6_2 shows the supported accesses: aligned words, also to either half of a 64-bit
// register, and aligned 64-bit accesses, also to pairs of 32-bit registers. All others are RAZ/WI.
func TestAccess_6_2(t *testing.T) {
	r := newRig(t)
	r.w64(0x80, 0x40ffffff_ffffffc0)
	r.w32(0x84, 0x00123456)
	assert.Equal(t, uint64(0x00123456_ffffffc0), r.Load(0x80, 8), "the halves are stored one after the other")
	assert.Equal(t, uint32(0xffffffc0), r.r32(0x80))
	assert.Equal(t, uint32(0x00123456), r.r32(0x84))

	r.w64(0x70, 0x15_deadbeef)
	assert.Equal(t, uint32(0xdeadbeef), r.r32(0x70), "GERROR_IRQ_CFG1")
	assert.Equal(t, uint32(0x15), r.r32(0x74), "GERROR_IRQ_CFG2")
	assert.Equal(t, uint64(0x15_deadbeef), r.Load(0x70, 8), "a pair of 32-bit registers")
	r.w32(0x90, 4)
	r.w64(0x98, 0x00000007_00000009)
	assert.Equal(t, uint64(0x00000007_00000009), r.Load(0x98, 8), "CMDQ_PROD and CMDQ_CONS")
	r.w64(0x20, 0xffffffff_00000004)
	r.idle()
	assert.Equal(t, uint64(0x00000004_00000004), r.Load(0x20, 8), "CR0ACK is read-only, and follows")

	before := r.Load(0x80, 8)
	for _, a := range []struct {
		off  uint64
		size int
	}{{0x80, 1}, {0x80, 2}, {0x82, 2}, {0x81, 4}, {0x82, 4}, {0x84, 8}, {0x81, 8}, {0x80, 3}, {0x80, 16}, {0x80, 0}, {0x80, -1}} {
		r.Store(a.off, a.size, 0)
		assert.Zerof(t, r.Load(a.off, a.size), "load of %d at %#x", a.size, a.off)
	}
	assert.Equal(t, before, r.Load(0x80, 8))
}

// TestIdentification_6_3_170 shows the CoreSight view of IIDR: here Arm's designer code
// (continuation 4, identity 0x3b), part 0x483, r1p2.
func TestIdentification_6_3_170(t *testing.T) {
	r := newRig(t, func(c *Config) { c.IDs.IIDR = 0x4831_243b })
	assert.Equal(t, uint32(0x4831_243b), r.r32(0x18))
	for off, want := range map[uint64]uint32{
		0xfd0: 0x04, 0xfd4: 0, 0xfd8: 0, 0xfdc: 0,
		0xfe0: 0x83, 0xfe4: 0xb4, 0xfe8: 0x1b, 0xfec: 0x20,
		0xff0: 0x0d, 0xff4: 0xf0, 0xff8: 0x05, 0xffc: 0xb1,
	} {
		assert.Equalf(t, want, r.r32(off), "at %#x", off)
	}
	assert.Equal(t, uint64(0xf0_0000000d), r.Load(0xff0, 8))
}

// TestCR0InTransition_6_3_9 shows that a field that was written keeps its value until CR0ACK
// follows, while others may be written.
func TestCR0InTransition_6_3_9(t *testing.T) {
	r := newRig(t)
	r.engine.Lock()
	r.w32(0x20, 0x8)
	r.w32(0x20, 0x0)
	assert.Equal(t, uint32(0x8), r.r32(0x20), "CMDQEN is in transition")
	r.w32(0x20, 0x4)
	assert.Equal(t, uint32(0xc), r.r32(0x20), "EVENTQEN is not")
	assert.Zero(t, r.r32(0x24))
	r.engine.Unlock()
	r.idle()
	assert.Equal(t, uint32(0xc), r.r32(0x24))
	r.w32(0x20, 0x10)
	assert.Zero(t, r.r32(0x20), "a field that is RES0 does not stick")
	r.idle()
	assert.Zero(t, r.r32(0x24), "and is not acknowledged")
}

// TestGBPA_6_3_14 shows that stores that do not follow the update procedure are ignored.
func TestGBPA_6_3_14(t *testing.T) {
	r := newRig(t)
	r.w32(0x44, 0x00100000)
	assert.Zero(t, r.r32(0x44), "a write without Update")
	r.engine.Lock()
	r.w32(0x44, 0x80100000)
	assert.Equal(t, uint32(0x80100000), r.r32(0x44), "seen at once, with Update")
	r.w32(0x44, 0x8000001f)
	assert.Equal(t, uint32(0x80100000), r.r32(0x44), "a write while Update is set")
	r.engine.Unlock()
	r.idle()
	assert.Equal(t, uint32(0x00100000), r.r32(0x44))
	assert.Zero(t, newRig(t).r32(0x44), "at reset, bypass")
	assert.Equal(t, uint32(0x00100000), newRig(t, func(c *Config) { c.AbortAtReset = true }).r32(0x44))
}

// TestClosedDevice shows that the registers are zero, and stay so.
func TestClosedDevice(t *testing.T) {
	r := newRig(t)
	r.setup()
	require.NoError(t, r.Close())
	for off := uint64(0); off < 0x20000; off += 4 {
		r.w32(off, 0xffffffff)
		require.Zerof(t, r.r32(off), "at %#x", off)
	}
	assert.ErrorIs(t, r.Close(), ErrClosed)
	assert.ErrorIs(t, r.Reset(), ErrClosed)
	assert.ErrorIs(t, r.Attach(1, r.host, "disk"), ErrClosed)
	assert.ErrorIs(t, r.Detach(1), ErrClosed)
	_, ok := r.Stage(1)
	assert.False(t, ok)
	r.GuestWrote(everywhere)
	r.host.Emit(smmuv3.NewEvent(smmuv3.FTranslation, 1))
}

// TestIndicesAreAsWideAsTheirQueue_6_3_28 shows that the bits above LOG2SIZE and the wrap bit read
// as zero right after a store, and after LOG2SIZE has become smaller (§6.3.27, §6.3.28, §6.3.95 to
// §6.3.98). OVFLG and OVACKFLG stay.
func TestIndicesAreAsWideAsTheirQueue_6_3_28(t *testing.T) {
	for _, tc := range []struct {
		name        string
		base, index uint64
		flag        uint32
	}{
		{"CMDQ_PROD", 0x90, 0x98, 0},
		{"CMDQ_CONS", 0x90, 0x9c, 0},
		{"EVENTQ_PROD", 0xa0, 0x100a8, 1 << 31},
		{"EVENTQ_CONS", 0xa0, 0x100ac, 1 << 31},
		{"EVENTQ_PROD, page 0", 0xa0, 0xa8, 1 << 31},
		{"EVENTQ_CONS, page 0", 0xa0, 0xac, 1 << 31},
		{"PRIQ_PROD", 0xc0, 0x100c8, 1 << 31},
		{"PRIQ_CONS", 0xc0, 0x100cc, 1 << 31},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, withPRI, func(c *Config) {
				for _, size := range []smmuv3.IDField{smmuv3.CMDQS, smmuv3.EVENTQS, smmuv3.PRIQS} {
					c.IDs.Set(size, 10)
				}
			})
			for log2, want := range map[uint32]uint32{0: 0x1, 1: 0x3, 4: 0x1f, 9: 0x3ff, 10: 0x7ff, 11: 0x7ff, 19: 0x7ff, 31: 0x7ff} {
				r.w64(tc.base, 0x20_0000|uint64(log2))
				r.w32(tc.index, 0xffff_ffff)
				assert.Equal(t, want|tc.flag, r.r32(tc.index), "LOG2SIZE %d", log2)
			}
			r.w32(tc.base, 8)
			r.w32(tc.index, 0xffff_ffff)
			r.w32(tc.base+4, 1)
			assert.Equal(t, 0x1ff|tc.flag, r.r32(tc.index), "ADDR alone has changed")
			r.w32(tc.base, 0x20_0003)
			assert.Equal(t, 0xf|tc.flag, r.r32(tc.index), "LOG2SIZE has become smaller")
			r.w32(tc.base, 8)
			assert.Equal(t, 0xf|tc.flag, r.r32(tc.index), "lost bits stay 0")
		})
	}
}

// TestSmallerQueueLeavesTheRest_6_3_28 shows that a smaller queue leaves CMDQ_CONS.ERR (§6.3.28),
// and does not resize the indices of other queues.
func TestSmallerQueueLeavesTheRest_6_3_28(t *testing.T) {
	r := newRig(t)
	r.w64(0x90, cmdqAt|8)
	r.w64(0xa0, eventqAt|8)
	r.w32(0x100a8, 0x1aa)
	r.mem.SetWords(cmdqAt+16*0x55, 0xff)
	r.w64(0x98, 0x55_00000056)
	r.enable(smmuv3.CR0_CMDQEN)
	r.idle()
	require.Equal(t, uint32(0x0100_0055), r.r32(0x9c), "CERROR_ILL")
	r.enable(0)
	r.w32(0x90, cmdqAt|4)
	assert.Equal(t, uint32(0x0100_0015), r.r32(0x9c))
	assert.Equal(t, uint32(0x16), r.r32(0x98))
	assert.Equal(t, uint32(0x1aa), r.r32(0x100a8))
}
