package vsmmu

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

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

// TestReservedFieldsAreIgnored_4_1_5 shows that commands with reserved fields are legal, so that
// newer drivers work.
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
		assert.Len(t, illegal, map[uint32]int{0: 4 + 4, 1: 3}[ds]) // SCALE[5] is ignored without DS
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
				r.ste(sid, 0xb|cdAt|uint64(i+int(span))<<20) // a different STE each time
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

// TestValidReplacesValid shows that a change of a valid STE is one Bind, with nothing in between.
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
