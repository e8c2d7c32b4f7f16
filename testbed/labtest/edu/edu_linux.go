// Package edu drives the DMA engine of QEMU's edu device through VFIO. QEMU's docs/specs/edu.rst
// describes the device.
package edu

import (
	"errors"
	"fmt"
	"structs"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// 64-bit registers in BAR 0.
const (
	dmaSource = 0x80
	dmaDest   = 0x88
	dmaCount  = 0x90
	dmaCmd    = 0x98

	cmdStart    = 1 << 0
	cmdToMemory = 1 << 1
)

// The device's buffer, which only its DMA engine reaches.
const (
	buffer     = 0x40000
	BufferSize = 4096
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
	regionBAR0    = 0
	regionConfig  = 7

	pciCommand       = 4
	commandMemMaster = 1<<1 | 1<<2
)

// Device is an edu device. It has a descriptor of its own.
type Device struct {
	fd  int
	bar []byte
	mu  sync.Mutex // held during a DMA: the engine does one at a time
}

// Open returns the device of a VFIO device descriptor that is bound to an iommufd.
func Open(vfio int) (*Device, error) {
	fd, err := unix.FcntlInt(uintptr(vfio), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("edu: duplicate descriptor: %w", err)
	}
	d := &Device{fd: fd}
	if err := d.start(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// start enables memory accesses and DMA, and maps the registers.
func (d *Device) start() error {
	config, err := d.region(regionConfig)
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(d.fd, []byte{commandMemMaster, 0}, int64(config.offset)+pciCommand); err != nil {
		return fmt.Errorf("edu: write the PCI command register: %w", err)
	}
	bar, err := d.region(regionBAR0)
	if err != nil {
		return err
	}
	d.bar, err = unix.Mmap(d.fd, int64(bar.offset), int(bar.size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("edu: map BAR 0: %w", err)
	}
	return nil
}

func (d *Device) region(index uint32) (*regionInfo, error) {
	r := &regionInfo{index: index}
	r.argSz = uint32(unsafe.Sizeof(*r))
	if _, _, errno := unix.Syscall(
		unix.SYS_IOCTL,
		uintptr(d.fd),
		getRegionInfo,
		uintptr(unsafe.Pointer(r)),
	); errno != 0 {
		return nil, fmt.Errorf("edu: VFIO_DEVICE_GET_REGION_INFO %d: %w", index, errno)
	}
	return r, nil
}

// Close unmaps the registers and closes the descriptor.
func (d *Device) Close() error {
	var err error
	if d.bar != nil {
		err = unix.Munmap(d.bar)
	}
	return errors.Join(err, unix.Close(d.fd))
}

func (d *Device) register(off int) *uint64 { return (*uint64)(unsafe.Pointer(&d.bar[off])) }

const (
	// usual is the time that a DMA takes.
	usual = 100 * time.Millisecond
	// timeout ends a DMA that hangs.
	timeout = 10 * time.Second
)

// Load makes the device read n bytes at iova into its buffer.
func (d *Device) Load(iova uint64, at, n int) error {
	return d.move(iova, uint64(buffer+at), n, cmdStart)
}

// Store makes the device write n bytes of its buffer to iova.
func (d *Device) Store(iova uint64, at, n int) error {
	return d.move(uint64(buffer+at), iova, n, cmdStart|cmdToMemory)
}

// move makes a DMA and waits for its end. An aborted access is no error: the device does not report
// it.
func (d *Device) move(from, to uint64, n int, cmd uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	atomic.StoreUint64(d.register(dmaSource), from)
	atomic.StoreUint64(d.register(dmaDest), to)
	atomic.StoreUint64(d.register(dmaCount), uint64(n))
	atomic.StoreUint64(d.register(dmaCmd), cmd)
	time.Sleep(usual)
	end := time.Now().Add(timeout)
	for ; atomic.LoadUint64(d.register(dmaCmd))&cmdStart != 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("edu: DMA of %d bytes to %#x: not done after %v", n, to, timeout)
		}
	}
	return nil
}
