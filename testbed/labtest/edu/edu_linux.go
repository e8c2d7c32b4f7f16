package edu

import (
	"errors"
	"fmt"
	"structs"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// regionInfo is struct vfio_region_info.
type regionInfo struct {
	_      structs.HostLayout
	argSz  uint32
	flags  uint32
	index  uint32
	_      uint32
	size   uint64
	offset uint64
}

const (
	getRegionInfo = 0x3b6c // VFIO_DEVICE_GET_REGION_INFO
	resetDevice   = 0x3b6f // VFIO_DEVICE_RESET
	regionBAR0    = 0
	regionConfig  = 7

	pciCommand       = 4
	commandMemMaster = 1<<1 | 1<<2
)

// mapped is a device through VFIO. It has a descriptor of its own.
type mapped struct {
	fd  int
	bar []byte
}

// Open returns the device of a VFIO device descriptor that is bound to an iommufd.
func Open(vfio int) (*Device, error) {
	fd, err := unix.FcntlInt(uintptr(vfio), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("edu: duplicate descriptor: %w", err)
	}
	m := &mapped{fd: fd}
	if err := m.start(); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return newDevice(m, m.close), nil
}

// start enables memory accesses and DMA, and maps the registers.
func (m *mapped) start() error {
	config, err := m.region(regionConfig)
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(m.fd, []byte{commandMemMaster, 0}, int64(config.offset)+pciCommand); err != nil {
		return fmt.Errorf("edu: write the PCI command register: %w", err)
	}
	bar, err := m.region(regionBAR0)
	if err != nil {
		return err
	}
	m.bar, err = unix.Mmap(m.fd, int64(bar.offset), int(bar.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("edu: map BAR 0: %w", err)
	}
	return nil
}

func (m *mapped) region(index uint32) (*regionInfo, error) {
	r := &regionInfo{index: index}
	r.argSz = uint32(unsafe.Sizeof(*r))
	if _, _, errno := unix.Syscall(
		unix.SYS_IOCTL,
		uintptr(m.fd),
		getRegionInfo,
		uintptr(unsafe.Pointer(r)),
	); errno != 0 {
		return nil, fmt.Errorf("edu: VFIO_DEVICE_GET_REGION_INFO %d: %w", index, errno)
	}
	return r, nil
}

// close unmaps the registers and closes the descriptor.
func (m *mapped) close() error {
	var err error
	if m.bar != nil {
		err = unix.Munmap(m.bar)
	}
	return errors.Join(err, unix.Close(m.fd))
}

func (m *mapped) register(off uint64) *uint64 { return (*uint64)(unsafe.Pointer(&m.bar[off])) }

func (m *mapped) load(off uint64) uint64 { return atomic.LoadUint64(m.register(off)) }

func (m *mapped) store(off, v uint64) { atomic.StoreUint64(m.register(off), v) }

// Reset makes the kernel reset the device whose VFIO device descriptor this is.
func Reset(vfio int) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(vfio), resetDevice, 0); errno != 0 {
		return fmt.Errorf("edu: VFIO_DEVICE_RESET: %w", errno)
	}
	return nil
}
