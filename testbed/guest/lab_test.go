package guest

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLabCheckFindsStaleAndMisplacedBytes(t *testing.T) {
	data := make([]byte, TestSize)
	last := LabSize(StepTakenOver)
	LabPattern(LabNVMe, StepFirst).Fill(data, 0)
	n, err := LabCheck(LabNVMe, data)
	assert.Error(t, err, "the last step did not write")
	assert.Zero(t, n)

	LabPattern(LabNVMe, StepTakenOver).Fill(data[:last], 0)
	n, err = LabCheck(LabNVMe, data)
	require.NoError(t, err)
	assert.EqualValues(t, TestSize, n)
	_, err = LabCheck(LabVirtio, data)
	assert.Error(t, err, "another disk's bytes")

	data[last] ^= 1
	n, err = LabCheck(LabNVMe, data)
	assert.Error(t, err)
	assert.Equal(t, last, n)
}
