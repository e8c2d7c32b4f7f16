//go:build linux && (amd64 || arm64)

package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestRAMSizes(t *testing.T) {
	for _, size := range []uint64{0, 1, 2<<20 + 1, maxMem + 2<<20, 1 << 63} {
		_, err := newRAM(size)
		assert.ErrorIs(t, err, ErrMemory, "%#x", size)
	}
}

// An MSI to memory is one write of 32 bits.
func TestStore32(t *testing.T) {
	r, err := newRAM(2 << 20)
	require.NoError(t, err)
	defer r.close()
	require.NoError(t, r.store32(0x4000_0004, 0x1122_3344))
	assert.Equal(t, []byte{0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11, 0}, []byte(r[:9]))
	assert.NoError(t, r.store32(0x401f_fffc, 1), "the last word")
	for _, addr := range []uint64{0x4000_0002, 0x3fff_fffc, 0x4020_0000, 0, ^uint64(3)} {
		assert.Error(t, r.store32(addr, 1), "%#x", addr)
	}
}
