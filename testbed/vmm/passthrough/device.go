//go:build linux && (amd64 || arm64)

// Package passthrough passes a PCI device of the host through to a guest, with VFIO.
//
// The guest accesses the device's memory directly, except for the pages of the MSI-X table and the
// pending bits. The VMM emulates the configuration space, and forwards the registers that the guest
// may write. MSI-X interrupts go from the device to the guest without the VMM.
package passthrough

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

// Physical is a device of the host. *vfio.Device implements it.
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

// Machine is the virtual machine. Each method returns a function that undoes its effect.
type Machine interface {
	// MapMemory maps mem at gpa for the guest.
	MapMemory(gpa uint64, mem []byte) (undo func() error, err error)
	// ConnectMSI makes each signal of an eventfd send an MSI with the given DeviceID and data.
	ConnectMSI(eventfd int, deviceID, data uint32) (undo func() error, err error)
	// ConnectINTx makes a signal of trigger raise the device's INTx. When the guest has handled the
	// interrupt, the machine lowers it and signals unmask.
	ConnectINTx(trigger, unmask int) (undo func() error, err error)
}

// Config configures a Device. Physical, Machine and Stream are required.
type Config struct {
	Physical Physical
	Machine  Machine
	// BehindPort is set if the device will be behind a root port.
	BehindPort bool
	// Stream is called at each change of the device's requester ID, which is the StreamID of its
	// DMA. If ok is false, the device has none. Stream's owner blocks the device's DMA before the
	// first call, while ok is false, and after an error. Stream must not call methods of the
	// device.
	Stream func(id pci.RequesterID, ok bool) error
	// Log receives errors that no method returns; nil for none.
	Log *slog.Logger
}

// Device implements pci.Function.
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
var ErrDevice = errors.New("passthrough: new device: the device cannot be passed through")

// New resets the device and returns it as a function for the guest. The caller must Close it after
// the machine has stopped, and before it closes the device's descriptor.
func New(cfg Config) (*Device, error) {
	switch {
	case nilcheck.IsNil(cfg.Physical):
		return nil, errors.New("passthrough: new device: no Physical")
	case nilcheck.IsNil(cfg.Machine):
		return nil, errors.New("passthrough: new device: no Machine")
	case cfg.Stream == nil:
		return nil, errors.New("passthrough: new device: no Stream")
	}
	d := &Device{phys: cfg.Physical, machine: cfg.Machine, stream: cfg.Stream, log: cfg.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if !d.phys.CanReset() {
		return nil, fmt.Errorf("%w: the host cannot reset it, and its DMA would continue", ErrDevice)
	}
	if err := d.phys.Reset(); err != nil {
		return nil, fmt.Errorf("passthrough: new device: %w", err)
	}
	if err := d.examine(cfg.BehindPort); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// examine reads the configuration space, and creates the device's registers, interrupts and
// mappings.
func (d *Device) examine(behindPort bool) error {
	var config [256]byte
	if err := d.phys.ReadRegion(vfio.ConfigSpace, config[:], 0); err != nil {
		return fmt.Errorf("passthrough: new device: %w", err)
	}
	if kind := config[pci.RegHeaderType] & 0x7f; kind != 0 {
		return fmt.Errorf("%w: its header has type %d, not 0", ErrDevice, kind)
	}
	d.space.build(&config)
	if behindPort {
		d.space.putBehindPort(&config)
	}
	for i := 0; i < pci.NumBARs; i++ {
		flags := uint32(config[pci.RegBAR0+4*i])
		size := d.phys.RegionSize(i)
		if size == 0 || flags&pci.BARIO != 0 {
			continue // Arm guests use no I/O ports
		}
		if !d.bars.Define(i, size, flags) {
			return fmt.Errorf("%w: BAR %d has %#x bytes and flags %#x", ErrDevice, i, size, flags)
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

// Connect sets the device's slot. Pass it to pci.Host.Add.
func (d *Device) Connect(slot *pci.Slot) { d.slot = slot }

// SetRequester implements pci.Function.
func (d *Device) SetRequester(id pci.RequesterID, ok bool) {
	if err := d.stream(id, ok); err != nil {
		d.complain("set requester ID; DMA is blocked", err)
	}
	if ok && id != d.requester {
		// The requester ID is also the DeviceID.
		d.disconnectVectors()
		d.requester = id
		d.connectVectors()
	}
}

// Reset implements pci.Function. The device connects to the machine's interrupts when the guest
// next configures it. By then, a machine that is being reset has its new interrupt controller.
func (d *Device) Reset() {
	d.withdraw()
	d.space.reset()
	d.bars.Reset()
	d.intr.msix.reset()
	d.setMode(modeNone)
	// Bus mastering is off even if the reset fails.
	if err := d.phys.WriteRegion(vfio.ConfigSpace, []byte{0, 0}, pci.RegCommand); err != nil {
		d.complain("clear command register", err)
	}
	if err := d.phys.Reset(); err != nil {
		d.complain("reset device", err)
	}
}

// Close takes the device from the guest. The host bridge no longer calls it: the device was
// removed, or the machine has stopped. After an error, Close can be called again.
func (d *Device) Close() error {
	d.withdraw()
	return errors.Join(d.setMode(modeNone), d.unmapBARs())
}

// maxLogged is the largest number of log records of a device. The guest's actions do not change it.
const maxLogged = 32

func (d *Device) complain(what string, err error) {
	if d.logged++; d.logged <= maxLogged {
		d.log.Error("passthrough: "+what, "requester", d.requester.String(), "error", err)
	}
}
