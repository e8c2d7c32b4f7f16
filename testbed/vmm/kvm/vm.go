//go:build linux && (amd64 || arm64)

package kvm

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VM is a virtual machine. NewVM creates it without memory, vCPUs and devices. Its methods may be
// called from any goroutine.
type VM struct {
	*handle
	runSize int
}

// ErrUnsupported is matched by NewVM's error if the host has KVM, but without a capability that an
// arm64 VM needs.
var ErrUnsupported = errors.New("kvm: new VM: not supported by this host")

// required lists the capabilities that NewVM checks.
var required = []struct {
	capability uintptr
	name       string
}{
	{capUserMemory, "KVM_CAP_USER_MEMORY"},
	{capDeviceCtrl, "KVM_CAP_DEVICE_CTRL"},
	{capImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"},
	{capARMPSCI02, "KVM_CAP_ARM_PSCI_0_2"},
	{capIRQRouting, "KVM_CAP_IRQ_ROUTING"},
	{capIRQFD, "KVM_CAP_IRQFD"},
	{capIRQFDResample, "KVM_CAP_IRQFD_RESAMPLE"},
}

// defaultIPABits is the width of guest-physical addresses of a VM of type 0.
const defaultIPABits = 40

// NewVM opens /dev/kvm and creates a VM with guest-physical addresses of 40 bits, or of as many as
// the host has if it has fewer.
func NewVM() (*VM, error) {
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("kvm: open /dev/kvm: %w", err)
	}
	system := newHandle(fd)
	defer system.close()

	version, err := system.call("KVM_GET_API_VERSION", getAPIVersion, 0)
	if err != nil {
		return nil, err
	}
	if version != apiVersion {
		return nil, fmt.Errorf("%w: API version %d, not %d", ErrUnsupported, version, apiVersion)
	}
	for _, r := range required {
		if n, err := system.call("KVM_CHECK_EXTENSION", checkExtension, r.capability); err != nil || n == 0 {
			return nil, fmt.Errorf("%w: no %s", ErrUnsupported, r.name)
		}
	}
	vmType := uintptr(0)
	bits, err := system.call("KVM_CHECK_EXTENSION", checkExtension, capARMVMIPASize)
	if err == nil && 0 < bits && bits < defaultIPABits {
		vmType = uintptr(bits)
	}
	runSize, err := system.call("KVM_GET_VCPU_MMAP_SIZE", getVCPUMmapSize, 0)
	if err != nil {
		return nil, err
	}
	if runSize < int(unsafe.Sizeof(runPage{})) {
		return nil, fmt.Errorf("%w: kvm_run has %d bytes", ErrUnsupported, runSize)
	}
	vm, err := system.call("KVM_CREATE_VM", createVM, vmType)
	if err != nil {
		return nil, err
	}
	return &VM{newHandle(vm), runSize}, nil
}

// Close closes the VM's descriptor. The kernel frees the VM once its vCPUs are closed, too.
func (vm *VM) Close() error { return vm.close() }

// SetMemory maps mem at guest-physical address gpa, in an empty slot. Both are page-aligned. mem
// comes from mmap, not from Go's heap, and stays mapped until RemoveMemory or Close.
func (vm *VM) SetMemory(slot uint32, gpa uint64, mem []byte) error {
	return vm.setMemory(slot, 0, gpa, mem)
}

// SetReadOnlyMemory is SetMemory for memory that the guest reads and executes. A store to it is an
// exit.
func (vm *VM) SetReadOnlyMemory(slot uint32, gpa uint64, mem []byte) error {
	const readOnly = 1 << 1 // KVM_MEM_READONLY
	return vm.setMemory(slot, readOnly, gpa, mem)
}

func (vm *VM) setMemory(slot, flags uint32, gpa uint64, mem []byte) error {
	if len(mem) == 0 {
		return errors.New("kvm: set memory: no bytes")
	}
	region := userMemory{slot: slot, flags: flags, gpa: gpa, size: uint64(len(mem)), host: unsafe.Pointer(&mem[0])}
	_, err := vm.callPtr("KVM_SET_USER_MEMORY_REGION", setUserMemory, unsafe.Pointer(&region))
	runtime.KeepAlive(mem)
	return err
}

// RemoveMemory unmaps the memory of a slot. When it returns, no vCPU can access the memory.
func (vm *VM) RemoveMemory(slot uint32) error {
	_, err := vm.callPtr("KVM_SET_USER_MEMORY_REGION", setUserMemory, unsafe.Pointer(&userMemory{slot: slot}))
	return err
}
