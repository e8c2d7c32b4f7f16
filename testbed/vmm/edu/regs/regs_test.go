package regs

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The places of fields, which the device model and its drivers share.
func TestPlacesOfFields(t *testing.T) {
	for _, tt := range []struct {
		name string
		v    uint64
		want uint64
	}{
		{"PASID", uint64(Attrs(0).WithPASID(0xabcde)), 0x000a_bcde_0000_0001},
		{"PASID of 20 bits", uint64(Attrs(0).WithPASID(0xffff_ffff)), 0x000f_ffff_0000_0001},
		{"another PASID", uint64(Force.WithPASID(0xfffff).WithPASID(1)), 0x0000_0001_0000_0021},
		{"attributes", uint64(Privileged | Execute | ByATS | AskForPages), 0x1e},
		{"page request", RequestPage(0x1ff, true, false, true), 0x01ff_0604},
		{"page request to write", RequestPage(1, false, true, false), 0x0001_0104},
		{"response", uint64(NewResponse(0x1ff, 2, 7, true)), 0x8000_0007_01ff_0201},
		{"response without PASID", uint64(NewResponse(1, 1, 7, false)), 0x8000_0000_0001_0100},
		{"outcome", uint64(NewOutcome(NotGranted, 0x1000)), 0x0000_1000_0000_0005},
	} {
		assert.Equal(t, tt.want, tt.v, tt.name)
	}
}

func TestGettersReadWhatConstructorsWrite(t *testing.T) {
	pasid, ok := NewResponse(300, 1, 7, true).PASID()
	assert.True(t, ok)
	assert.EqualValues(t, 7, pasid)
	_, ok = NewResponse(300, 1, 7, false).PASID()
	assert.False(t, ok)
	assert.EqualValues(t, 300, NewResponse(300, 1, 7, true).Group())
	assert.EqualValues(t, 1, NewResponse(300, 1, 7, true).Code())
	assert.EqualValues(t, 300, Group(RequestPage(300, true, true, true)))
	assert.Zero(t, (Attrs(0).WithPASID(9) &^ HasPASID).PASID())
	o := NewOutcome(Aborted, 4096)
	assert.Equal(t, Aborted, o.Code())
	assert.Equal(t, 4096, o.Bytes())
}

func TestNames(t *testing.T) {
	assert.Equal(t, "PASID, stalls", (PASID | Stalls).String())
	assert.Empty(t, Feature(0).String())
	for c := OK; c <= Failed; c++ {
		assert.NotEmpty(t, c.String(), "%d", uint8(c))
		assert.NotContains(t, c.String(), "Code(")
	}
	assert.Equal(t, "Code(200)", Code(200).String())
}
