//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestRemoval(t *testing.T) {
	broken := errors.New("broken")
	given := make(chan struct{}, 2)
	giveBack := func() error { given <- struct{}{}; return broken }
	var eventfd int
	enable := func(fd int32) error { eventfd = int(fd); return nil }

	r, err := watchRemoval(enable, giveBack)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Empty(t, given, "nobody wanted it")

	r, err = watchRemoval(enable, giveBack)
	require.NoError(t, err)
	for range 2 { // the kernel asks again
		_, err = unix.Write(eventfd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		require.NoError(t, err)
	}
	<-given
	assert.ErrorIs(t, r.Close(), broken)
	assert.Empty(t, given, "once")

	_, err = watchRemoval(func(int32) error { return broken }, giveBack)
	assert.ErrorIs(t, err, broken)
}
