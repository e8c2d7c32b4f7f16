package vm

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

func TestVerifyReturnsTheLengthOfTheGuestsPattern(t *testing.T) {
	const mib = 1 << 20
	for _, tt := range []struct {
		name  string
		spoil func(f *os.File) error
		right int64
	}{
		{"the whole pattern", func(*os.File) error { return nil }, guest.TestSize},
		{"a byte after the pattern", func(f *os.File) error { return write(f, guest.TestSize) }, guest.TestSize},
		{"its first byte", func(f *os.File) error { return write(f, 0) }, 0},
		{"its last byte", func(f *os.File) error { return write(f, guest.TestSize-1) }, guest.TestSize - mib},
		{"the end is not there", func(f *os.File) error { return f.Truncate(guest.TestSize - 1) }, guest.TestSize - mib},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f, err := newBacking()
			require.NoError(t, err)
			defer f.Close()
			_, err = os.Stat(f.Name())
			require.ErrorIs(t, err, os.ErrNotExist, "the file has no name")
			info, err := f.Stat()
			require.NoError(t, err)
			require.EqualValues(t, 32*mib, info.Size())

			data := make([]byte, guest.TestSize)
			guest.PatternFor("plain").Fill(data, 0)
			_, err = f.WriteAt(data, 0)
			require.NoError(t, err)
			require.NoError(t, tt.spoil(f))
			right, err := verify(f, "plain", guest.TestSize)
			assert.Equal(t, tt.right, right)
			assert.Equal(t, tt.right == guest.TestSize, err == nil, "%v", err)
		})
	}
}

// write changes a byte of the file.
func write(f *os.File, at int64) error {
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0]++
	_, err := f.WriteAt(b[:], at)
	return err
}
