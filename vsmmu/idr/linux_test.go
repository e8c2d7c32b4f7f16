package idr_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Linux 6.1's arm-smmu-v3 driver fails its probe, or uses fewer features, unless these conditions
// hold. The test reads raw register words.
func TestLinuxAcceptsTheDefaults(t *testing.T) {
	for name, host := range map[string]smmuv3.IDRegs{"QEMU's SMMU": labHost, "full": fullHost, "small": smallHost} {
		t.Run(name, func(t *testing.T) {
			r, err := idr.Derive(nil, caps(host)...)
			require.NoError(t, err)
			idr0, idr1, idr5 := r.IDs.IDR[0], r.IDs.IDR[1], r.IDs.IDR[5]

			assert.Contains(t, []uint32{0, 2}, idr0>>21&3, "table walks are little-endian, or either")
			assert.NotZero(t, idr0&0x3, "there is a stage")
			assert.Zero(t, idr0&0x1, "no stage 2: the driver would expect nested translation")
			assert.Contains(t, []uint32{2, 3}, idr0>>2&3, "AArch64 tables")
			assert.NotEqual(t, uint32(2), idr0>>24&3, "stalls are not forced")
			assert.Zero(t, idr1>>28&7, "neither preset tables, nor preset queues, nor relative addresses")
			assert.Greater(t, idr1>>21&31, uint32(6), "a batch of 64 commands and its SYNC fit the command queue")
			assert.Equal(t, uint32(1), idr0>>27&3, "two-level stream tables")
			assert.Greater(t, idr1&63, uint32(8), "more StreamIDs than one leaf of 2^8: otherwise the driver uses a linear table")
			assert.NotZero(t, idr5&0x70, "a page size")
			assert.LessOrEqual(t, idr5&7, uint32(6), "an output address size that the driver knows")
			assert.Zero(t, idr0&(1<<14), "with SEV the driver waits in WFE for a SYNC")
			assert.NotEqual(t, uint32(0x43b), r.IDs.IIDR&0xfff, "no Arm part's errata")
		})
	}
}
