//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"golang.org/x/sys/unix"
)

// Device is a device that VFIO passes through, bound to a Host. It is the bridge.Endpoint that the host takes.
//
// Attached or not, its DMA reaches nothing but what the guest's configuration and memory give it: before Attach, and after
// the Stream's Close, it is blocked.
type Device struct {
	host   *Host
	name   string
	fd     int
	id     id
	noATS  bool
	stream *stream // nil unless attached
	closed bool
}

// Add binds the VFIO device with this device node, such as /dev/vfio/devices/vfio0: see FindDevice. The first device decides
// what the host's Capabilities are. One that comes later must be behind the same physical SMMU, and the error matches
// ErrDiffers if it is not.
func (h *Host) Add(path string) (*Device, error) {
	fd, err := h.k.sys.open(path)
	if err != nil {
		return nil, fmt.Errorf("iommufd: add %s: %w", path, failed(opOpenDevice, err))
	}
	return h.add(path, fd)
}

// AddFD is Add for a VFIO device that somebody else has opened and not bound. The descriptor is the Device's from now on,
// and is closed if there is an error.
func (h *Host) AddFD(fd int) (*Device, error) { return h.add(fmt.Sprintf("descriptor %d", fd), fd) }

func (h *Host) add(name string, fd int) (*Device, error) {
	h.plugging.Lock()
	defer h.plugging.Unlock()
	d := &Device{host: h, name: name, fd: fd}
	if err := d.bind(); err != nil {
		return nil, fmt.Errorf("iommufd: add %s: %w", name, err)
	}
	return d, nil
}

// bind makes the device one of the host's, or closes its descriptor.
func (d *Device) bind() (err error) {
	h := d.host
	if err := d.alone(); err != nil {
		return errors.Join(err, h.k.sys.close(d.fd))
	}
	if d.id, err = h.k.bind(d.fd); err != nil {
		return errors.Join(err, h.k.sys.close(d.fd))
	}
	if err := d.join(); err != nil {
		return errors.Join(err, h.k.unbind(d.fd))
	}
	return nil
}

// alone refuses a device that cannot have tables of its own. The kernel attaches whole IOMMU groups, and would refuse, too,
// but only once the guest comes with its first table.
func (d *Device) alone() error {
	if d.host.closed {
		return bridge.ErrClosed
	}
	// Without sysfs it cannot be told.
	if group, err := d.host.k.sys.group(d.fd); err == nil && len(group) > 1 {
		return fmt.Errorf("%w: its IOMMU group is shared (%s): nested translation needs a device that is isolated by itself, such as by PCIe ACS",
			ErrUnsupported, strings.Join(group, ", "))
	}
	return nil
}

// join makes what all devices share, with the first of them, or sees that another can share it.
func (d *Device) join() error {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	hw, err := h.k.hardware(d.id)
	if err != nil {
		return err
	}
	d.noATS = hw.noATS
	if h.nest == nil {
		h.nest, err = newNest(&h.k, d.id, h.ioas, hw, h.ats)
	} else {
		err = d.fit(hw)
	}
	if err == nil {
		h.devices = append(h.devices, d)
	}
	return err
}

// fit fails for a device that cannot share what those before it do.
func (d *Device) fit(hw hardware) error {
	h := d.host
	ids, err := hw.idRegs(h.ats)
	if err != nil {
		return err
	}
	if ids != h.nest.ids || hw.stalls() != h.nest.stalls || hw.repeats() != h.nest.repeats {
		return fmt.Errorf("%w: its SMMU has IDR0 to IDR5 %08x, and that of the others %08x", ErrDiffers, hw.regs.IDR, h.nest.regs)
	}
	// Two SMMUs may well have the same registers. The kernel makes no table for a device behind another than the vIOMMU's.
	probe, err := h.k.allocNested(d.id, h.nest.viommu, steAbort)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: it is behind another physical SMMU: %w", ErrDiffers, err)
	}
	h.discard(probe)
	return err
}

// FD is the device's descriptor, for the requests of VFIO that have nothing to do with DMA: regions, interrupts, reset. It is
// valid until Close.
func (d *Device) FD() int { return d.fd }

// Close gives the device back to VFIO. It must not be attached. The embedder's mappings of its regions have to be gone, for
// they keep it open.
//
// Whoever removes the device from the host, or binds it to another driver, waits until it is closed. VFIO tells of that by the
// interrupt VFIO_PCI_REQ_IRQ_INDEX: a VMM that listens to it detaches the stream and closes the device.
func (d *Device) Close() error {
	d.host.plugging.Lock()
	defer d.host.plugging.Unlock()
	left, err := d.leave()
	if left {
		err = d.host.k.unbind(d.fd)
	}
	if err != nil {
		return fmt.Errorf("iommufd: close %s: %w", d.name, err)
	}
	return nil
}

// leave takes the device out of the host, unless it has left already.
func (d *Device) leave() (left bool, err error) {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case d.closed:
		return false, nil
	case d.stream != nil:
		return false, fmt.Errorf("the device is %w, as stream %v", bridge.ErrInUse, d.stream.sid)
	}
	d.closed = true
	h.devices = slices.DeleteFunc(h.devices, func(other *Device) bool { return other == d })
	return true, nil
}
