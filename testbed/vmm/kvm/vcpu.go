//go:build linux && (amd64 || arm64)

package kvm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// VCPU is a processor of a VM. One goroutine, locked to its thread, calls Run. Stop may be called
// from any goroutine.
type VCPU struct {
	*handle
	index  int
	mem    []byte
	run    *runPage
	thread atomic.Int32
	stays  bool // the last Run was interrupted in the guest
	exits  uint64
}

// NewVCPU creates the vCPU with the given index, which is also its MPIDR affinity. vCPU 0 is on.
// The guest turns on the others by PSCI.
func (vm *VM) NewVCPU(index int) (*VCPU, error) {
	fd, err := vm.call("KVM_CREATE_VCPU", createVCPU, uintptr(index))
	if err != nil {
		return nil, err
	}
	mem, err := unix.Mmap(fd, 0, vm.runSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("kvm: mmap kvm_run of vCPU %d: %w", index, err)
	}
	c := &VCPU{handle: newHandle(fd), index: index, mem: mem, run: (*runPage)(unsafe.Pointer(&mem[0]))}
	if err := c.init(vm); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (c *VCPU) init(vm *VM) error {
	var target vcpuInit
	if _, err := vm.callPtr("KVM_ARM_PREFERRED_TARGET", armPreferredTarget, unsafe.Pointer(&target)); err != nil {
		return err
	}
	target.features[0] |= featurePSCI02
	if c.index > 0 {
		target.features[0] |= featurePowerOff
	}
	_, err := c.callPtr("KVM_ARM_VCPU_INIT", armVCPUInit, unsafe.Pointer(&target))
	return err
}

// Close frees the vCPU. It waits for Run to return, so call Stop first.
func (c *VCPU) Close() error {
	err := c.close()
	if c.mem != nil {
		err = errors.Join(err, unix.Munmap(c.mem))
		c.mem, c.run = nil, nil
	}
	return err
}

// SetEntry makes the vCPU start at pc with x0. All other registers have their reset values.
func (c *VCPU) SetEntry(pc, x0 uint64) error {
	if err := c.setReg(regPC, pc); err != nil {
		return err
	}
	return c.setReg(regX0, x0)
}

func (c *VCPU) setReg(id, value uint64) error {
	reg := oneReg{id: id, addr: unsafe.Pointer(&value)}
	_, err := c.callPtr("KVM_SET_ONE_REG", setOneReg, unsafe.Pointer(&reg))
	return err
}

func (c *VCPU) reg(id uint64) (value uint64, err error) {
	reg := oneReg{id: id, addr: unsafe.Pointer(&value)}
	_, err = c.callPtr("KVM_GET_ONE_REG", getOneReg, unsafe.Pointer(&reg))
	return value, err
}

// Whereabouts describes where the guest is, for the error of a guest that hangs. No Run may be in
// flight.
func (c *VCPU) Whereabouts() string {
	pc, err := c.reg(regPC)
	lr, err2 := c.reg(regLR)
	if err := errors.Join(err, err2); err != nil {
		return fmt.Sprintf("vCPU %d: %v", c.index, err)
	}
	return fmt.Sprintf("vCPU %d is at %#x, called from %#x, and left the guest %d times", c.index, pc, lr, c.exits)
}

// Exit is the reason for which Run returned.
type Exit int

// Exits.
const (
	Interrupted Exit = iota // by Stop or another signal
	MMIO                    // a load or store outside memory: see VCPU.MMIO
	PowerOff                // PSCI SYSTEM_OFF
	Reset                   // PSCI SYSTEM_RESET
	Crash                   // the guest reported a crash
)

// systemEvents maps the types of KVM_EXIT_SYSTEM_EVENT to exits.
var systemEvents = map[uint32]Exit{1: PowerOff, 2: Reset, 3: Crash}

// Run runs the guest until the next exit. The caller has locked its goroutine to its thread, and
// calls Run from no other goroutine.
func (c *VCPU) Run() (Exit, error) {
	if c.thread.Load() == 0 {
		c.thread.Store(int32(unix.Gettid()))
	}
	err := c.enter()
	switch {
	case errors.Is(err, unix.EINTR), errors.Is(err, unix.EAGAIN):
		return Interrupted, nil
	case errors.Is(err, unix.ENOSYS):
		return 0, fmt.Errorf(
			"kvm: KVM_RUN of vCPU %d: load or store outside memory by an instruction that KVM cannot decode: %w",
			c.index,
			err,
		)
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EFAULT):
		// EIO: an assertion of KVM failed (KVM_BUG_ON), and the VM cannot continue. EFAULT: KVM
		// could not handle a fault of stage 2.
		return 0, fmt.Errorf("kvm: KVM_RUN of vCPU %d: %w (the host's kernel log has the cause)", c.index, err)
	case err != nil:
		return 0, fmt.Errorf("kvm: KVM_RUN of vCPU %d: %w", c.index, err)
	}
	c.exits++
	switch c.run.exitReason {
	case exitMMIO:
		return MMIO, nil
	case exitSystemEvent:
		event := (*systemEventExit)(unsafe.Pointer(&c.run.exit)).typ
		if exit, ok := systemEvents[event]; ok {
			return exit, nil
		}
		return 0, fmt.Errorf("kvm: KVM_RUN of vCPU %d: unknown system event %d", c.index, event)
	}
	name, ok := exitNames[c.run.exitReason]
	if !ok {
		name = "exit"
	}
	return 0, fmt.Errorf(
		"kvm: KVM_RUN of vCPU %d: %s (%d), detail %x",
		c.index,
		name,
		c.run.exitReason,
		c.run.exit[:16],
	)
}

// enter makes the request KVM_RUN.
//
// During a system call that Go's scheduler knows of, its monitor wakes every 20 µs. On an emulated
// host that takes as much time as the guest. A guest that just exited is likely to exit again soon,
// so that enter makes the first call without the scheduler's knowledge (RawSyscall). If the call
// lasts, the scheduler's preemption signal interrupts it after some 10 ms, and enter makes the next
// one with the scheduler's knowledge.
func (c *VCPU) enter() error {
	call := unix.RawSyscall
	if c.stays {
		call = unix.Syscall
	}
	_, err := c.callOnce(call, run, 0)
	c.stays = errors.Is(err, unix.EINTR)
	return err
}

// Access is the guest's load or store that ended Run with MMIO.
type Access struct {
	Addr  uint64
	Size  int // 1, 2, 4 or 8 bytes
	Write bool
	Value uint64 // the stored value, zero-extended
}

// MMIO returns the access that ended Run.
func (c *VCPU) MMIO() Access {
	exit := (*mmioExit)(unsafe.Pointer(&c.run.exit))
	size := min(int(exit.len), len(exit.data))
	access := Access{Addr: exit.addr, Size: size, Write: exit.isWrite != 0}
	if access.Write {
		var data [8]byte
		copy(data[:], exit.data[:size])
		access.Value = binary.LittleEndian.Uint64(data[:])
	}
	return access
}

// SetLoaded sets the result of an MMIO load: the low bytes of value.
func (c *VCPU) SetLoaded(value uint64) {
	exit := (*mmioExit)(unsafe.Pointer(&c.run.exit))
	binary.LittleEndian.PutUint64(exit.data[:], value)
}

// Stop makes Run, also a later one, return Interrupted soon.
//
// It sets immediate_exit, for a vCPU that is about to enter the guest, and sends a signal, for a
// vCPU in the guest. The signal is Go's preemption signal. The runtime handles it from any sender.
func (c *VCPU) Stop() {
	if c.run == nil {
		return
	}
	atomic.StoreUint32(&c.run.request, immediateExit)
	if thread := c.thread.Load(); thread != 0 {
		// An error means that the thread has ended.
		_ = unix.Tgkill(os.Getpid(), int(thread), unix.SIGURG)
	}
}
