//go:build linux && (amd64 || arm64)

package kvm

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VM is a virtual machine without anything in it yet. Its methods may be called from any goroutine.
type VM struct {
	*handle
	runSize int
}

// ErrUnsupported is matched by NewVM's error when this machine has KVM but not what an arm64 VM needs of it.
var ErrUnsupported = errors.New("kvm: not supported by this host")

// required lists what NewVM checks for. All of it is older than the oldest kernel that is worth running on.
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

// defaultIPABits is the guest-physical address size of a VM of type 0.
const defaultIPABits = 40

// NewVM opens /dev/kvm and makes a VM with 40 bits of guest-physical address, or as many as the host has if fewer.
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
		return nil, fmt.Errorf("%w: its API version is %d, not %d", ErrUnsupported, version, apiVersion)
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
		return nil, fmt.Errorf("%w: kvm_run of %d bytes", ErrUnsupported, runSize)
	}
	vm, err := system.call("KVM_CREATE_VM", createVM, vmType)
	if err != nil {
		return nil, err
	}
	return &VM{newHandle(vm), runSize}, nil
}

// Close gives the VM back once its vCPUs are closed too. It must outlive every user of the memory it was given.
func (vm *VM) Close() error { return vm.close() }

// SetMemory puts mem at guest-physical address gpa, in a slot that has none. Both must be page-aligned, and mem must stay
// mapped until RemoveMemory or Close: it is to come from mmap, not from Go's heap.
func (vm *VM) SetMemory(slot uint32, gpa uint64, mem []byte) error {
	if len(mem) == 0 {
		return errors.New("kvm: memory slot of no bytes")
	}
	region := userMemory{slot: slot, gpa: gpa, size: uint64(len(mem)), host: unsafe.Pointer(&mem[0])}
	_, err := vm.callPtr("KVM_SET_USER_MEMORY_REGION", setUserMemory, unsafe.Pointer(&region))
	runtime.KeepAlive(mem)
	return err
}

// RemoveMemory takes away what SetMemory has put into a slot. When it returns no vCPU reaches it.
func (vm *VM) RemoveMemory(slot uint32) error {
	_, err := vm.callPtr("KVM_SET_USER_MEMORY_REGION", setUserMemory, unsafe.Pointer(&userMemory{slot: slot}))
	return err
}
