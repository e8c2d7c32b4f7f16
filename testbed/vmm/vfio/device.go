//go:build linux && (amd64 || arm64)

package vfio

import (
	"errors"
	"fmt"
	"io"
	"unsafe"
)

// ErrNotPCI is matched by Open's error for a descriptor of something else than a PCI device that VFIO passes through.
var ErrNotPCI = errors.New("vfio: not a PCI device")

// Device is a PCI device. Its methods may be called from any goroutine, as long as the descriptor is open.
type Device struct {
	fd      int
	sys     system
	regions [NumRegions]regionInfo
	irqs    [numIRQs]uint32 // how many of each kind
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
	Removal IRQ = 4 // the host's, not the device's

	numIRQs = 5
)

func (i IRQ) String() string { return [...]string{"INTx", "MSI", "MSI-X", "error", "removal"}[i] }

// system is what a Device asks of the machine. Tests have one that fails.
type system interface {
	ioctl(fd int, request uintptr, arg unsafe.Pointer) (int, error)
	pread(fd int, p []byte, off int64) (int, error)
	pwrite(fd int, p []byte, off int64) (int, error)
	mmap(fd int, off int64, size int) ([]byte, error)
	munmap(mem []byte) error
}

// Open takes the descriptor of a device that is bound to an IOMMU, which stays the caller's to close.
func Open(fd int) (*Device, error) { return open(fd, linux{}) }

func open(fd int, sys system) (*Device, error) {
	d := &Device{fd: fd, sys: sys}
	info := deviceInfo{argsz: uint32(unsafe.Sizeof(deviceInfo{}))}
	if err := d.call("VFIO_DEVICE_GET_INFO", getInfo, unsafe.Pointer(&info)); err != nil {
		return nil, err
	}
	if info.flags&devicePCI == 0 || info.numRegions < NumRegions || info.numIRQs < numIRQs {
		return nil, fmt.Errorf("%w: flags %#x, %d regions, %d kinds of interrupts", ErrNotPCI, info.flags, info.numRegions, info.numIRQs)
	}
	d.canFLR = info.flags&deviceReset != 0
	for i := range d.regions {
		r := &d.regions[i]
		*r = regionInfo{argsz: uint32(unsafe.Sizeof(*r)), index: uint32(i)}
		if err := d.call("VFIO_DEVICE_GET_REGION_INFO", getRegionInfo, unsafe.Pointer(r)); err != nil {
			return nil, fmt.Errorf("%w of region %d", err, i)
		}
	}
	for _, i := range []IRQ{INTx, MSIX} {
		irq := irqInfo{argsz: uint32(unsafe.Sizeof(irqInfo{})), index: uint32(i)}
		if err := d.call("VFIO_DEVICE_GET_IRQ_INFO", getIRQInfo, unsafe.Pointer(&irq)); err != nil {
			return nil, fmt.Errorf("%w of %v", err, i)
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
		// Of these requests only VFIO_DEVICE_SET_IRQS has such an answer: it has done nothing, for want of vectors.
		return fmt.Errorf("vfio: %s: the host has no more than %d to give: %w", name, n, errors.ErrUnsupported)
	}
	return nil
}

// RegionSize is the size of a region in bytes, 0 if the device has no such.
func (d *Device) RegionSize(region int) uint64 { return d.regions[region].size }

// ReadRegion reads all of p from the device.
func (d *Device) ReadRegion(region int, p []byte, off uint64) error {
	return d.move("read", d.sys.pread, regionRead, region, p, off)
}

// WriteRegion writes all of p to the device.
func (d *Device) WriteRegion(region int, p []byte, off uint64) error {
	return d.move("write", d.sys.pwrite, regionWrite, region, p, off)
}

func (d *Device) move(name string, access func(int, []byte, int64) (int, error), need uint32, region int, p []byte, off uint64) error {
	r := &d.regions[region]
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

// CanMap says whether the region can be mapped at all.
func (d *Device) CanMap(region int) bool { return d.regions[region].flags&regionMmap != 0 }

// Map maps a part of a region, whose offset and size are multiples of the page size. It is given back by Unmap, and keeps the
// device open until then.
//
// An access to it while the device does not decode memory raises SIGBUS.
func (d *Device) Map(region int, off, size uint64) ([]byte, error) {
	r := &d.regions[region]
	if !d.CanMap(region) || off > r.size || size > r.size-off {
		return nil, fmt.Errorf("vfio: map %#x bytes at %#x of region %d: %w", size, off, region, errors.ErrUnsupported)
	}
	mem, err := d.sys.mmap(d.fd, int64(r.offset+off), int(size))
	if err != nil {
		return nil, fmt.Errorf("vfio: map %#x bytes at %#x of region %d: %w", size, off, region, err)
	}
	return mem, nil
}

// Unmap gives back what Map has mapped.
func (d *Device) Unmap(mem []byte) error { return d.sys.munmap(mem) }

// IRQs is how many interrupts of a kind the device has, 0 if none.
func (d *Device) IRQs(kind IRQ) int { return int(d.irqs[kind]) }

// EnableMSIX has vector i signal the eventfd fds[i], for all of them or, after an error, none; -1 for a vector that signals none.
func (d *Device) EnableMSIX(fds []int32) error {
	return d.set(MSIX, irqDataEventfd|irqActionTrigger, fds)
}

// EnableINTx has INTx signal the eventfd trigger, upon which the line is masked, until unmask is signalled.
func (d *Device) EnableINTx(trigger, unmask int32) error {
	if err := d.set(INTx, irqDataEventfd|irqActionTrigger, []int32{trigger}); err != nil {
		return err
	}
	if err := d.set(INTx, irqDataEventfd|irqActionUnmask, []int32{unmask}); err != nil {
		return errors.Join(err, d.Disable(INTx))
	}
	return nil
}

// EnableRemoval has an eventfd signalled when somebody on the host wants the device back, who waits until it is closed.
func (d *Device) EnableRemoval(trigger int32) error {
	return d.set(Removal, irqDataEventfd|irqActionTrigger, []int32{trigger})
}

// Disable undoes EnableMSIX, EnableINTx and EnableRemoval.
func (d *Device) Disable(kind IRQ) error { return d.set(kind, irqDataNone|irqActionTrigger, nil) }

// maxVectors is the most that MSI-X has (PCI Express 6.0 §7.7.2.2).
const maxVectors = 2048

func (d *Device) set(kind IRQ, flags uint32, fds []int32) error {
	var arg struct {
		irqSet
		fds [maxVectors]int32
	}
	if len(fds) > maxVectors {
		return fmt.Errorf("vfio: %d vectors of %v: %w", len(fds), kind, errors.ErrUnsupported)
	}
	arg.irqSet = irqSet{
		argsz: uint32(unsafe.Offsetof(arg.fds)) + 4*uint32(copy(arg.fds[:], fds)),
		flags: flags, index: uint32(kind), count: uint32(len(fds)),
	}
	if err := d.call("VFIO_DEVICE_SET_IRQS", setIRQs, unsafe.Pointer(&arg)); err != nil {
		return fmt.Errorf("%w of %v", err, kind)
	}
	return nil
}

// CanReset says whether the host can reset the device by itself.
func (d *Device) CanReset() bool { return d.canFLR }

// Reset puts the device into its reset state, in which it makes no DMA. Interrupts are to be disabled before.
func (d *Device) Reset() error { return d.call("VFIO_DEVICE_RESET", reset, nil) }
