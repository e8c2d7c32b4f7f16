//go:build linux && (amd64 || arm64)

// Package passthrough shows a guest a PCI device of the host's that VFIO passes through.
//
// The guest reaches the device's memory directly, except for the pages of the MSI-X table, and its configuration space by way
// of the VMM, as far as the device is the guest's to configure. Interrupts go from the device to the guest without the VMM.
package passthrough

import (
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

// Physical is the host's device, which *vfio.Device is.
type Physical interface {
	RegionSize(region int) uint64
	ReadRegion(region int, p []byte, off uint64) error
	WriteRegion(region int, p []byte, off uint64) error
	CanMap(region int) bool
	Map(region int, off, size uint64) ([]byte, error)
	Unmap(mem []byte) error
	IRQs(kind vfio.IRQ) int
	EnableMSIX(fds []int32) error
	EnableINTx(trigger, unmask int32) error
	Disable(kind vfio.IRQ) error
	CanReset() bool
	Reset() error
}

// Machine is the virtual machine. What its methods have made is undone by the functions that they return.
type Machine interface {
	// MapMemory has the guest reach mem at gpa.
	MapMemory(gpa uint64, mem []byte) (undo func() error, err error)
	// ConnectMSI has each signal of an eventfd be the MSI with that data, of the device with that DeviceID.
	ConnectMSI(eventfd int, deviceID, data uint32) (undo func() error, err error)
	// ConnectINTx has a signal of trigger raise the device's line, until the guest has handled it and unmask is signalled.
	ConnectINTx(trigger, unmask int) (undo func() error, err error)
}

// Config is what a Device is made of.
type Config struct {
	Physical Physical
	Machine  Machine
	// BehindPort is for a device that will be behind a root port.
	BehindPort bool
	// Stream is told the device's requester ID, by which an SMMU knows its DMA, whenever that changes; with ok false, that it
	// has none. The device's DMA is to reach nothing before, then, and after an error. It must not call back into the device.
	Stream func(id pci.RequesterID, ok bool) error
	// Log takes what no caller can be told.
	Log *slog.Logger
}

// Device is a pci.Function.
type Device struct {
	phys    Physical
	machine Machine
	stream  func(pci.RequesterID, bool) error
	log     *slog.Logger
	logged  int

	slot      *pci.Slot
	requester pci.RequesterID
	space     space
	bars      pci.BARs
	memory    [pci.NumBARs]memory
	intr      interrupts
}

// ErrDevice is matched by New's error for a device that cannot be passed through.
var ErrDevice = errors.New("passthrough: unfit device")

// New resets the device and makes it one of the guest's. The caller must Close it, after the machine has stopped and before the
// device's descriptor is closed.
func New(cfg Config) (*Device, error) {
	switch {
	case isNil(cfg.Physical):
		return nil, errors.New("passthrough: new device: no Physical")
	case isNil(cfg.Machine):
		return nil, errors.New("passthrough: new device: no Machine")
	case cfg.Stream == nil:
		return nil, errors.New("passthrough: new device: no Stream")
	}
	d := &Device{phys: cfg.Physical, machine: cfg.Machine, stream: cfg.Stream, log: cfg.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if !d.phys.CanReset() {
		return nil, fmt.Errorf("%w: the host has no way to reset it, and it would go on with what it was doing", ErrDevice)
	}
	if err := d.phys.Reset(); err != nil {
		return nil, err
	}
	if err := d.examine(cfg.BehindPort); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// examine finds out what the device has.
func (d *Device) examine(behindPort bool) error {
	var config [256]byte
	if err := d.phys.ReadRegion(vfio.ConfigSpace, config[:], 0); err != nil {
		return err
	}
	if kind := config[pci.RegHeaderType] & 0x7f; kind != 0 {
		return fmt.Errorf("%w: header of type %d", ErrDevice, kind)
	}
	d.space.build(&config)
	if behindPort {
		d.space.putBehindPort(&config)
	}
	for i := 0; i < pci.NumBARs; i++ {
		flags := uint32(config[pci.RegBAR0+4*i])
		size := d.phys.RegionSize(i)
		if size == 0 || flags&pci.BARIO != 0 {
			continue // Arm guests have no use for ports
		}
		if !d.bars.Define(i, size, flags) {
			return fmt.Errorf("%w: BAR %d of %#x bytes, flags %#x", ErrDevice, i, size, flags)
		}
		if d.bars.Wide(i) {
			i++
		}
	}
	if err := d.examineInterrupts(&config); err != nil {
		return err
	}
	return d.mapBARs()
}

// isNil reports whether v is nil or holds a nil pointer.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return !r.IsValid() || r.Kind() == reflect.Pointer && r.IsNil()
}

// Connect gives the device its place, before the host bridge uses it.
func (d *Device) Connect(slot *pci.Slot) { d.slot = slot }

// SetRequester is a pci.Function's.
func (d *Device) SetRequester(id pci.RequesterID, ok bool) {
	if err := d.stream(id, ok); err != nil {
		d.complain("the device's DMA is blocked", err)
	}
	if ok && id != d.requester {
		// The ITS tells devices apart by the same number.
		d.disconnectVectors()
		d.requester = id
		d.connectVectors()
	}
}

// Reset is a pci.Function's. The device is connected to the machine's interrupts again when the guest first configures it: by
// then a machine that is being reset has new ones.
func (d *Device) Reset() {
	d.withdraw()
	d.space.reset()
	d.bars.Reset()
	d.intr.msix.reset()
	d.setMode(modeNone)
	// It may not master the bus even if it will not be reset.
	if err := d.phys.WriteRegion(vfio.ConfigSpace, []byte{0, 0}, pci.RegCommand); err != nil {
		d.complain("the device cannot be reached", err)
	}
	if err := d.phys.Reset(); err != nil {
		d.complain("the device cannot be reset", err)
	}
}

// Close takes the device from the guest. The host bridge must be done with it: removed or at rest.
func (d *Device) Close() error {
	d.withdraw()
	return errors.Join(d.setMode(modeNone), d.unmapBARs())
}

// maxLogged bounds what a guest can have logged.
const maxLogged = 32

func (d *Device) complain(what string, err error) {
	if d.logged++; d.logged <= maxLogged {
		d.log.Error("passthrough: "+what, "requester", d.requester.String(), "error", err)
	}
}
