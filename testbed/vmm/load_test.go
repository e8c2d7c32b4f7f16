package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

func TestPlanPlacesKernelTreeAndInitrdInOrder(t *testing.T) {
	got, err := plan(64<<20, &arm64image.Image{TextOffset: 0x8_0000, Size: 0x123_4567}, 0x30_0001)
	require.NoError(t, err)
	assert.Equal(t, boot{
		kernel: span{0x4008_0000, 0x123_4567},
		tree:   span{0x4140_0000, 2 << 20},
		initrd: span{0x4160_0000, 0x30_0001},
	}, got)
}

func TestPlanFailsWithErrMemoryIfMemoryIsTooSmall(t *testing.T) {
	image := &arm64image.Image{Size: 10 << 20}
	_, err := plan(12<<20, image, 0)
	assert.NoError(t, err, "exactly enough memory")
	for _, tt := range []struct{ mem, initrd uint64 }{{12<<20 - 1, 0}, {12 << 20, 1}, {0, 0}} {
		_, err := plan(tt.mem, image, tt.initrd)
		assert.ErrorIs(t, err, ErrMemory)
	}
}
