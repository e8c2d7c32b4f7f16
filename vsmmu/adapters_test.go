package vsmmu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestBytes shows that LoadBytes and StoreBytes are little-endian, as the guest is.
func TestBytes(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.StoreBytes(0x80, []byte{0xc0, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0x40}))
	assert.Equal(t, uint64(0x00dcba98_765432c0|1<<62), r.Load(0x80, 8))
	require.NoError(t, r.StoreBytes(0x84, []byte{1, 2, 3, 0}))
	p := make([]byte, 8)
	require.NoError(t, r.LoadBytes(0x80, p))
	assert.Equal(t, []byte{0xc0, 0x32, 0x54, 0x76, 1, 2, 3, 0}, p)
	require.NoError(t, r.LoadBytes(0x84, p[:4]))
	assert.Equal(t, []byte{1, 2, 3, 0}, p[:4])
}

// notAccesses are accesses that cannot reach a register.
var notAccesses = []struct {
	off  uint64
	size int
}{{0x80, 1}, {0x80, 2}, {0x80, 0}, {0x80, 16}, {0x82, 4}, {0x84, 8}, {0x20000, 4}, {0x1fffc, 8}, {^uint64(7), 8}}

func TestBytesErrors(t *testing.T) {
	r := newRig(t)
	for _, a := range notAccesses {
		p := make([]byte, a.size)
		for i := range p {
			p[i] = 0xff
		}
		assert.ErrorIs(t, r.StoreBytes(a.off, p), ErrAccess)
		assert.ErrorIs(t, r.LoadBytes(a.off, p), ErrAccess)
		assert.Equal(t, make([]byte, a.size), p, "reads zero")
	}
	assert.Zero(t, r.Load(0x80, 8))
}
