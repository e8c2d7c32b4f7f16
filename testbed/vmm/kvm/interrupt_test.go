//go:build linux && (amd64 || arm64)

package kvm

import (
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// kernel is a fake VM descriptor. It records requests and the words of their arguments.
type kernel struct {
	calls [][]uint32
	fail  map[uintptr]unix.Errno
}

func (k *kernel) ioctl(_ int, request uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	if errno := k.fail[request]; errno != 0 {
		return -1, errno
	}
	words := int(request>>16&0x3fff) / 4
	if request == setGSIRouting {
		words += int((*routing)(arg).nr) * int(unsafe.Sizeof(route{})) / 4
	}
	if request == createDevice {
		(*newDevice)(arg).fd = ^uint32(0)
	}
	k.calls = append(k.calls, append([]uint32{uint32(request)}, slices.Clone(unsafe.Slice((*uint32)(arg), words))...))
	return 0, 0
}

func newTestVM() (*VM, *kernel) {
	k := &kernel{fail: map[uintptr]unix.Errno{}}
	return &VM{handle: &handle{fd: 1 << 30, sys: k.ioctl}}, k
}

// The words are those of the structures in include/uapi/linux/kvm.h.
func TestRoutesMatchStructKVMIRQRoutingEntry(t *testing.T) {
	vm, k := newTestVM()
	require.NoError(t, vm.SetRoutes([]Route{
		{GSI: 7, SPI: 7},
		{GSI: 64, MSI: &MSI{Addr: 0x1_0809_0040, Data: 5, Device: 0x10}},
	}))
	assert.Equal(t, [][]uint32{{
		setGSIRouting, 2, 0,
		7, 1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0,
		64, 2, 1, 0, 0x0809_0040, 1, 5, 0x10, 0, 0, 0, 0,
	}}, k.calls)
	assert.Error(t, vm.SetRoutes(make([]Route, maxRoutes+1)))
}

func TestConnectionsMatchStructKVMIRQFD(t *testing.T) {
	vm, k := newTestVM()
	require.NoError(t, vm.Connect(10, 64))
	require.NoError(t, vm.ConnectLevel(11, 12, 7))
	require.NoError(t, vm.Disconnect(10, 64))
	assert.Equal(t, [][]uint32{
		{setIRQFD, 10, 64, 0, 0, 0, 0, 0, 0},
		{setIRQFD, 11, 7, 2, 12, 0, 0, 0, 0},
		{setIRQFD, 10, 64, 1, 0, 0, 0, 0, 0},
	}, k.calls)
}

func TestSignalMSIReportsWhetherTheGuestTookIt(t *testing.T) {
	vm, k := newTestVM()
	taken, err := vm.SignalMSI(MSI{Addr: 0x1_0809_0040, Data: 5, Device: 0x10})
	require.NoError(t, err)
	assert.False(t, taken, "the guest maps no interrupt to it")
	assert.Equal(t, [][]uint32{{signalMSI, 0x0809_0040, 1, 5, 1, 0x10, 0, 0, 0}}, k.calls)

	k.fail[signalMSI] = unix.EBUSY
	taken, err = vm.SignalMSI(MSI{})
	assert.NoError(t, err, "an ITS that is not enabled ignores the write")
	assert.False(t, taken)
}

func TestMemorySlotsMatchTheirStructure(t *testing.T) {
	vm, k := newTestVM()
	assert.Error(t, vm.SetMemory(3, 0x1000_0000, nil), "RemoveMemory removes a slot")
	require.NoError(t, vm.RemoveMemory(3))
	assert.Equal(t, [][]uint32{{setUserMemory, 3, 0, 0, 0, 0, 0, 0, 0}}, k.calls)
}

func TestErrorsNameTheRequest(t *testing.T) {
	vm, k := newTestVM()
	for _, tt := range []struct {
		request uintptr
		call    func() error
		says    string
	}{
		{setGSIRouting, func() error { return vm.SetRoutes(nil) }, "KVM_SET_GSI_ROUTING"},
		{setIRQFD, func() error { return vm.Connect(1, 2) }, "KVM_IRQFD"},
		{signalMSI, func() error { _, err := vm.SignalMSI(MSI{}); return err }, "KVM_SIGNAL_MSI"},
		{createDevice, func() error { return vm.AddITS(0x0808_0000) }, "KVM_CREATE_DEVICE(ITS)"},
		{setUserMemory, func() error { return vm.RemoveMemory(1) }, "KVM_SET_USER_MEMORY_REGION"},
	} {
		k.fail[tt.request] = unix.ENOSPC
		err := tt.call()
		assert.ErrorIs(t, err, unix.ENOSPC)
		assert.ErrorContains(t, err, tt.says)
	}
}
