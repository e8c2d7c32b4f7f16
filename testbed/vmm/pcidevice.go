//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/passthrough"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
)

// PCIDevice describes a device of the host that is passed through.
type PCIDevice struct {
	Device passthrough.Physical
	// BehindPort puts the device behind a root port. Its requester ID then depends on the bus
	// number that the guest assigns.
	BehindPort bool
	// Stream is called at each change of the requester ID, which is the StreamID of the device's
	// DMA. If ok is false, the device has none. The caller blocks the device's DMA before the first
	// call, while the device has no StreamID, and after an error.
	Stream func(sid smmuv3.StreamID, ok bool) error
	// Log receives errors that no method returns; nil for none.
	Log *slog.Logger
}

// AddRootPort adds an empty root port with a lower device number than all devices. A guest that
// numbers the buses again then assigns other numbers. It may be called once, also while the machine
// runs.
func (m *Machine) AddRootPort() error { return m.pci.AddPort(firstPCIDevice - 1) }

// AddPCIDevice adds a device of the host. The SMMU, if there is one, translates its DMA.
//
// remove returns the device to the host before Close; the guest then finds no device there. It may
// be called once, from any goroutine and while the machine runs, but not from Stream.
func (m *Machine) AddPCIDevice(cfg PCIDevice) (remove func() error, err error) {
	if cfg.Stream == nil {
		return nil, errors.New("vmm: add PCI device: no Stream")
	}
	number, err := m.nextPCIDevice()
	if err != nil {
		return nil, fmt.Errorf("vmm: add PCI device: %w", err)
	}
	device, err := passthrough.New(passthrough.Config{
		Physical:   cfg.Device,
		Machine:    devicePort{m, pciSPI + uint32(number%pciLines)},
		BehindPort: cfg.BehindPort,
		Stream: func(id pci.RequesterID, ok bool) error {
			return cfg.Stream(m.cfg.Wiring.StreamBase+smmuv3.StreamID(id), ok)
		},
		Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("vmm: add PCI device: %w", err)
	}
	m.passed = append(m.passed, device)
	m.pciSlots = append(m.pciSlots, pciSlot{device: number, behindPort: cfg.BehindPort, passed: true})
	if err := m.pci.Add(number, cfg.BehindPort, device, device.Connect); err != nil {
		return nil, fmt.Errorf("vmm: add PCI device: %w", err)
	}
	return func() error {
		m.pci.Remove(number)
		return device.Close()
	}, nil
}

// nextPCIDevice returns the device number of the next device: the lowest number above all numbers
// in use.
func (m *Machine) nextPCIDevice() (int, error) {
	number := firstPCIDevice
	for _, s := range m.pciSlots {
		number = max(number, s.device+1)
	}
	if number >= pci.Devices {
		return 0, fmt.Errorf("no device number is left above %d", pci.Devices-1)
	}
	return number, nil
}

// AddPCIDisk adds a block device on the root bus that accesses memory, and sends its interrupts, by
// dma. If pasidBits is not 0, it has a PASID capability of that width, at most 20.
func (m *Machine) AddPCIDisk(block *virtio.Block, dma virtio.DMA, pasidBits uint8) error {
	number, err := m.nextPCIDevice()
	if err != nil {
		return fmt.Errorf("vmm: add PCI disk: %w", err)
	}
	if block == nil {
		return errors.New("vmm: add PCI disk: no block device")
	}
	disk, err := virtio.NewFunction(block, dma, m.cfg.Stalls, pasidBits)
	if err != nil {
		return fmt.Errorf("vmm: add PCI disk: %w", err)
	}
	m.pciDisks = append(m.pciDisks, disk)
	m.pciSlots = append(m.pciSlots, pciSlot{device: number})
	return m.pci.Add(number, false, disk, disk.Connect)
}

// devicePort implements passthrough.Machine for one device.
type devicePort struct {
	m   *Machine
	spi uint32 // of its INTx
}

func (p devicePort) MapMemory(gpa uint64, mem []byte) (func() error, error) {
	return p.m.host().slots.mapMemory(gpa, mem)
}

func (p devicePort) ConnectMSI(eventfd int, deviceID, data uint32) (func() error, error) {
	w := p.m.cfg.Wiring
	return p.m.host().router.connectMSI(eventfd, kvm.MSI{
		Addr: doorbell, Data: data, Device: deviceID + uint32(w.StreamBase) + w.DeviceBase,
	})
}

func (p devicePort) ConnectINTx(trigger, unmask int) (func() error, error) {
	return p.m.host().router.connectSPI(trigger, unmask, p.spi, p.m.stop)
}
