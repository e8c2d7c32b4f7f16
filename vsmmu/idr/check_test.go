package idr

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func TestCheck(t *testing.T) {
	// S1P, AArch64 tables, CD2L, terminate model, two-level stream tables;
	// SSIDSIZE 10, SIDSIZE 16; 44 bits, all granules.
	good := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	require.NoError(t, Check(good))
	both := good
	both.Set(smmuv3.S2P, 1)
	require.NoError(t, Check(both))
	both.Set(smmuv3.S1P, 0)
	require.NoError(t, Check(both), "stage 2 alone")
	for _, tc := range []struct {
		name  string
		field smmuv3.IDField
		value uint32
	}{
		{"no stage 1", smmuv3.S1P, 0},
		{"a hypervisor's contexts", smmuv3.Hyp, 1},
		{"16-bit VMIDs without stage 2", smmuv3.VMID16, 1},
		{"no AArch64 tables", smmuv3.TTF, 1},
		{"a reserved TTF", smmuv3.TTF, 0},
		{"a stall model that the device does not carry out", smmuv3.StallModel, 2},
		{"a stream table level that does not exist", smmuv3.STLevel, 2},
		{"SSIDSIZE above 20", smmuv3.SSIDSIZE, 21},
		{"CMDQS above 19", smmuv3.CMDQS, 20},
		{"a version without what it promises", smmuv3.ArchMinor, 1},
		{"linear tables for 16-bit StreamIDs", smmuv3.STLevel, 0},
		{"more than 48 bits in SMMUv3.0", smmuv3.OAS, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bad := good
			bad.Set(tc.field, tc.value)
			err := Check(bad)
			assert.ErrorIs(t, err, ErrPolicy)
			var fe *FieldError
			assert.ErrorAs(t, err, &fe)
		})
	}
}
