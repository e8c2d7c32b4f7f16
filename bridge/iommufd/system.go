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

// system has the system calls of a Host. Tests replace it.
type system interface {
	open(path string) (fd int, err error)
	close(fd int) error
	ioctl(fd int, request uintptr, arg unsafe.Pointer) error
	// queue returns the vEVENTQ with this descriptor and owns the descriptor.
	queue(fd int) (queue, error)
	// group returns the names of the devices in the IOMMU group of a VFIO device.
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
		case unix.EINTR: // the Go runtime sends signals to preempt goroutines
		default:
			return errno
		}
	}
}

func (linux) queue(fd int) (queue, error) {
	// The runtime's poller needs a non-blocking descriptor. With it, Close ends a Wait.
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

// Wait implements queue. It polls the descriptor itself, since another goroutine may have emptied
// the queue after the runtime's poller was notified.
func (q *queueFile) Wait() error {
	return q.raw.Read(func(fd uintptr) (ready bool) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && err != unix.EINTR && err != unix.EAGAIN
	})
}

// Read implements queue. os.File.Read would wait, and would treat an empty queue as the end of the
// file.
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
