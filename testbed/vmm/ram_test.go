//go:build linux && (amd64 || arm64)

package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestRAMSizeIsAMultipleOf2MiB(t *testing.T) {
	for _, size := range []uint64{0, 1, 2<<20 + 1, maxMem + 2<<20, 1 << 63} {
		_, err := newRAM(size)
		assert.ErrorIs(t, err, ErrMemory, "%#x", size)
	}
}
