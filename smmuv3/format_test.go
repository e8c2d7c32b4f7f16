package smmuv3_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The verbs of strings print the text, and the verbs of numbers print the number or the words.
func TestVerbsOfCodesAndRecords(t *testing.T) {
	const illegal smmuv3.CmdqErr = 1
	for _, tt := range []struct {
		format string
		value  any
		want   string
	}{
		{"%#x", smmuv3.EventType(0x10), "0x10"},
		{"%02x", smmuv3.EventType(0x4), "04"},
		{"%d", smmuv3.EventType(0x10), "16"},
		{"%v", smmuv3.EventType(0x10), "F_TRANSLATION"},
		{"%14s|", smmuv3.EventType(0x10), " F_TRANSLATION|"},
		{"%q", smmuv3.EventType(0x10), `"F_TRANSLATION"`},
		{"%#x", smmuv3.Opcode(0x46), "0x46"},
		{"%X", smmuv3.Opcode(0x4a), "4A"},
		{"%d", smmuv3.Opcode(0x46), "70"},
		{"%v", smmuv3.Opcode(0x46), "SYNC"},
		{"%#x", illegal, "0x1"},
		{"%s", illegal, "CERROR_ILL"},
		{"%#x", smmuv3.Command{0x10, 0}, "[0x10 0x0]"},
		{"%v", smmuv3.Command{0x10, 0}, "TLBI_NH_ALL"},
		{"%#v", smmuv3.Command{0x10, 0}, "[2]uint64{0x10, 0x0}"},
		{"%#x", smmuv3.Event{0x20_0000_0004, 0, 0, 0}, "[0x2000000004 0x0 0x0 0x0]"},
		{"%v", smmuv3.Event{0x20_0000_0004, 0, 0, 0}, "C_BAD_STE stream 0x20"},
		{"%#x", smmuv3.PageRequest{0x20, 0x1000}, "[0x20 0x1000]"},
		{"%#x", struct{ Type smmuv3.EventType }{0x10}, "{0x10}"},
		{"%+v", struct{ Type smmuv3.EventType }{0x10}, "{Type:F_TRANSLATION}"},
	} {
		assert.Equal(t, tt.want, fmt.Sprintf(tt.format, tt.value), "%s of a %T", tt.format, tt.value)
	}
}
