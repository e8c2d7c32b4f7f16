//go:build linux && (amd64 || arm64)

package vmm

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func signal(t *testing.T, fd int) {
	t.Helper()
	_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(t, err)
}

// Each signal raises the interrupt, an earlier one included. KVM is connected for the end of the
// interrupt only.
func TestSignalRaisesINTx(t *testing.T) {
	vm := newFakeVM()
	vm.raised = make(chan uint32)
	r := router{vm: vm}
	trigger, unmask := newEventfd(t), newEventfd(t)
	signal(t, trigger)
	undo, err := r.connectSPI(trigger, unmask, 13, nil)
	require.NoError(t, err)
	assert.EqualValues(t, 13, <-vm.raised)
	signal(t, trigger)
	assert.EqualValues(t, 13, <-vm.raised)
	assert.Len(t, vm.connected, 1)
	assert.NotContains(t, vm.connected, trigger)

	require.NoError(t, undo())
	assert.Empty(t, vm.connected)
	signal(t, trigger)
	assert.True(t, readable(trigger), "pending until the next connection")
}

// A guest that switches one device to MSI-X does not lose the interrupt of another device.
func TestSharedINTxIsLoweredWithItsLastDevice(t *testing.T) {
	vm := newFakeVM()
	r := router{vm: vm}
	var undos []func() error
	for _, spi := range []uint32{13, 14, 13} {
		undo, err := r.connectSPI(newEventfd(t), newEventfd(t), spi, nil)
		require.NoError(t, err)
		undos = append(undos, undo)
	}
	require.NoError(t, undos[0]())
	assert.Empty(t, vm.lowered)
	require.NoError(t, undos[1]())
	assert.Equal(t, []uint32{14}, vm.lowered)
	require.NoError(t, undos[2]())
	assert.Equal(t, []uint32{14, 13}, vm.lowered)
}

func TestINTxThatCannotBeRaisedStopsTheMachine(t *testing.T) {
	vm := newFakeVM()
	vm.raised, vm.stuck = make(chan uint32, 1), errFull
	r := router{vm: vm}
	trigger := newEventfd(t)
	stopped := make(chan error, 1)
	undo, err := r.connectSPI(trigger, newEventfd(t), 13, func(err error) { stopped <- err })
	require.NoError(t, err)
	signal(t, trigger)
	assert.Equal(t, errFull, <-stopped)
	assert.ErrorIs(t, undo(), errFull)
}

func TestFailedConnectionOfINTxLeavesNothing(t *testing.T) {
	vm := newFakeVM()
	vm.fail = errFull
	r := router{vm: vm}
	_, err := r.connectSPI(newEventfd(t), newEventfd(t), 13, nil)
	assert.ErrorIs(t, err, errFull)
	_, err = r.connectSPI(-1, newEventfd(t), 13, nil)
	assert.ErrorIs(t, err, unix.EBADF)
}
