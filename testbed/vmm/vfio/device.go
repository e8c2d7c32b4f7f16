//go:build linux && (amd64 || arm64)

package vfio

import (
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// ErrNotPCI means that the descriptor is not that of a PCI device. Open's error matches it.
var ErrNotPCI = errors.New("vfio: open: not a PCI device")

// Device is a PCI device. Its methods may be called from any goroutine while the descriptor is
// open. A region or kind of interrupt that does not exist has no size, and accesses to it fail.
type Device struct {
	fd      int
	sys     system
	regions [NumRegions]regionInfo
	irqs    [numIRQs]uint32 // the number of interrupts of each kind
	canFLR  bool
}

// Regions of a PCI device.
const (
	BAR0        = 0
	NumBARs     = 6
	ConfigSpace = 7
	NumRegions  = 8
)

// IRQ is a kind of interrupt of a PCI device.
type IRQ uint32

// Kinds of interrupts. Only one of INTx and MSIX can be enabled at a time.
const (
	INTx    IRQ = 0
	MSIX    IRQ = 2
	Removal IRQ = 4 // of VFIO, not of the device

	numIRQs = 5
)

func (i IRQ) String() string {
	if names := [...]string{"INTx", "MSI", "MSI-X", "error", "removal"}; int64(i) < int64(len(names)) {
		return names[i]
	}
	return fmt.Sprintf("IRQ(%d)", uint32(i))
}

// system makes the system calls of a Device. Tests replace it.
type system interface {
	ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error)
	pread(fd int, p []byte, off int64) (int, error)
	pwrite(fd int, p []byte, off int64) (int, error)
	mmap(fd int, off int64, size int) ([]byte, error)
	munmap(mem []byte) error
}

// Open returns the device of a descriptor. The device is bound to an IOMMU. The caller closes the
// descriptor.
func Open(fd int) (*Device, error) { return open(fd, linux{}) }

func open(fd int, sys system) (*Device, error) {
	d := &Device{fd: fd, sys: sys}
	info := deviceInfo{argsz: uint32(unsafe.Sizeof(deviceInfo{}))}
	if err := d.call("VFIO_DEVICE_GET_INFO", getInfo, unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	if info.flags&devicePCI == 0 || info.numRegions < NumRegions || info.numIRQs < numIRQs {
		return nil, fmt.Errorf(
			"%w: flags %#x, %d regions, %d kinds of interrupts",
			ErrNotPCI,
			info.flags,
			info.numRegions,
			info.numIRQs,
		)
	}
	d.canFLR = info.flags&deviceReset != 0
	for i := range d.regions {
		r := &d.regions[i]
		*r = regionInfo{argsz: uint32(unsafe.Sizeof(*r)), index: uint32(i)}
		name := fmt.Sprintf("VFIO_DEVICE_GET_REGION_INFO of region %d", i)
		if err := d.call(name, getRegionInfo, unsafe.Pointer(r)); err != nil {
			return nil, err
		}
	}
	for _, i := range []IRQ{INTx, MSIX} {
		irq := irqInfo{argsz: uint32(unsafe.Sizeof(irqInfo{})), index: uint32(i)}
		if err := d.call("VFIO_DEVICE_GET_IRQ_INFO of "+i.String(), getIRQInfo, unsafe.Pointer(&irq)); err != nil {
			return nil, err
		}
		if irq.flags&irqEventfd != 0 {
			d.irqs[i] = irq.count
		}
	}
	return d, nil
}

func (d *Device) call(name string, request uintptr, arg unsafe.Pointer) error {
	n, err := d.sys.ioctl(d.fd, request, arg)
	if err != nil {
		return fmt.Errorf("vfio: %s: %w", name, err)
	}
	if n != 0 {
		// Only VFIO_DEVICE_SET_IRQS returns a number: that of the available vectors. It enabled
		// none.
		return fmt.Errorf("vfio: %s: the host has only %d vectors: %w", name, n, errors.ErrUnsupported)
	}
	return nil
}

// region returns a region, which is empty if there is none of that number.
func (d *Device) region(n int) regionInfo {
	if n < 0 || n >= NumRegions {
		return regionInfo{}
	}
	return d.regions[n]
}

// RegionSize returns the size of a region in bytes, or 0 if the device does not have it.
func (d *Device) RegionSize(region int) uint64 { return d.region(region).size }

// ReadRegion reads all of p from the device.
func (d *Device) ReadRegion(region int, p []byte, off uint64) error {
	return d.move("read", d.sys.pread, regionRead, region, p, off)
}

// WriteRegion writes all of p to the device.
func (d *Device) WriteRegion(region int, p []byte, off uint64) error {
	return d.move("write", d.sys.pwrite, regionWrite, region, p, off)
}

func (d *Device) move(
	name string,
	access func(int, []byte, int64) (int, error),
	need uint32,
	region int,
	p []byte,
	off uint64,
) error {
	r := d.region(region)
	fail := func(err error) error {
		return fmt.Errorf("vfio: %s of %d bytes at %#x of region %d: %w", name, len(p), off, region, err)
	}
	if r.flags&need == 0 || off > r.size || uint64(len(p)) > r.size-off {
		return fail(errors.ErrUnsupported)
	}
	n, err := access(d.fd, p, int64(r.offset+off))
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fail(err)
	}
	return nil
}

// CanMap reports whether a region can be mapped.
func (d *Device) CanMap(region int) bool { return d.region(region).flags&regionMmap != 0 }

// Map maps a part of a region. Offset and size are multiples of the page size. The mapping keeps
// the device open until Unmap.
//
// An access to the mapping while the device does not decode memory raises SIGBUS.
func (d *Device) Map(region int, off, size uint64) ([]byte, error) {
	r := d.region(region)
	if !d.CanMap(region) || off > r.size || size > r.size-off {
		return nil, fmt.Errorf("vfio: map %#x bytes at %#x of region %d: %w", size, off, region, errors.ErrUnsupported)
	}
	mem, err := d.sys.mmap(d.fd, int64(r.offset+off), int(size))
	if err != nil {
		return nil, fmt.Errorf("vfio: map %#x bytes at %#x of region %d: %w", size, off, region, err)
	}
	return mem, nil
}

// Unmap removes a mapping of Map.
func (d *Device) Unmap(mem []byte) error { return d.sys.munmap(mem) }

// IRQs returns the number of interrupts of a kind.
func (d *Device) IRQs(kind IRQ) int {
	if kind >= numIRQs {
		return 0
	}
	return int(d.irqs[kind])
}

// EnableMSIX makes vector i signal the eventfd fds[i], or none if that is -1. After an error, no
// vector is enabled.
func (d *Device) EnableMSIX(fds []int32) error {
	return d.set(MSIX, irqDataEventfd|irqActionTrigger, fds)
}

// EnableINTx makes INTx signal the eventfd trigger. VFIO then masks INTx until unmask is signalled.
func (d *Device) EnableINTx(trigger, unmask int32) error {
	if err := d.set(INTx, irqDataEventfd|irqActionTrigger, []int32{trigger}); err != nil {
		return err
	}
	if err := d.set(INTx, irqDataEventfd|irqActionUnmask, []int32{unmask}); err != nil {
		return errors.Join(err, d.Disable(INTx))
	}
	return nil
}

// EnableRemoval makes VFIO signal an eventfd when the host requests the device back. The host then
// waits until the device is closed.
func (d *Device) EnableRemoval(trigger int32) error {
	return d.set(Removal, irqDataEventfd|irqActionTrigger, []int32{trigger})
}

// Disable undoes EnableMSIX, EnableINTx and EnableRemoval.
func (d *Device) Disable(kind IRQ) error { return d.set(kind, irqDataNone|irqActionTrigger, nil) }

// maxVectors is the greatest number of MSI-X vectors (PCI Express 6.0 §7.7.2.2).
const maxVectors = 2048

func (d *Device) set(kind IRQ, flags uint32, fds []int32) error {
	var arg struct {
		irqSet
		fds [maxVectors]int32
	}
	if len(fds) > maxVectors {
		return fmt.Errorf("vfio: VFIO_DEVICE_SET_IRQS of %v: %d vectors: %w", kind, len(fds), errors.ErrUnsupported)
	}
	arg.irqSet = irqSet{
		argsz: uint32(unsafe.Offsetof(arg.fds)) + 4*uint32(copy(arg.fds[:], fds)),
		flags: flags, index: uint32(kind), count: uint32(len(fds)),
	}
	return d.call("VFIO_DEVICE_SET_IRQS of "+kind.String(), setIRQs, unsafe.Pointer(&arg))
}

// CanReset reports whether the host can reset the device alone, without its neighbours.
func (d *Device) CanReset() bool { return d.canFLR }

// Reset puts the device into its reset state, in which it makes no DMA. Disable interrupts first.
func (d *Device) Reset() error { return d.call("VFIO_DEVICE_RESET", reset, nil) }
