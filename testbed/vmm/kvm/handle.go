//go:build linux && (amd64 || arm64)

package kvm

import (
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is one of KVM's file descriptors, which the kernel closes on exec by itself. Calls on a closed one fail instead of
// reaching whatever took its number.
type handle struct {
	mu  sync.RWMutex
	fd  int
	sys ioctl
}

// ioctl makes a request whose argument is a structure. Tests have one that fails.
type ioctl func(fd int, request uintptr, arg unsafe.Pointer) (int, unix.Errno)

func linuxIoctl(fd int, request uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return int(n), errno
}

func newHandle(fd int) *handle { return &handle{fd: fd, sys: linuxIoctl} }

// call makes a request whose argument is a number. The name is for the error.
func (h *handle) call(name string, request, arg uintptr) (int, error) {
	for {
		n, err := h.callOnce(unix.Syscall, request, arg)
		// The runtime interrupts threads to preempt goroutines, and KVM gives up slow calls then.
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("kvm: %s: %w", name, err)
		}
		return n, nil
	}
}

// callPtr makes a request whose argument is a structure.
func (h *handle) callPtr(name string, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		h.mu.RLock()
		if h.fd < 0 {
			h.mu.RUnlock()
			return 0, fmt.Errorf("kvm: %s: %w", name, os.ErrClosed)
		}
		n, errno := h.sys(h.fd, request, arg)
		h.mu.RUnlock()
		switch errno {
		case 0:
			return n, nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("kvm: %s: %w", name, errno)
		}
	}
}

// syscall makes a system call: unix.Syscall or unix.RawSyscall.
type syscall func(trap, a1, a2, a3 uintptr) (r1, r2 uintptr, err unix.Errno)

// callOnce is call without patience for interruption and without a wrapped error: KVM_RUN is interrupted on purpose.
func (h *handle) callOnce(do syscall, request, arg uintptr) (int, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.fd < 0 {
		return 0, os.ErrClosed
	}
	n, _, errno := do(unix.SYS_IOCTL, uintptr(h.fd), request, arg)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// close waits for the calls under way. A second close does nothing.
func (h *handle) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fd < 0 {
		return nil
	}
	err := unix.Close(h.fd)
	h.fd = -1
	return err
}
