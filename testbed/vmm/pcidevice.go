//go:build linux && (amd64 || arm64)

package vmm

import (
	"fmt"
	"log/slog"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/passthrough"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
)

// PCIDevice says how a device of the host's is passed through.
type PCIDevice struct {
	Device passthrough.Physical
	// BehindPort puts the device behind a root port, so that its requester ID depends on the bus number that the guest gives it.
	BehindPort bool
	// Stream is told the StreamID of the device's DMA, which is its requester ID, whenever that changes; with ok false, that it
	// has none. The device's DMA is to reach nothing before, then, and after an error.
	Stream func(sid smmuv3.StreamID, ok bool) error
	// Log takes what no caller can be told; nil for none.
	Log *slog.Logger
}

// AddRootPort gives the machine a root port with nothing behind it, before all devices: a guest that numbers the buses behind
// ports in their order gives them other numbers when it does so again. It is called once, also while the machine runs.
func (m *Machine) AddRootPort() error { return m.pci.AddPort(firstPCIDevice - 1) }

// AddPCIDevice gives the machine a device of the host's. Its DMA goes by way of the SMMU, if there is one.
//
// To give the device back to the host before Close, call what is returned, once: the guest finds an empty place then. That may
// be done from any goroutine, and while the machine runs, but not from within Stream.
func (m *Machine) AddPCIDevice(cfg PCIDevice) (remove func() error, err error) {
	number, err := m.nextPCIDevice()
	if err != nil {
		return nil, err
	}
	device, err := passthrough.New(passthrough.Config{
		Physical:   cfg.Device,
		Machine:    devicePort{m, pciSPI + uint32(number%pciLines)},
		BehindPort: cfg.BehindPort,
		Stream:     func(id pci.RequesterID, ok bool) error { return cfg.Stream(smmuv3.StreamID(id), ok) },
		Log:        cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	m.passed = append(m.passed, device)
	m.pciSlots = append(m.pciSlots, pciSlot{device: number, behindPort: cfg.BehindPort, passed: true})
	if err := m.pci.Add(number, cfg.BehindPort, device, device.Connect); err != nil {
		return nil, err
	}
	return func() error {
		m.pci.Remove(number)
		return device.Close()
	}, nil
}

// nextPCIDevice is the number of the device that is added next.
func (m *Machine) nextPCIDevice() (int, error) {
	number := firstPCIDevice + len(m.pciSlots)
	if number >= pci.Devices {
		return 0, fmt.Errorf("vmm: more than %d PCI devices", pci.Devices-firstPCIDevice)
	}
	return number, nil
}

// AddPCIDisk gives the machine a block device on the root bus that reaches memory, and interrupts the guest, by dma. With pasidBits
// above 0, at most 20, it has PASIDs of so many bits.
func (m *Machine) AddPCIDisk(block *virtio.Block, dma virtio.DMA, pasidBits uint8) error {
	number, err := m.nextPCIDevice()
	if err != nil {
		return err
	}
	disk := virtio.NewFunction(block, dma, m.cfg.Stalls, pasidBits)
	m.pciDisks = append(m.pciDisks, disk)
	m.pciSlots = append(m.pciSlots, pciSlot{device: number})
	return m.pci.Add(number, false, disk, disk.Connect)
}

// devicePort is the machine as a device passed through sees it.
type devicePort struct {
	m   *Machine
	spi uint32 // of its INTx
}

func (p devicePort) MapMemory(gpa uint64, mem []byte) (func() error, error) {
	return p.m.host().slots.mapMemory(gpa, mem)
}

func (p devicePort) ConnectMSI(eventfd int, deviceID, data uint32) (func() error, error) {
	return p.m.host().router.connectMSI(eventfd, kvm.MSI{Addr: doorbell, Data: data, Device: deviceID})
}

func (p devicePort) ConnectINTx(trigger, unmask int) (func() error, error) {
	return p.m.host().router.connectSPI(trigger, unmask, p.spi, p.m.stop)
}
