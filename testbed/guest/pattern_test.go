package guest

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The first outputs of splitmix64 with the seed 1234567, as published with the generator. The n-th
// output is the word at offset n.
func TestPatternIsSplitmix64(t *testing.T) {
	const seed = 1234567
	for i, want := range []uint64{6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821} {
		assert.Equal(t, want, Pattern(seed).word(int64(i+1)))
	}
}

func TestPatternDiffersByDiskAndOffset(t *testing.T) {
	a := make([]byte, 4096)
	PatternFor(Plain).Fill(a, 8192)
	require.NoError(t, PatternFor(Plain).Check(a, 8192))
	assert.Error(t, PatternFor(PASID).Check(a, 8192), "another disk's")
	assert.Error(t, PatternFor(Plain).Check(a, 4096), "another offset's")
	assert.Error(t, PatternFor(Plain).Check(make([]byte, 4096), 8192), "never written")

	for _, at := range []int{0, 7, 4095} {
		b := bytes.Clone(a)
		b[at] ^= 0x80
		assert.ErrorContains(t, PatternFor(Plain).Check(b, 8192), "read 0x", "one bit at %d", at)
	}
}
