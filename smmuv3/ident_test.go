package smmuv3

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// %v and %s of an identifier are hexadecimal. The other verbs print its number.
func TestIdentifierVerbs(t *testing.T) {
	type all struct {
		S StreamID
		P SubstreamID
		A ASID
		V VMID
	}
	for _, c := range []struct {
		format string
		want   string
	}{
		{"%v", "0x20"}, {"%s", "0x20"}, {"%+v", "0x20"}, {"%#v", "0x20"},
		{"%d", "32"}, {"%x", "20"}, {"%X", "20"}, {"%#x", "0x20"}, {"%#X", "0X20"}, {"%b", "100000"}, {"%o", "40"},
		{"%6v", "  0x20"}, {"%-6v|", "0x20  |"}, {"%6s", "  0x20"}, {"%06x", "000020"}, {"%#06x", "0x000020"}, {"%5d", "   32"},
		{"%-5d|", "32   |"}, {"%08v", "0x00000020"},
	} {
		for _, id := range []any{StreamID(0x20), SubstreamID(0x20), ASID(0x20), VMID(0x20)} {
			assert.Equal(t, c.want, fmt.Sprintf(c.format, id), "%s of %T", c.format, id)
		}
	}
	assert.Equal(t, "0x0", fmt.Sprint(StreamID(0)))
	assert.Equal(t, "0xffffffff", fmt.Sprint(^StreamID(0)))
	assert.Equal(t, "{0x1 0x2 0x3 0x4}", fmt.Sprint(all{1, 2, 3, 4}))
	assert.Equal(t, "{S:0x1 P:0x2 A:0x3 V:0x4}", fmt.Sprintf("%+v", all{1, 2, 3, 4}))
	assert.Equal(t, "[0x1 0xa]", fmt.Sprint([]StreamID{1, 10}))
	assert.Equal(t, "[1 a]", fmt.Sprintf("%x", []StreamID{1, 10}))
	assert.Equal(t, "map[0x1:0x2]", fmt.Sprint(map[StreamID]ASID{1: 2}))
	for s, want := range map[fmt.Stringer]string{StreamID(9): "0x9", SubstreamID(10): "0xa", ASID(11): "0xb", VMID(12): "0xc"} {
		assert.Equal(t, want, s.String())
	}
}

// No String method of the package panics, for any value.
func TestStringOfAnyValue(t *testing.T) {
	for v := range 256 {
		b := uint8(v)
		for _, s := range []fmt.Stringer{
			Opcode(b), EventType(b), Class(b), CompletionSignal(b), PRGResponse(b), STEConfig(b), S1Fmt(b), S1DSS(b), EATS(b),
			IDField(b), CmdqErr(b), StreamID(b), SubstreamID(b), ASID(b), VMID(b),
			Command{uint64(b), ^uint64(0)}, Event{uint64(b), ^uint64(0)}, PageRequest{uint64(b), ^uint64(0)},
		} {
			assert.NotEmpty(t, s.String(), "%T(%d)", s, v)
		}
		assert.NotPanics(t, func() { _ = IDField(b).Register() }, "IDField(%d).Register", v)
		assert.NotPanics(t, func() { _ = IDField(b).Max() }, "IDField(%d).Max", v)
		assert.NotPanics(t, func() { _ = IDField(b).Meaning(^uint32(0)) }, "IDField(%d).Meaning", v)
		assert.NotPanics(t, func() { _, _ = IDField(b).Bits() }, "IDField(%d).Bits", v)
	}
	assert.NotEmpty(t, (*Rule)(nil).String())
}
