//go:build linux && (amd64 || arm64)

package kvm

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// handle is a file descriptor of KVM, which the kernel closes on exec. Calls on a closed handle
// fail: its number may belong to another file.
type handle struct {
	mu  sync.RWMutex
	fd  int
	sys ioctl
}

// ioctl makes a request whose argument is a structure. Tests replace it.
type ioctl func(fd int, request uintptr, arg unsafe.Pointer) (int, unix.Errno)

func linuxIoctl(fd int, request uintptr, arg unsafe.Pointer) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
	return int(n), errno
}

func newHandle(fd int) *handle { return &handle{fd: fd, sys: linuxIoctl} }

// call makes a request whose argument is a number. name is for the error.
func (h *handle) call(name string, request, arg uintptr) (int, error) {
	for {
		n, err := h.callOnce(unix.Syscall, request, arg)
		// The runtime interrupts threads to preempt goroutines, and KVM then aborts slow calls.
		if errors.Is(err, unix.EINTR) {
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

// callOnce makes a request like call, but returns EINTR, and does not wrap errors: Stop interrupts
// KVM_RUN.
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

// close waits for calls in flight and closes the descriptor. A later close has no effect.
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
