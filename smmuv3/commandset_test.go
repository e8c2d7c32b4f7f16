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
