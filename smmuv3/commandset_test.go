package smmuv3

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/assert"
)

// CommandSet returns the rule that Command.Illegal returns: for every opcode, with random
// parameters, on SMMUs that differ in the fields that rules depend on.
func TestCommandSet_Illegal(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	for range 64 {
		var ids IDRegs
		for _, f := range []IDField{S1P, S2P, Hyp, ATS, PRI, MPAM, RIL, DS, StallModel} {
			ids.Set(f, dice.Uint32())
		}
		set := NewCommandSet(ids)
		for op := range uint64(256) {
			for range 16 {
				c := Command{dice.Uint64()&^0xff | op, dice.Uint64()}
				if dice.IntN(2) == 0 {
					c[0] &= 0xffff_ffff_0000_03ff // no SSec, no range
				}
				assert.Samef(t, c.Illegal(&ids), set.Illegal(&c), "%#x with %+v", c, ids)
			}
		}
	}
}

// Ranged clears the range fields that are RES0 (§4.4.1.1): NUM [16:12], SCALE [25:20], TTL128 [71],
// TTL [73:72], TG [75:74].
func TestCommandSet_Ranged(t *testing.T) {
	every := Command{^uint64(0), ^uint64(0)}
	for _, tt := range []struct {
		name string
		ids  IDRegs
		want Command
	}{
		{"no RIL", ids(DS, 1), Command{0xffff_ffff_fc0e_0fff, 0xffff_ffff_ffff_f07f}},
		{"RIL", ids(RIL, 1), Command{0xffff_ffff_fdff_ffff, 0xffff_ffff_ffff_ff7f}},
		{"RIL, DS", ids(RIL, 1, DS, 1), Command{0xffff_ffff_ffff_ffff, 0xffff_ffff_ffff_ff7f}},
		{"RIL, DS, D128", ids(RIL, 1, DS, 1, D128, 1), every},
	} {
		dw0, dw1 := NewCommandSet(tt.ids).Ranged(&every)
		assert.Equal(t, tt.want, Command{dw0, dw1}, tt.name)
	}
}

// Defined leaves the bits of fields that the SMMU has, and clears reserved ones (Chapter 4).
func TestCommandSet_Defined(t *testing.T) {
	least := ids(S1P, 1) // SMMUv3.0: ASIDs of eight bits, no VMIDs, no SubstreamIDs, no ranges
	more := ids(S1P, 1, S2P, 1, ASID16, 1, SSIDSIZE, 20, RIL, 1, ArchMinor, 2)
	most := more.with(VMID16, 1, DS, 1, D128, 1)
	for _, c := range []struct {
		op                Opcode
		least, more, most Command
	}{
		{0x00, Command{0xff}, Command{0xff}, Command{0xff}}, // reserved
		{0x01, Command{0xffff_ffff_0000_04ff}, Command{0xffff_ffff_ffff_fcff}, Command{0xffff_ffff_ffff_fcff}},
		{0x02, Command{0xffff_ffff_0000_04ff, 0xffff_ffff_ffff_f01f}, Command{0xffff_ffff_ffff_fcff, 0xffff_ffff_ffff_f3ff},
			Command{0xffff_ffff_ffff_fcff, 0xffff_ffff_ffff_f3ff}},
		{0x03, Command{0xffff_ffff_0000_04ff, 1}, Command{0xffff_ffff_0000_04ff, 1}, Command{0xffff_ffff_0000_04ff, 1}},
		{0x04, Command{0xffff_ffff_0000_04ff, 0x1f}, Command{0xffff_ffff_0000_04ff, 0x1f}, Command{0xffff_ffff_0000_04ff, 0x1f}},
		{0x05, Command{0xffff_ffff_0000_04ff, 1}, Command{0xffff_ffff_ffff_f4ff, 1}, Command{0xffff_ffff_ffff_f4ff, 1}},
		{0x06, Command{0xffff_ffff_0000_04ff}, Command{0xffff_ffff_0000_04ff}, Command{0xffff_ffff_0000_04ff}},
		{0x10, Command{0xff}, Command{0x0000_00ff_0000_00ff}, Command{0x0000_ffff_0000_00ff}},
		{0x11, Command{0x00ff_0000_0000_00ff}, Command{0xffff_00ff_0000_00ff}, Command{0xffff_ffff_0000_00ff}},
		{0x12, Command{0x00ff_0000_0000_00ff, 0xffff_ffff_ffff_f001}, Command{0xffff_00ff_01f1_f0ff, 0xffff_ffff_ffff_ff01},
			Command{0xffff_ffff_03f1_f0ff, 0xffff_ffff_ffff_ff81}},
		{0x13, Command{0xff, 0xffff_ffff_ffff_f001}, Command{0x0000_00ff_01f1_f0ff, 0xffff_ffff_ffff_ff01},
			Command{0x0000_ffff_03f1_f0ff, 0xffff_ffff_ffff_ff81}},
		{0x30, Command{0xff}, Command{0xff}, Command{0xff}},
		{0x40, Command{0xffff_ffff_0000_00ff, 0xffff_ffff_ffff_f03f}, Command{0xffff_ffff_ffff_faff, 0xffff_ffff_ffff_f03f},
			Command{0xffff_ffff_ffff_faff, 0xffff_ffff_ffff_f03f}},
		{0x41, Command{0xffff_ffff_0000_00ff, 0x31ff}, Command{0xffff_ffff_ffff_f8ff, 0x31ff}, Command{0xffff_ffff_ffff_f8ff, 0x31ff}},
		{0x44, Command{0xffff_ffff_0000_34ff, 0xffff}, Command{0xffff_ffff_0000_34ff, 0xffff}, Command{0xffff_ffff_0000_34ff, 0xffff}},
		{0x46, Command{0xffff_ffff_0fc0_30ff, 0x00ff_ffff_ffff_fffc}, Command{0xffff_ffff_0fc0_30ff, 0x00ff_ffff_ffff_fffc},
			Command{0xffff_ffff_0fc0_30ff, 0x00ff_ffff_ffff_fffc}},
	} {
		for _, on := range []struct {
			ids  IDRegs
			mask Command
		}{{least, c.least}, {more, c.more}, {most, c.most}} {
			ones := Command{^uint64(0xff) | uint64(c.op), ^uint64(0)}
			want := Command{on.mask[0]&^0xff | uint64(c.op), on.mask[1]}
			assert.Equal(t, want, NewCommandSet(on.ids).Defined(&ones), "%v with %+v", c.op, on.ids)
			zero := Command{uint64(c.op)}
			assert.Equal(t, zero, NewCommandSet(on.ids).Defined(&zero), "%v", c.op)
		}
	}
}
