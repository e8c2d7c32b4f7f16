package vsmmu

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestATCTimeout_7_1 shows that the SYNC after an ATC_INV that timed out is not consumed. All other
// earlier commands are executed. The SYNC completes after the acknowledgement.
func TestATCTimeout_7_1(t *testing.T) {
	atcInv := smmuv3.Command{0x40 | 3<<32, 52}
	late := func(r *rig) {
		r.host.FailWith(func(c record.Call) error {
			if c.Op == record.Invalidate {
				return fmt.Errorf("endpoint: %w", bridge.ErrATCTimeout)
			}
			return nil
		})
	}
	for name, before := range map[string]func(*rig){
		"at the SYNC": func(r *rig) { r.run(tlbi(1), atcInv, cmdSyncIRQ) },
		"in a batch that was full before": func(r *rig) {
			for range batchMax / 64 {
				r.run(slices.Repeat([]smmuv3.Command{atcInv}, 64)...)
			}
			r.host.FailWith(nil)
			r.run(cmdSyncIRQ)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withATS)
			r.ste(3, 0xb|cdAt, 1<<28)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.irqs.take()
			late(r)
			before(r)
			r.eventually(func() bool { return r.gerror() == 1 }, "CMDQ_ERR")
			prod := r.r32(cmdqProd)
			assert.Equal(t, (prod-1)&0x1ff|3<<24, r.r32(cmdqCons), "CERROR_ATC_INV_SYNC, and RD on the SYNC")
			assert.Equal(t, []Line{LineGError}, r.irqs.take(), "no completion signal")
			stage, _ := r.Stage(3)
			assert.Equal(t, bridge.Translate, stage.Disposition, "the stream still translates: the guest decides")

			r.host.FailWith(nil)
			r.w32(gerrorn, 1)
			r.eventually(func() bool { return r.r32(cmdqCons) == prod }, "the SYNC completes")
			assert.Equal(t, []Line{LineCmdSync}, r.irqs.take())
		})
	}
}

// TestSYNC_4_7_3 shows how a SYNC signals completion.
func TestSYNC_4_7_3(t *testing.T) {
	const data = 0xabcd1234
	sync := func(cs, addr uint64) smmuv3.Command { return smmuv3.Command{0x46 | cs<<12 | data<<32, addr} }
	noMSI := func(c *Config) { c.IDs.Set(smmuv3.MSI, 0) }
	for _, tc := range []struct {
		name   string
		c      smmuv3.Command
		change func(*Config)
		pulses []Line
		msi    guestmem.GPA // 0 for none
	}{
		{"SIG_NONE ignores the MSI", sync(0, 0x8080000), nil, nil, 0},
		{"SIG_IRQ without an address: wired", sync(1, 0), nil, []Line{LineCmdSync}, 0},
		{"SIG_IRQ with one: both", sync(1, 0x8080000), nil, []Line{LineCmdSync}, 0x8080000},
		{"address is [55:2]", sync(1, 0xff00_0000_0808_0003), nil, []Line{LineCmdSync}, 0x8080000},
		{"address is cut to the OAS, after it was found not to be zero", sync(1, 0x0080_0000_0000_0040), nil, []Line{LineCmdSync}, 0x40},
		{"SIG_IRQ, no MSI support: address is ignored", sync(1, 0x8080000), noMSI, []Line{LineCmdSync}, 0},
		{"SIG_SEV without IDR0.SEV is SIG_NONE", sync(2, 0x8080000), nil, nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, func(c *Config) {
				if tc.change != nil {
					tc.change(c)
				}
			})
			r.doorbells()
			r.setup()
			r.run(tc.c)
			r.idle()
			assert.Equal(t, tc.pulses, r.irqs.take())
			if tc.msi == 0 {
				assert.Empty(t, r.irqs.msis)
			} else {
				assert.Equal(t, map[guestmem.GPA]uint32{tc.msi: data}, r.irqs.msis)
			}
			assert.Zero(t, r.gerror())
		})
	}
}

// TestSYNCOrder_4_7_3 shows that at the interrupt CONS is past the SYNC, and the host has executed
// all earlier commands.
func TestSYNCOrder_4_7_3(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	var cons []uint32
	var calls []int
	r.irqs.onPulse = func(Line) {
		cons = append(cons, r.r32(cmdqCons))
		calls = append(calls, len(r.host.Calls()))
	}
	r.run(tlbi(1), cmdSyncIRQ, tlbi(2), tlbi(3), cmdSyncIRQ, tlbi(4))
	r.idle()
	assert.Equal(t, []uint32{2, 5}, cons)
	assert.Equal(t, []int{1, 2}, calls)
}

// TestSYNCToMemory_3_18 shows an MSI to a word in memory that the guest polls.
func TestSYNCToMemory_3_18(t *testing.T) {
	r := newRig(t)
	r.setup()
	r.mem.SetWords(0x500000, 0x1111111122222222)
	r.run(smmuv3.Command{0x1046 | 0xcafe<<32, 0x500004})
	r.idle()
	assert.Equal(t, []uint64{0xcafe_22222222}, r.mem.Words(0x500000, 1), "a 32-bit write")
	assert.Empty(t, r.irqs.msis)
}

// TestSYNCAbort_7_5 shows that an MSI that aborts is a global error, and that its SYNC completes.
func TestSYNCAbort_7_5(t *testing.T) {
	r := newRig(t)
	r.doorbells()
	r.setup()
	r.irqs.abort = assert.AnError
	r.run(smmuv3.Command{0x1046, 0x8080000})
	r.idle()
	assert.Equal(t, uint32(1<<4), r.gerror(), "MSI_CMDQ_ABT_ERR")
	assert.Equal(t, uint32(1), r.r32(cmdqCons))
	assert.Equal(t, []Line{LineCmdSync, LineGError}, r.irqs.take())
}

// TestMSIOverTheQueue_3_18 has a CMD_SYNC whose message overwrites later commands of the queue. The
// test shows that fetched commands are unchanged, and that later fetches see the message.
func TestMSIOverTheQueue_3_18(t *testing.T) {
	for _, change := range []func(*Config){func(*Config) {}, features{unmapped: true}.config} {
		var ran []smmuv3.Command
		r := newRig(t, change, func(c *Config) {
			c.Trace.Command = func(c smmuv3.Command, _ smmuv3.CmdqErr) { ran = append(ran, c) }
		})
		r.setup()
		over := smmuv3.Command{0x1046 | 0x30<<32, cmdqAt + 16} // the message is TLBI_NSNH_ALL
		r.run(over, tlbi(1))
		r.idle()
		require.Equal(t, []smmuv3.Command{over, tlbi(1)}, ran)
		assert.Equal(t, tlbi(1)[0]&^0xffff_ffff|0x30, r.mem.Words(cmdqAt+16, 1)[0])
	}
}

// TestStructuresAreReadOnce_3_21_3 shows that the device reads the commands of a store once, and the
// STE of a CFGI_STE once, whether it has changed or not.
func TestStructuresAreReadOnce_3_21_3(t *testing.T) {
	for _, change := range []func(*Config){func(*Config) {}, features{unmapped: true}.config} {
		r := newRig(t, change)
		r.ste(3, 0xb|cdAt)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.setup()
		for i := range uint64(4) {
			r.ste(3, 0xb|cdAt, i/2<<20) // bits for software
			before := r.mem.Reads()
			r.run(cmdCfgiSTE(3), cmdSync)
			r.idle()
			assert.EqualValues(t, 2, r.mem.Reads()-before)
		}
	}
}

// TestMSIIsAccounted shows that Config.Dirty and a Tracked have the message of a CMD_SYNC.
func TestMSIIsAccounted(t *testing.T) {
	var dirty []guestmem.Range
	var tracked *guestmem.Tracked
	r := newRig(t, func(c *Config) {
		var err error
		tracked, err = guestmem.NewTracked(c.Memory.(guestmem.Mapper))
		require.NoError(t, err)
		c.Memory = tracked
		c.Dirty = func(w guestmem.Range) { dirty = append(dirty, w) }
	})
	r.setup()
	tracked.NewAccount()
	r.run(smmuv3.Command{0x1046 | 7<<32, 0x500004})
	r.idle()
	assert.Equal(t, []guestmem.Range{{GPA: 0x500004, Len: 4}}, dirty)
	account := tracked.Stop()
	assert.True(t, account.Contains(0x500000))
	assert.Equal(t, 1, account.Pages())
}
