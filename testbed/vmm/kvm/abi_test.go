//go:build linux && (amd64 || arm64)

package kvm

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
)

// A request's number holds the size of its argument, so the header's numbers check the structures.
func TestRequestsCarryTheSizeOfTheirArgument(t *testing.T) {
	for _, tt := range []struct {
		name    string
		request uintptr
		size    uintptr
	}{
		{"KVM_SET_USER_MEMORY_REGION", setUserMemory, unsafe.Sizeof(userMemory{})},
		{"KVM_IRQ_LINE", irqLine, unsafe.Sizeof(irqLevel{})},
		{"KVM_SET_GSI_ROUTING", setGSIRouting, unsafe.Offsetof(routing{}.entries)},
		{"KVM_IRQFD", setIRQFD, unsafe.Sizeof(irqfd{})},
		{"KVM_SIGNAL_MSI", signalMSI, unsafe.Sizeof(msi{})},
		{"KVM_GET_ONE_REG", getOneReg, unsafe.Sizeof(oneReg{})},
		{"KVM_SET_ONE_REG", setOneReg, unsafe.Sizeof(oneReg{})},
		{"KVM_ARM_VCPU_INIT", armVCPUInit, unsafe.Sizeof(vcpuInit{})},
		{"KVM_ARM_PREFERRED_TARGET", armPreferredTarget, unsafe.Sizeof(vcpuInit{})},
		{"KVM_CREATE_DEVICE", createDevice, unsafe.Sizeof(newDevice{})},
		{"KVM_SET_DEVICE_ATTR", setDeviceAttr, unsafe.Sizeof(deviceAttr{})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			assert.Equal(t, tt.size, tt.request>>16&0x3fff)
			assert.EqualValues(t, 0xae, tt.request>>8&0xff)
		})
	}
}

// The offsets are those of struct kvm_run in include/uapi/linux/kvm.h.
func TestRunPageMatchesStructKVMRun(t *testing.T) {
	assert.EqualValues(t, 8, unsafe.Offsetof(runPage{}.exitReason))
	assert.EqualValues(t, 32, unsafe.Offsetof(runPage{}.exit))
	assert.EqualValues(t, 8, unsafe.Offsetof(mmioExit{}.data))
	assert.EqualValues(t, 16, unsafe.Offsetof(mmioExit{}.len))
	assert.EqualValues(t, 20, unsafe.Offsetof(mmioExit{}.isWrite))

	var page runPage
	page.request = immediateExit
	assert.Equal(t, [4]byte{0, 1, 0, 0}, *(*[4]byte)(unsafe.Pointer(&page.request)), "immediate_exit is the second byte")
}

func TestMMIOReturnsTheAccess(t *testing.T) {
	var page runPage
	c := &VCPU{run: &page}
	exit := (*mmioExit)(unsafe.Pointer(&page.exit))

	*exit = mmioExit{addr: 0x9000018, data: [8]byte{1, 2, 3, 4, 5, 6, 7, 8}, len: 2, isWrite: 1}
	assert.Equal(t, Access{Addr: 0x9000018, Size: 2, Write: true, Value: 0x0201}, c.MMIO(), "the value has no bytes past the size")

	*exit = mmioExit{addr: 0x9000018, data: [8]byte{1, 2}, len: 4}
	assert.Equal(t, Access{Addr: 0x9000018, Size: 4}, c.MMIO())
	c.SetLoaded(0x8877665544332211)
	assert.Equal(t, [8]byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}, exit.data)

	*exit = mmioExit{len: 0xffffffff, isWrite: 1}
	assert.Equal(t, 8, c.MMIO().Size, "an invalid length is cut to 8")
}

func TestClosedHandleMakesNoCall(t *testing.T) {
	h := newHandle(-1)
	_, err := h.call("KVM_CREATE_VM", createVM, 0)
	assert.ErrorContains(t, err, "file already closed")
	assert.NoError(t, h.close())
}
