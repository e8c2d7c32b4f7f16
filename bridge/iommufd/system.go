//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// system is what a Host asks of the machine. Tests have one that fails.
type system interface {
	open(path string) (fd int, err error)
	close(fd int) error
	ioctl(fd int, request uintptr, arg unsafe.Pointer) error
	// queue takes over the descriptor of a vEVENTQ.
	queue(fd int) (queue, error)
	// group names the devices in the IOMMU group of a VFIO device, itself included.
	group(fd int) ([]string, error)
}

type linux struct{}

func (linux) open(path string) (fd int, err error) {
	for {
		fd, err = unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

func (linux) close(fd int) error { return unix.Close(fd) }

func (linux) ioctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR: // the runtime interrupts threads to preempt goroutines
		default:
			return errno
		}
	}
}

func (linux) queue(fd int) (queue, error) {
	// In non-blocking mode the runtime's poller waits, and Close ends a wait.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "vEVENTQ")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &queueFile{f, raw}, nil
}

type queueFile struct {
	*os.File
	raw syscall.RawConn
}

// Wait is queue's. A Read by another goroutine may have emptied the queue since the poller was told of it, so what counts is what
// the descriptor says now.
func (q *queueFile) Wait() error {
	return q.raw.Read(func(fd uintptr) (ready bool) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR && err != unix.EAGAIN
	})
}

// Read is queue's, where os.File's would wait, and take an empty queue for the end of a file.
func (q *queueFile) Read(p []byte) (n int, err error) {
	closed := q.raw.Control(func(fd uintptr) {
		for {
			if n, err = unix.Read(int(fd), p); err != unix.EINTR {
				return
			}
		}
	})
	if closed != nil {
		return 0, closed
	}
	if err == unix.EAGAIN {
		return 0, nil
	}
	return max(n, 0), err
}

func (linux) group(fd int) ([]string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	dev := fmt.Sprintf("/sys/dev/char/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	entries, err := os.ReadDir(filepath.Join(dev, "device/iommu_group/devices"))
	if err != nil {
		return nil, err
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}
