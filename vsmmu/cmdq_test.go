package vsmmu

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Registers by their offsets (§6.2.1, §6.2.2).
const (
	cr0, cr0ack     = 0x20, 0x24
	gbpa            = 0x44
	irqCtrl, irqAck = 0x50, 0x54
	gerror, gerrorn = 0x60, 0x64
	cmdqBase        = 0x90
	cmdqProd        = 0x98
	cmdqCons        = 0x9c
	eventqBase      = 0xa0
	eventqProd      = 0x100a8
	eventqCons      = 0x100ac
)

func withATS(c *Config) { c.IDs.Set(smmuv3.ATS, 1) }

// withRIL adds ranges, and what SMMUv3.1, which may have them, obliges to (§2.9, §6.3.4).
func withRIL(c *Config) {
	c.IDs.AIDR = 1
	c.IDs.Set(smmuv3.RIL, 1)
	c.IDs.Set(smmuv3.HAD, c.IDs.Get(smmuv3.S1P))
	c.IDs.Set(smmuv3.XNX, c.IDs.Get(smmuv3.S2P))
}

// withDS adds 52-bit addresses with 4 KiB and 16 KiB, and what SMMUv3.3 obliges to.
func withDS(c *Config) {
	withRIL(c)
	c.IDs.AIDR = 3
	c.IDs.Set(smmuv3.BBML, 1)
	c.IDs.Set(smmuv3.E0PD, 1)
	c.IDs.Set(smmuv3.FWB, 1)
	c.IDs.Set(smmuv3.DS, 1)
}

// invalidated returns the commands that the host got since the last call.
func (r *rig) invalidated() (all []smmuv3.Command) {
	for _, c := range r.host.Forget() {
		if c.Op == record.Invalidate {
			all = append(all, c.Commands...)
		}
	}
	return all
}

// tlbi is a TLBI_NH_ASID with an ASID of its own.
func tlbi(asid int) smmuv3.Command { return smmuv3.Command{0x11 | uint64(asid)<<48} }

// TestOpcodes_4_1_1 sends each opcode, without parameters, to an SMMU without options and to one
// with ATS. An opcode that is not listed is reserved, or belongs to another security state or to a
// feature that the SMMU lacks: CERROR_ILL.
func TestOpcodes_4_1_1(t *testing.T) {
	legal := []uint64{0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x30, 0x46}
	for _, ats := range []bool{false, true} {
		r := newRig(t, func(c *Config) {
			if ats {
				withATS(c)
			}
		})
		r.setup()
		for op := range uint64(256) {
			before := r.r32(cmdqCons)
			r.run(smmuv3.Command{op})
			if slices.Contains(legal, op) || op == 0x40 && ats {
				require.Zerof(t, r.gerror(), "opcode %#x", op)
				continue
			}
			require.Equalf(t, uint32(1), r.gerror(), "opcode %#x: CMDQ_ERR", op)
			require.Equalf(t, before|1<<24, r.r32(cmdqCons), "opcode %#x: CERROR_ILL, and RD stays on it", op)
			r.w32(cmdqProd, before)               // the command is taken back,
			r.w32(gerrorn, r.r32(gerrorn)^0x0001) // the error acknowledged
			require.Equalf(t, before, r.r32(cmdqCons), "opcode %#x: the reason is gone with the error", op)
		}
	}
}

// TestIllegalParameters_4 sends known commands with illegal parameters.
func TestIllegalParameters_4(t *testing.T) {
	const ssec = 1 << 10
	for _, tc := range []struct {
		name   string
		c      smmuv3.Command
		change func(*Config)
	}{
		{"PREFETCH_CONFIG with SSec §4.1.6", smmuv3.Command{0x01 | ssec}, nil},
		{"PREFETCH_ADDR with SSec §4.1.6", smmuv3.Command{0x02 | ssec}, nil},
		{"CFGI_STE with SSec §4.1.6", smmuv3.Command{0x03 | ssec}, nil},
		{"CFGI_STE_RANGE with SSec §4.1.6", smmuv3.Command{0x04 | ssec}, nil},
		{"CFGI_CD with SSec §4.1.6", smmuv3.Command{0x05 | ssec}, nil},
		{"CFGI_CD_ALL with SSec §4.1.6", smmuv3.Command{0x06 | ssec}, nil},
		{"TLBI_NH_VA: granule without range §4.4.1.1", smmuv3.Command{0x12, 1 << 10}, withRIL},
		{"TLBI_NH_VAA: granule without range §4.4.1.1", smmuv3.Command{0x13, 3 << 10}, withRIL},
		{"ATC_INV of more than all §4.5.1", smmuv3.Command{0x40, 53}, withATS},
		{"SYNC, CS reserved §4.7.3", smmuv3.Command{0x46 | 3<<12}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			change := func(c *Config) {
				if tc.change != nil {
					tc.change(c)
				}
			}
			r := newRig(t, change)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.host.Forget()
			r.run(tlbi(1), tlbi(2), tc.c, tlbi(3), cmdSync)
			assert.Equal(t, uint32(1), r.gerror())
			assert.Equal(t, uint32(2|1<<24), r.r32(cmdqCons))
			assert.Empty(t, r.host.Calls(), "newer commands have no effect")

			// The guest replaces the command by a SYNC, which is fetched again (§7.1).
			r.mem.SetWords(cmdqAt+16*2, 0x46, 0)
			r.w32(gerrorn, 1)
			r.eventually(func() bool { return r.r32(cmdqCons) == 5 }, "all is consumed, with no write to PROD")
			assert.Equal(t, []smmuv3.Command{tlbi(1), tlbi(2), tlbi(3)}, r.invalidated())
		})
	}
}

// TestReservedFieldsAreIgnored_4_1_5 holds the choice that lets drivers newer than the SMMU work.
func TestReservedFieldsAreIgnored_4_1_5(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	for _, c := range []smmuv3.Command{
		{0x01 | ^uint64(0x4ff), ^uint64(0)}, {0x03 | ^uint64(0x4ff), ^uint64(0)}, {0x04 | ^uint64(0x4ff), ^uint64(0)},
		{0x05 | ^uint64(0x4ff), ^uint64(0)}, {0x10 | ^uint64(0xff), ^uint64(0)}, {0x12 | ^uint64(0xff), ^uint64(0)},
		{0x30 | ^uint64(0xff), ^uint64(0)}, {0x46 | ^uint64(0x30ff), ^uint64(0)},
	} {
		r.run(c)
		assert.Zerof(t, r.gerror(), "%#x", c)
	}
}

// TestInvalidations_4 shows which of the guest's commands reach the host of a stream, and how, by
// the next SYNC.
func TestInvalidations_4(t *testing.T) {
	all := func(c *Config) { withATS(c); withRIL(c) }
	verbatim := func(c smmuv3.Command) []smmuv3.Command { return []smmuv3.Command{c} }
	for _, tc := range []struct {
		name    string
		c       smmuv3.Command
		want    []smmuv3.Command
		smmuOff []smmuv3.Command // while CR0.SMMUEN is 0
	}{
		{"TLBI_NH_ALL", smmuv3.Command{0x10}, verbatim(smmuv3.Command{0x10}), verbatim(smmuv3.Command{0x10})},
		{"TLBI_NH_ASID", tlbi(7), verbatim(tlbi(7)), verbatim(tlbi(7))},
		{"TLBI_NH_VA", smmuv3.Command{0x12 | 7<<48, 0xffff_f000_0000_1001}, verbatim(smmuv3.Command{0x12 | 7<<48, 0xffff_f000_0000_1001}),
			verbatim(smmuv3.Command{0x12 | 7<<48, 0xffff_f000_0000_1001})},
		{"TLBI_NH_VA, range", smmuv3.Command{0x12 | 31<<12 | 2<<20, 0x1000 | 1<<10 | 3<<8}, verbatim(smmuv3.Command{0x12 | 31<<12 | 2<<20, 0x1000 | 1<<10 | 3<<8}),
			verbatim(smmuv3.Command{0x12 | 31<<12 | 2<<20, 0x1000 | 1<<10 | 3<<8})},
		{"TLBI_NH_VAA", smmuv3.Command{0x13, 0x2000}, verbatim(smmuv3.Command{0x13, 0x2000}), verbatim(smmuv3.Command{0x13, 0x2000})},
		{"TLBI_NSNH_ALL", smmuv3.Command{0x30}, verbatim(smmuv3.Command{0x30}), verbatim(smmuv3.Command{0x30})},
		{"CFGI_CD", smmuv3.Command{0x05 | 9<<12 | 3<<32, 1}, verbatim(smmuv3.Command{0x05 | 9<<12 | 3<<32, 1}),
			verbatim(smmuv3.Command{0x05 | 9<<12 | 3<<32, 1})},
		{"CFGI_CD_ALL", smmuv3.Command{0x06 | 3<<32}, verbatim(smmuv3.Command{0x06 | 3<<32}), verbatim(smmuv3.Command{0x06 | 3<<32})},
		{"CFGI_CD of a stream that is not attached §4.1.7", smmuv3.Command{0x05 | 4<<32}, nil, nil},
		{"CFGI_CD beyond SIDSIZE §4.1.7", smmuv3.Command{0x05 | 0xffffffff<<32}, nil, nil},
		{"CFGI_STE unchanged: its CDs go with it §4.3.1", cmdCfgiSTE(3), verbatim(smmuv3.Command{0x06 | 3<<32}), verbatim(smmuv3.Command{0x06 | 3<<32})},
		{"CFGI_STE of another stream", cmdCfgiSTE(4), nil, nil},
		{"CFGI_ALL", smmuv3.Command{0x04, 31}, verbatim(smmuv3.Command{0x06 | 3<<32}), verbatim(smmuv3.Command{0x06 | 3<<32})},
		{"ATC_INV, ignored while disabled §6.3.9.6", smmuv3.Command{0x40 | 3<<32, 0x1000 | 4}, verbatim(smmuv3.Command{0x40 | 3<<32, 0x1000 | 4}), nil},
		{"ATC_INV of a stream that is not attached", smmuv3.Command{0x40 | 4<<32, 52}, nil, nil},
		{"PREFETCH_CONFIG §4.2", smmuv3.Command{0x01 | 3<<32}, nil, nil},
		{"PREFETCH_ADDR §4.2", smmuv3.Command{0x02 | 3<<32, 0x1000}, nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, all)
			r.ste(3, 0xb|cdAt, 1<<28)
			require.NoError(t, r.Attach(3, r.host, "disk"))
			r.setup()
			r.host.Forget()
			r.run(tc.c, cmdSync)
			assert.Equal(t, tc.want, r.invalidated())
			r.enable(smmuv3.CR0_CMDQEN)
			r.host.Forget()
			r.run(tc.c, cmdSync)
			assert.Equal(t, tc.smmuOff, r.invalidated(), "SMMUEN=0")
			assert.Zero(t, r.gerror())
		})
	}
}

// TestRangeFieldsWithoutRIL_4_4_1_1 shows that range fields are RES0 to the guest and do not reach
// a host with ranges.
func TestRangeFieldsWithoutRIL_4_4_1_1(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.run(smmuv3.Command{0x12 | 7<<48 | 0x1f<<12 | 0x3f<<20, 0x5001 | 3<<10 | 3<<8 | 1<<7},
		smmuv3.Command{0x13 | 1<<12 | 1<<20, 0x6000 | 1<<10}, cmdSync)
	assert.Equal(t, []smmuv3.Command{{0x12 | 7<<48, 0x5001}, {0x13, 0x6000}}, r.invalidated())
}

// TestEveryRange_4_4_1_1 sends every TG, TTL, NUM and SCALE. A granule with neither a range nor a
// level is illegal, and a level that the granule lacks counts as none. All others reach the host
// unchanged.
func TestEveryRange_4_4_1_1(t *testing.T) {
	for _, ds := range []uint32{0, 1} {
		r := newRig(t, withRIL, func(c *Config) {
			c.IDs.Set(smmuv3.CMDQS, 12)
			if ds == 1 {
				withDS(c)
				c.IDs.Set(smmuv3.VAX, 1)
			}
		})
		require.NoError(t, r.Attach(3, r.host, "disk"))
		r.w64(cmdqBase, cmdqAt|12)
		r.enable(smmuv3.CR0_CMDQEN)
		var legal, illegal, want []smmuv3.Command
		for i := range uint64(1 << 15) {
			num, scale, tg, ttl := i&31, i>>5&63, i>>11&3, i>>13&3
			c := smmuv3.Command{0x12 + i&1 | num<<12 | scale<<20 | 7<<48, 0x1000 | tg<<10 | ttl<<8}
			asRead := c
			if ds == 0 {
				scale &= 31
				asRead[0] &^= 1 << 25 // RES0: no sixth bit of SCALE
			}
			noLevel := ttl == 0 || tg == 0b10 && ttl == 1 && ds == 0
			if tg != 0 && num == 0 && scale == 0 && noLevel {
				illegal = append(illegal, c)
			} else {
				legal, want = append(legal, c), append(want, asRead)
			}
		}
		r.host.Forget()
		for run := range slices.Chunk(legal, 1000) {
			r.run(append(run[:len(run):len(run)], cmdSync)...)
		}
		r.idle()
		require.Zero(t, r.gerror())
		require.Equal(t, want, r.invalidated())
		for _, c := range illegal {
			r.run(c)
			require.Equal(t, uint32(1), r.gerror(), "%#x", c)
			r.w32(cmdqProd, r.r32(cmdqCons))
			r.w32(gerrorn, r.r32(gerror))
		}
		assert.Len(t, illegal, map[uint32]int{0: 4 + 4, 1: 3}[ds]) // SCALE[5] counts for nothing without DS
	}
}

// TestATCTimeout_7_1 shows that the SYNC after an ATC_INV that timed out is not consumed.
// Everything else before it is done, and it completes after the acknowledgement.
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
			assert.Equal(t, bridge.Translate, stage.Disposition, "that is for the guest to decide")

			r.host.FailWith(nil)
			r.w32(gerrorn, 1)
			r.eventually(func() bool { return r.r32(cmdqCons) == prod }, "the SYNC completes")
			assert.Equal(t, []Line{LineCmdSync}, r.irqs.take())
		})
	}
}

// TestCFGI_STE_RANGE_4_3_2 sends every span around a StreamID, aligned or not, over sparse streams:
// the streams in the span are refreshed, and no others.
func TestCFGI_STE_RANGE_4_3_2(t *testing.T) {
	sids := []smmuv3.StreamID{0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 64, 127, 128, 255}
	r := newRig(t)
	for _, sid := range sids {
		require.NoError(t, r.Attach(sid, r.host, sid))
	}
	r.setup()
	for span := range uint64(32) {
		for _, at := range []uint64{0, 5, 8, 127, 255, 256, 0xffff_ffff} {
			var want []smmuv3.StreamID
			for i, sid := range sids {
				r.ste(sid, 0xb|cdAt|uint64(i+int(span))<<20) // each time something else
				if uint64(sid)>>(span+1) == at>>(span+1) {
					want = append(want, sid)
				}
			}
			r.host.Forget()
			r.run(smmuv3.Command{0x04 | at<<32, span}, cmdSync)
			var got []smmuv3.StreamID
			for _, c := range r.host.Forget() {
				switch c.Op {
				case record.Bind:
					got = append(got, c.StreamID)
				case record.Invalidate:
					for _, c := range c.Commands {
						got = append(got, c.StreamID()) // unchanged since the span before
					}
				}
			}
			slices.Sort(got)
			assert.Equalf(t, want, got, "Range %d at %#x", span, at)
		}
	}
}

// TestValidReplacesValid is invariant 6: a change of a valid STE is one Bind, with nothing in
// between.
func TestValidReplacesValid(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.ste(3, 0xb|cdAt|0x10000|5<<59, 1)
	r.run(cmdCfgiSTE(3), cmdSync)
	assert.Equal(t, []bridge.GuestStage{{
		Disposition: bridge.Translate, S1ContextPtr: cdAt | 0x10000, S1CDMax: 5, S1DSS: smmuv3.S1DSSBypass,
	}}, r.binds())
}

// TestSTEWithoutCFGI_3_21_3 shows that a changed STE takes effect with its CFGI_STE.
func TestSTEWithoutCFGI_3_21_3(t *testing.T) {
	r := newRig(t)
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	r.setup()
	r.host.Forget()
	r.ste(3, 0)
	r.run(tlbi(1), cmdSync)
	assert.Empty(t, r.binds())
	r.run(cmdCfgiSTE(3))
	assert.Len(t, r.binds(), 1)
}

// TestFetchAbort_7_1 shows that commands before one whose fetch aborts are consumed, wherever that
// is, and that consumption goes on there.
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

// TestPRODPulledBack_7_1 shows that the guest may take back commands while an error is active, down
// to the offending one.
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

// TestIndicesThatMakeNoSense_3_5_1 shows that nothing is consumed until the indices make sense.
func TestIndicesThatMakeNoSense_3_5_1(t *testing.T) {
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

// TestQueueSizeIsCapped_6_3_26 shows that LOG2SIZE counts up to IDR1.CMDQS, and reads back as
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
// setup counts once the queue is enabled again.
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
	assert.Empty(t, r.host.Calls(), "what lies in the old queue was not consumed")

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

// TestReasonComesWithTheError_7_1 shows that nobody sees CMDQ_ERR without CMDQ_CONS.ERR, also where
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
				runtime.Gosched() // or a single processor is this loop's for 10 ms at a time
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
