package smmuv3

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// plain returns a command with an opcode and all other fields 0, which are valid parameters.
func plain(op int) Command { return Command{uint64(op)} }

// An opcode is legal on the Non-secure queue if the SMMU has the feature that it needs (§4.1.1, and
// the sections of the commands). Opcodes without a row are reserved, of another queue, or
// IMPLEMENTATION DEFINED.
func TestCommandIllegal_opcode(t *testing.T) {
	needs := map[int][]any{
		0x01: {}, 0x02: {}, 0x03: {}, 0x04: {},
		0x05: {S1P, 1}, 0x06: {S1P, 1},
		0x07: {MPAM, 1},
		0x10: {S1P, 1}, 0x11: {S1P, 1}, 0x12: {S1P, 1}, 0x13: {S1P, 1},
		0x20: {Hyp, 1}, 0x21: {Hyp, 1}, 0x22: {Hyp, 1}, 0x23: {Hyp, 1},
		0x28: {S2P, 1}, 0x2a: {S2P, 1},
		0x30: {},
		0x40: {ATS, 1}, 0x41: {PRI, 1},
		0x44: {}, 0x45: {}, // and a stall model other than 01
		0x46: {},
		0x70: {DPT, 1}, 0x73: {DPT, 1},
	}
	all := IDRegs{}
	for _, f := range []IDField{S1P, S2P, Hyp, MPAM, ATS, PRI, RIL, DS, DPT} {
		all.Set(f, 1)
	}
	for op := range 256 {
		t.Run(fmt.Sprintf("%#02x", op), func(t *testing.T) {
			need, known := needs[op]
			assert.Equal(t, !known, plain(op).Illegal(&all) != nil, "with every feature")
			if !known {
				return
			}
			least := ids(need...)
			assert.Nil(t, plain(op).Illegal(&least), "with what it needs")
			if len(need) != 0 {
				without := all
				without.Set(need[0].(IDField), 0)
				assert.NotNil(t, plain(op).Illegal(&without), "without %v", need[0])
			}
		})
	}
}

// SSec = 1 is illegal on the Non-secure queue, for commands that have the field (§4.1.6). In others
// the bit is reserved and ignored (§4.1.5).
func TestCommandIllegal_SSec(t *testing.T) {
	r := ids(S1P, 1, S2P, 1, Hyp, 1, MPAM, 1, ATS, 1, PRI, 1)
	has := map[int]bool{0x01: true, 0x02: true, 0x03: true, 0x04: true, 0x05: true, 0x06: true, 0x07: true, 0x44: true, 0x45: true}
	for op := range 256 {
		if c := plain(op); c.Illegal(&r) == nil {
			c[0] |= 1 << 10
			assert.Equal(t, has[op], c.Illegal(&r) != nil, "%v", Opcode(op))
		}
	}
}

// RESUME and STALL_TERM need a STALL_MODEL with stalls (§4.7.1, §4.7.2).
func TestCommandIllegal_STALL_MODEL(t *testing.T) {
	for model, want := range map[int]bool{StallBoth: false, StallTerminate: true, StallForced: false} {
		r := ids(StallModel, model)
		assert.Equal(t, want, plain(0x44).Illegal(&r) != nil, "RESUME, STALL_MODEL %d", model)
		assert.Equal(t, want, plain(0x45).Illegal(&r) != nil, "STALL_TERM, STALL_MODEL %d", model)
	}
}

// Invalid parameters make a command illegal. Reserved fields and identifiers out of range do not.
func TestCommandIllegal_parameters(t *testing.T) {
	r := ids(S1P, 1, ATS, 1, PRI, 1)
	for _, c := range []struct {
		name string
		cmd  Command
		want bool
	}{
		{"SYNC, SIG_NONE", Command{0x46 | 0b00<<12}, false},
		{"SYNC, SIG_IRQ", Command{0x46 | 0b01<<12}, false},
		{"SYNC, SIG_SEV", Command{0x46 | 0b10<<12}, false}, // without IDR0.SEV it signals nothing
		{"SYNC, CS reserved", Command{0x46 | 0b11<<12}, true},
		{"SYNC, MSI without IDR0.MSI is IGNORED", Command{0xffff_ffff_0fc0_1046, 0x4000_0000}, false},
		{"ATC_INV of everything", Command{0x40, 52}, false},
		{"ATC_INV of more than everything", Command{0x40, 53}, true},
		{"ATC_INV, Size 63", Command{0x40, 63}, true},
		{"PRI_RESP, ResponseFailure", Command{0x41, 0b00 << 12}, false},
		{"PRI_RESP, InvalidRequest", Command{0x41, 0b01 << 12}, false},
		{"PRI_RESP, Success", Command{0x41, 0b10 << 12}, false},
		{"PRI_RESP, reserved", Command{0x41, 0b11 << 12}, true},
		{"StreamID out of range is no error (§4.1.7)", Command{0xffff_ffff_0000_0003}, false},
		{"SubstreamID out of range is no error (§4.1.7)", Command{0xffff_f805}, false},
		{"ASID out of range is no error (§4.4)", Command{0xffff_0000_0000_0011}, false},
		{"VMID without stage 2 is no error (§4.4.2)", Command{0x0000_ffff_0000_0010}, false},
		{"reserved fields are ignored (§4.1.5)", Command{0xffff_ffff_ffff_fb30, ^uint64(0)}, false},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.cmd.Illegal(&r) != nil) })
	}
}

// A granule with NUM, SCALE and TTL all 0 is reserved (§4.4.1.1).
func TestCommandIllegal_range(t *testing.T) {
	const num1, scale1, scale32 = 1 << 12, 1 << 20, 32 << 20
	none := ids(S1P, 1, S2P, 1, Hyp, 1)
	ril := none.with(RIL, 1)
	lpa2 := ril.with(DS, 1)
	for _, c := range []struct {
		name string
		ids  IDRegs
		qw0  uint64
		tg   uint64
		ttl  uint64
		want bool
	}{
		{"no granule, no range, no level", ril, 0, 0b00, 0, false},
		{"no granule, the rest is RES0", ril, num1 | scale1, 0b00, 3, false},
		{"4K alone", ril, 0, 0b01, 0, true},
		{"16K alone", ril, 0, 0b10, 0, true},
		{"64K alone", ril, 0, 0b11, 0, true},
		{"4K, NUM", ril, num1, 0b01, 0, false},
		{"4K, SCALE", ril, scale1, 0b01, 0, false},
		{"4K, TTL 1", ril, 0, 0b01, 1, false},
		{"16K, TTL 1 counts as 0 without DS", ril, 0, 0b10, 1, true},
		{"16K, TTL 1 with DS", lpa2, 0, 0b10, 1, false},
		{"16K, TTL 1 and NUM", ril, num1, 0b10, 1, false},
		{"16K, TTL 2", ril, 0, 0b10, 2, false},
		{"64K, TTL 1", ril, 0, 0b11, 1, false},
		{"64K, TTL 3", ril, 0, 0b11, 3, false},
		{"SCALE[5] is RES0 without DS", ril, scale32, 0b01, 0, true},
		{"SCALE[5] with DS", lpa2, scale32, 0b01, 0, false},
		{"without RIL, the fields are RES0", none, 0, 0b01, 0, false},
		{"without RIL, the fields are RES0, 16K", none, 0, 0b10, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, op := range []uint64{0x12, 0x13, 0x22, 0x23, 0x2a} { // those with an address
				cmd := Command{op | c.qw0, c.tg<<10 | c.ttl<<8}
				assert.Equal(t, c.want, cmd.Illegal(&c.ids) != nil, "%v", Opcode(op))
			}
			for _, op := range []uint64{0x10, 0x11, 0x20, 0x21, 0x28, 0x30} { // those without
				cmd := Command{op | c.qw0, c.tg<<10 | c.ttl<<8}
				assert.Nil(t, cmd.Illegal(&c.ids), "%v has no range", Opcode(op))
			}
		})
	}
}
