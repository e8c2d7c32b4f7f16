//go:build linux && (amd64 || arm64)

package vfio

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

type linux struct{}

func (linux) ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR: // the runtime interrupts threads to preempt goroutines
		default:
			return 0, errno
		}
	}
}

func (linux) pread(fd int, p []byte, off int64) (int, error)  { return unix.Pread(fd, p, off) }
func (linux) pwrite(fd int, p []byte, off int64) (int, error) { return unix.Pwrite(fd, p, off) }

func (linux) mmap(fd int, off int64, size int) ([]byte, error) {
	return unix.Mmap(fd, off, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func (linux) munmap(mem []byte) error { return unix.Munmap(mem) }
