//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
)

// fakeVM is a VM without KVM.
type fakeVM struct {
	routes    []kvm.Route
	connected map[int]uint32 // eventfds to GSIs
	pending   map[int]bool   // whether an eventfd was readable when it was connected
	slots     map[uint32]uint64
	raised    chan uint32 // SPIs
	lowered   []uint32
	stuck     error // of SetSPI
	fail      error // of the others
}

func newFakeVM() *fakeVM {
	return &fakeVM{connected: map[int]uint32{}, pending: map[int]bool{}, slots: map[uint32]uint64{}}
}

func (f *fakeVM) SetRoutes(r []kvm.Route) error { f.routes = r; return nil }

func (f *fakeVM) Connect(fd int, gsi uint32) error {
	if f.fail != nil {
		return f.fail
	}
	f.connected[fd] = gsi
	f.pending[fd] = readable(fd)
	return nil
}

func (f *fakeVM) ConnectLevel(fd, _ int, gsi uint32) error { return f.Connect(fd, gsi) }
func (f *fakeVM) Disconnect(fd int, _ uint32) error        { delete(f.connected, fd); return nil }

func (f *fakeVM) SetSPI(spi uint32, level bool) error {
	if level {
		f.raised <- spi
	} else {
		f.lowered = append(f.lowered, spi)
	}
	return f.stuck
}

func (f *fakeVM) SetMemory(slot uint32, gpa uint64, _ []byte) error {
	if f.fail != nil {
		return f.fail
	}
	f.slots[slot] = gpa
	return nil
}
func (f *fakeVM) RemoveMemory(slot uint32) error { delete(f.slots, slot); return f.fail }

func readable(fd int) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return n > 0
}

func newEventfd(t *testing.T) int {
	t.Helper()
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

var errFull = errors.New("full")

func TestConnectedMessagesHaveRoutes(t *testing.T) {
	vm := newFakeVM()
	r := router{vm: vm}
	a, b := newEventfd(t), newEventfd(t)
	undoA, err := r.connectMSI(a, kvm.MSI{Addr: doorbell, Data: 1, Device: 8})
	require.NoError(t, err)
	_, err = r.connectMSI(b, kvm.MSI{Addr: doorbell, Data: 2, Device: 8})
	require.NoError(t, err)
	assert.Equal(t, map[int]uint32{a: spis, b: spis + 1}, vm.connected)
	require.Len(t, vm.routes, spis+2)
	assert.Equal(t, kvm.Route{GSI: 5, SPI: 5}, vm.routes[5], "SPIs keep their routes")
	assert.Equal(t, kvm.Route{GSI: spis + 1, MSI: &kvm.MSI{Addr: doorbell, Data: 2, Device: 8}}, vm.routes[spis+1])

	require.NoError(t, undoA())
	_, err = r.connectMSI(a, kvm.MSI{Addr: doorbell, Data: 3, Device: 8})
	require.NoError(t, err)
	assert.Equal(t, map[int]uint32{a: spis, b: spis + 1}, vm.connected, "GSIs are reused")
	assert.Len(t, vm.routes, spis+2)
}

func TestMessagesAreBounded(t *testing.T) {
	r := router{vm: newFakeVM()}
	fd := newEventfd(t)
	for range maxMessages {
		_, err := r.connectMSI(fd, kvm.MSI{})
		require.NoError(t, err)
	}
	_, err := r.connectMSI(fd, kvm.MSI{})
	assert.ErrorContains(t, err, "more than")
}

func TestFailedConnectionTakesNoRoute(t *testing.T) {
	vm := newFakeVM()
	r := router{vm: vm}
	fd := newEventfd(t)
	vm.fail = errFull
	for range 2 * maxMessages {
		_, err := r.connectMSI(fd, kvm.MSI{})
		require.ErrorIs(t, err, errFull)
	}
	vm.fail = nil
	_, err := r.connectMSI(fd, kvm.MSI{})
	assert.NoError(t, err)
}

// Signals from before the connection are delivered as one signal after it.
func TestPendingSignalIsDeliveredOnce(t *testing.T) {
	vm := newFakeVM()
	r := router{vm: vm}
	fd := newEventfd(t)
	for range 3 {
		_, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		require.NoError(t, err)
	}
	_, err := r.connectMSI(fd, kvm.MSI{})
	require.NoError(t, err)
	assert.False(t, vm.pending[fd], "KVM would take it for a signal and leave it")
	var count [8]byte
	_, err = unix.Read(fd, count[:])
	require.NoError(t, err)
	assert.Equal(t, [8]byte{1}, count)

	quiet := newEventfd(t)
	_, err = r.connectMSI(quiet, kvm.MSI{})
	require.NoError(t, err)
	assert.False(t, readable(quiet))
}

func TestMemorySlotsAreReusedAndBounded(t *testing.T) {
	vm := newFakeVM()
	s := memorySlots{vm: vm}
	undo, err := s.mapMemory(0x1000, nil)
	require.NoError(t, err)
	_, err = s.mapMemory(0x2000, nil)
	require.NoError(t, err)
	assert.Equal(t, map[uint32]uint64{1: 0x1000, 2: 0x2000}, vm.slots, "slot 0 is RAM")
	require.NoError(t, undo())
	_, err = s.mapMemory(0x3000, nil)
	require.NoError(t, err)
	assert.Equal(t, map[uint32]uint64{1: 0x3000, 2: 0x2000}, vm.slots)

	vm.fail = errFull
	_, err = s.mapMemory(0x4000, nil)
	assert.ErrorIs(t, err, errFull)
	vm.fail = nil
	for range maxSlots - 2 {
		_, err = s.mapMemory(0x4000, nil)
		require.NoError(t, err)
	}
	_, err = s.mapMemory(0x4000, nil)
	assert.ErrorContains(t, err, "more than")
}
