//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"golang.org/x/sys/unix"
)

// Device is a VFIO device that is bound to a Host. It is the bridge.Endpoint that the host accepts.
//
// Its DMA only reaches memory that the guest's configuration permits. Before Attach and after the
// Stream's Close, its DMA is blocked.
type Device struct {
	host   *Host
	name   string
	fd     int
	id     id
	noATS  bool
	stream *stream // nil unless attached
	closed bool

	// vdevice is the vDEVICE, with the StreamID virtID. It outlives its stream if the kernel
	// refuses to destroy it. The kernel allows one vDEVICE for each device.
	vdevice id
	virtID  smmuv3.StreamID
}

// Add binds the VFIO device with the given device node, such as /dev/vfio/devices/vfio0; FindDevice
// returns the node of a PCI device. The first device determines the host's Capabilities. A later
// device must be behind the same physical SMMU; otherwise the error matches ErrDiffers.
func (h *Host) Add(path string) (*Device, error) {
	if err := h.made(); err != nil {
		return nil, fmt.Errorf("iommufd: add %s: %w", path, err)
	}
	fd, err := h.k.sys.open(path)
	if err != nil {
		return nil, fmt.Errorf("iommufd: add %s: %w", path, failed(opOpenDevice, err))
	}
	return h.add(path, fd)
}

// AddFD binds a VFIO device that is already open and not bound, as Add does. The Device owns the
// descriptor. AddFD closes it if it fails.
func (h *Host) AddFD(fd int) (*Device, error) {
	if err := h.made(); err != nil {
		return nil, fmt.Errorf("iommufd: add descriptor %d: %w", fd, err)
	}
	if fd < 0 {
		return nil, fmt.Errorf("iommufd: add descriptor %d: a descriptor is not negative", fd)
	}
	return h.add(fmt.Sprintf("descriptor %d", fd), fd)
}

func (h *Host) add(name string, fd int) (*Device, error) {
	h.plugging.Lock()
	defer h.plugging.Unlock()
	d := &Device{host: h, name: name, fd: fd}
	if err := d.bind(); err != nil {
		return nil, fmt.Errorf("iommufd: add %s: %w", name, err)
	}
	return d, nil
}

// bind adds the device to the host. It closes the descriptor if it fails.
func (d *Device) bind() (err error) {
	h := d.host
	if err := d.checkGroup(); err != nil {
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

// checkGroup refuses a device that shares its IOMMU group. The kernel attaches whole groups.
// Without this check, it would refuse the device only when the guest configures its first table.
func (d *Device) checkGroup() error {
	if d.host.closed {
		return errHostClosed
	}
	// Without sysfs the group is unknown.
	if group, err := d.host.k.sys.group(d.fd); err == nil && len(group) > 1 {
		return fmt.Errorf("%w: it shares its IOMMU group (%s); nested translation needs a device "+
			"in a group of its own (PCIe ACS isolates devices)",
			ErrUnsupported, strings.Join(group, ", "))
	}
	return nil
}

// join creates the objects that all devices share, or checks that the device can share them.
func (d *Device) join() error {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.destroyLeftovers(); err != nil {
		return err
	}
	hw, err := h.k.hardware(d.id)
	if err != nil {
		return err
	}
	d.noATS = hw.noATS
	if h.nest == nil {
		err = h.newNest(d.id, hw)
	} else {
		err = d.fit(hw)
	}
	if err == nil {
		h.devices = append(h.devices, d)
	}
	return err
}

// fit fails if the device cannot share the objects of earlier devices.
func (d *Device) fit(hw hardware) error {
	h := d.host
	ids, err := hw.idRegs(h.ats)
	if err != nil {
		return err
	}
	if ids != h.nest.ids || hw.stalls() != h.nest.stalls || hw.repeats() != h.nest.repeats {
		return fmt.Errorf("%w: its SMMU has IDR0 to IDR5 %08x, that of earlier devices %08x",
			ErrDiffers, hw.regs.IDR, h.nest.regs)
	}
	// Two SMMUs can have the same registers. The kernel refuses a table for a device that is not
	// behind the vIOMMU's SMMU.
	probe, err := h.k.allocNested(d.id, h.nest.viommu, steAbort)
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: it is behind another physical SMMU: %w", ErrDiffers, err)
	}
	h.discard(probe)
	return err
}

// newVDevice creates the device's vDEVICE with the StreamID. It reuses a vDEVICE that an earlier
// attempt could not destroy, or destroys it if it conflicts.
func (h *Host) newVDevice(d *Device, sid smmuv3.StreamID) (err error) {
	if d.vdevice != 0 && d.virtID == sid {
		return nil
	}
	for _, other := range h.devices {
		if other == d || other.virtID == sid && other.stream == nil {
			if err := h.k.destroy(&other.vdevice); err != nil {
				return fmt.Errorf("vDEVICE of an earlier stream: %w", err)
			}
		}
	}
	d.vdevice, err = h.k.allocVDevice(d.id, h.nest.viommu, sid)
	d.virtID = sid
	return err
}

// FD returns the device's descriptor, for the VFIO requests that do not concern DMA: regions,
// interrupts, reset. It is valid until Close.
func (d *Device) FD() int { return d.fd }

// Close unbinds the device. It fails if the device is attached. The caller unmaps the device's
// regions first, since a mapping keeps the device open.
//
// The kernel waits for Close if someone removes the device or binds it to another driver. VFIO
// reports that by the interrupt VFIO_PCI_REQ_IRQ_INDEX: the VMM then detaches the stream and closes
// the device.
func (d *Device) Close() error {
	if d == nil || d.host == nil {
		return errors.New("iommufd: close: device was not made by Host.Add")
	}
	d.host.plugging.Lock()
	defer d.host.plugging.Unlock()
	err := d.leave()
	if err == nil {
		err = d.host.k.unbind(d.fd)
	}
	if err != nil {
		return fmt.Errorf("iommufd: close %s: %w", d.name, err)
	}
	return nil
}

// leave removes the device from the host.
func (d *Device) leave() error {
	h := d.host
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case d.closed:
		return bridge.ErrClosed
	case d.stream != nil:
		return fmt.Errorf("device %w as stream %v", bridge.ErrInUse, d.stream.sid)
	}
	if err := h.k.destroy(&d.vdevice); err != nil {
		return err
	}
	d.closed = true
	h.devices = slices.DeleteFunc(h.devices, func(other *Device) bool { return other == d })
	return nil
}
