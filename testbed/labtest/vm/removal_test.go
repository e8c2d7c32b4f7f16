//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestRemovalReleasesTheDeviceOnceIfAsked(t *testing.T) {
	broken := errors.New("broken")
	released := make(chan struct{}, 2)
	release := func() error { released <- struct{}{}; return broken }
	var eventfd int
	enable := func(fd int32) error { eventfd = int(fd); return nil }

	r, err := watchRemoval(enable, release)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	assert.Empty(t, released, "the kernel did not ask")

	r, err = watchRemoval(enable, release)
	require.NoError(t, err)
	for range 2 { // the kernel repeats its request
		_, err = unix.Write(eventfd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		require.NoError(t, err)
	}
	<-released
	assert.ErrorIs(t, r.Close(), broken)
	assert.Empty(t, released, "the kernel asked twice")

	_, err = watchRemoval(func(int32) error { return broken }, release)
	assert.ErrorIs(t, err, broken)
}
