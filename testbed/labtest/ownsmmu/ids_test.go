package ownsmmu

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

const (
	waiting = 2 * time.Minute
	polling = time.Millisecond
)

// Linux nests on an SMMU with both stages and FWB.
func TestGuestReadsAnSMMUThatNests(t *testing.T) {
	ids, err := Derive(nil)
	require.NoError(t, err)
	for f, want := range map[smmuv3.IDField]uint32{
		smmuv3.S1P: 1, smmuv3.S2P: 1, smmuv3.FWB: 1, smmuv3.CD2L: 1, smmuv3.SSIDSIZE: 20, smmuv3.HTTU: 2, smmuv3.MSI: 1,
		smmuv3.ATS: 1, smmuv3.PRI: 1,
	} {
		assert.Equal(t, want, ids.Guest.Get(f), "%v", f)
	}
}

func TestFieldsDifferFromTheDefault(t *testing.T) {
	ids, err := Derive(map[string]uint32{"GRAN4K": 0, "gran64k": 0, "STALL_MODEL": 0, "STALL_MAX": 16})
	require.NoError(t, err)
	assert.False(t, ids.Guest.HasGranule(smmuv3.Granule4K))
	assert.True(t, ids.Guest.HasGranule(smmuv3.Granule16K))
	assert.EqualValues(t, smmuv3.StallBoth, ids.Guest.Get(smmuv3.StallModel))
	for _, bad := range []map[string]uint32{{"OASIS": 1}, {"OAS": 8}, {"GRAN4K": 0, "GRAN16K": 0, "GRAN64K": 0}} {
		_, err := Derive(bad)
		assert.Error(t, err, "%v", bad)
	}
}
