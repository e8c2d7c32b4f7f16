//go:build linux && (amd64 || arm64)

package vmm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/passthrough"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pl011"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
)

// Config describes a machine and the software that it boots.
type Config struct {
	Kernel  []byte // in any form that arm64image.Parse reads
	Initrd  []byte // may be empty
	Cmdline string
	Mem     uint64 // bytes, a multiple of 2 MiB
	CPUs    int
	Wiring  Wiring
	// ACPI describes the machine to the guest by ACPI tables, in place of a device tree.
	ACPI bool
	// Firmware, unless empty, is EDK2's ArmVirtQemu, which boots from a disk. The machine then has
	// ACPI, and Kernel, Initrd and Cmdline are empty.
	Firmware []byte
	// Stalls is set if DMA may wait for a vCPU, as stalled transactions do.
	Stalls bool

	// Console receives the output of the guest's first UART. Nil discards it. While its Write does
	// not return, the guest's console waits, and so does Close.
	Console io.Writer
	// Control is the other end of the guest's second UART; nil for none. Close closes it. Data sent
	// before the guest opens its device is lost, so the guest must send first.
	Control io.ReadWriteCloser
}

// Machine is a virtual machine. Create it with New, add devices with AddSMMU, AddDisk, AddPCIDisk,
// AddRootPort, AddPCIDevice and AddEdu, and then call Run.
type Machine struct {
	cfg    Config
	kernel *arm64image.Image
	boot   boot

	ram ram
	kvm atomic.Pointer[kvmHost]

	bus      bus
	uarts    []*pl011.UART
	disks    []*virtio.MMIO
	masters  []Master
	smmus    []smmuv3.IDRegs
	pci      *pci.Host
	pciDisks []*virtio.Function
	passed   []*passthrough.Device
	edus     []*edu.Function
	pciSlots []pciSlot
	intx     [pciLines]sharedLine // of the edu functions

	uefi *uefi // nil without firmware

	life   atomic.Pointer[life]
	closed atomic.Bool
}

// life is one run of the machine, from power-on or a reset to its end.
type life struct {
	ended context.Context // its cause is the reason
	end   context.CancelCauseFunc
}

func newLife() *life {
	ended, end := context.WithCancelCause(context.Background())
	return &life{ended, end}
}

// stop ends the life of the machine. The first reason counts.
func (m *Machine) stop(why error) { m.life.Load().end(why) }

func (m *Machine) host() *kvmHost { return m.kvm.Load() }

// Errors of Run for a guest that did not power off.
var (
	ErrGuestReset = errors.New("vmm: run: the guest reset the machine")
	ErrGuestCrash = errors.New("vmm: run: the guest reported a crash")
)

// New returns a machine with memory, vCPUs, an interrupt controller and UARTs. The caller must
// Close it.
func New(cfg Config) (_ *Machine, err error) {
	if cfg.CPUs < 1 || cfg.CPUs > maxCPUs {
		return nil, fmt.Errorf("vmm: new machine: %d vCPUs: not 1 to %d", cfg.CPUs, maxCPUs)
	}
	switch {
	case cfg.Console == nil:
		cfg.Console = io.Discard
	case nilcheck.IsNil(cfg.Console):
		return nil, errors.New("vmm: new machine: Console holds a nil pointer")
	}
	if cfg.Control != nil && nilcheck.IsNil(cfg.Control) {
		return nil, errors.New("vmm: new machine: Control holds a nil pointer")
	}
	m := &Machine{cfg: cfg}
	m.life.Store(newLife())
	if len(cfg.Firmware) == 0 {
		if m.kernel, err = arm64image.Parse(cfg.Kernel); err != nil {
			return nil, fmt.Errorf("vmm: new machine: %w", err)
		}
		if m.boot, err = plan(cfg.Mem, m.kernel, uint64(len(cfg.Initrd))); err != nil {
			return nil, err
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.ram, err = newRAM(cfg.Mem); err != nil {
		return nil, err
	}
	host, err := newKVMHost(m.ram, cfg.CPUs)
	if err != nil {
		return nil, err
	}
	m.kvm.Store(host)
	if err := m.addPCI(); err != nil {
		return nil, err
	}
	if len(cfg.Firmware) > 0 {
		if err := m.addUEFI(); err != nil {
			return nil, err
		}
	}
	if err := m.addUART(consoleBase, consoleSPI, cfg.Console, nil); err != nil {
		return nil, err
	}
	if cfg.Control == nil {
		err = m.addUART(controlBase, controlSPI, io.Discard, nil)
	} else {
		err = m.addUART(controlBase, controlSPI, cfg.Control, cfg.Control)
	}
	return m, err
}

func (m *Machine) addUART(base uint64, spi uint32, out io.Writer, in io.ReadCloser) error {
	uart, err := pl011.New(out, in, m.line(spi))
	if err != nil {
		return err
	}
	m.uarts = append(m.uarts, uart)
	m.initUART(uart)
	return m.bus.add(base, uartSize, uart)
}

// initUART does what firmware does: it enables the UART of a machine with ACPI, whose drivers do
// not.
func (m *Machine) initUART(uart *pl011.UART) {
	if m.cfg.ACPI {
		uart.Enable()
	}
}

// Memory returns the guest's memory, which starts at RAMBase. It is valid until Close. The guest
// may write to it at any time while it runs.
func (m *Machine) Memory() []byte { return m.ram }

// AddSMMU adds an SMMUv3 with the given register file. Each disk names the SMMU that it is behind.
// PCI devices are behind the first. ids are the ID registers that the guest reads
// (idr.Result.IDs); the device tree or the IORT agrees with them.
func (m *Machine) AddSMMU(registers MMIODevice, ids smmuv3.IDRegs) error {
	if nilcheck.IsNil(registers) {
		return errors.New("vmm: add SMMU: no register file")
	}
	n := len(m.smmus)
	if n == maxSMMUs {
		return fmt.Errorf("vmm: add SMMU: the machine has %d, the most it can have", maxSMMUs)
	}
	if err := m.bus.add(smmuAddress(n), smmuSize, registers); err != nil {
		return fmt.Errorf("vmm: add SMMU: %w", err)
	}
	m.smmus = append(m.smmus, ids)
	return nil
}

// addPCI adds the PCI host bridge. The device tree has it if there are devices behind it.
func (m *Machine) addPCI() error {
	mem, mem64 := pci.Window{Base: pciMemBase, Size: pciMemSize}, pci.Window{Base: pciMem64Base, Size: pciMem64Size}
	var err error
	if m.pci, err = pci.NewHost(pciBuses, mem, mem64); err != nil {
		return err
	}
	return errors.Join(
		m.bus.add(pciECAMBase, m.pci.ECAM().Size(), m.pci.ECAM()),
		m.bus.add(mem.Base, mem.Size, m.pci.Memory(mem)),
		m.bus.add(mem64.Base, mem64.Size, m.pci.Memory(mem64)),
	)
}

// AddDisk adds a block device on the MMIO transport that accesses memory by dma.
func (m *Machine) AddDisk(block *virtio.Block, dma virtio.DMA, master Master) error {
	slot := len(m.disks)
	if slot == maxDisks {
		return fmt.Errorf("vmm: add disk: the machine has %d, the most it can have", maxDisks)
	}
	if block == nil {
		return errors.New("vmm: add disk: no block device")
	}
	device, err := virtio.NewMMIO(block, dma, m.cfg.Stalls, m.line(virtioSPI+uint32(slot)))
	if err != nil {
		return fmt.Errorf("vmm: add disk: %w", err)
	}
	m.disks = append(m.disks, device)
	m.masters = append(m.masters, master)
	return m.bus.add(virtioSlot(slot), virtioSize, device)
}

// Reset resets all devices but the SMMU, so that Run can boot again. Memory keeps its contents. Run
// must have returned. When Reset returns, no device accesses memory; the caller then resets the
// SMMU.
func (m *Machine) Reset() error {
	// Devices come first: they use the VM.
	m.pci.Reset()
	for _, disk := range m.disks {
		disk.Reset()
	}
	for _, uart := range m.uarts {
		uart.Reset()
		m.initUART(uart)
	}
	host, err := newKVMHost(m.ram, m.cfg.CPUs)
	if err != nil {
		return err
	}
	m.life.Store(newLife())
	err = m.kvm.Swap(host).close()
	if m.uefi != nil {
		err = errors.Join(err, m.uefi.connect(host.vm))
	}
	return err
}

// Close frees the machine. Run must have returned, and no call of SMMUInterrupts or
// SignalEndpointMSI may be in flight. The first Close ends the machine; a later one has no effect
// and returns an error that matches bridge.ErrClosed.
func (m *Machine) Close() (err error) {
	if !m.closed.CompareAndSwap(false, true) {
		return ErrClosed
	}
	m.stop(ErrClosed)
	for _, device := range m.passed {
		err = errors.Join(err, device.Close())
	}
	for _, disk := range m.disks {
		err = errors.Join(err, disk.Close())
	}
	for _, disk := range m.pciDisks {
		err = errors.Join(err, disk.Close())
	}
	for _, f := range m.edus {
		err = errors.Join(err, f.Close())
	}
	for _, uart := range m.uarts {
		err = errors.Join(err, uart.Close())
	}
	if host := m.kvm.Swap(nil); host != nil {
		err = errors.Join(err, host.close())
	}
	if m.ram != nil {
		err = errors.Join(err, m.ram.close())
	}
	if m.uefi != nil {
		err = errors.Join(err, m.uefi.close())
		m.uefi = nil
	}
	m.passed, m.disks, m.pciDisks, m.edus, m.uarts, m.ram = nil, nil, nil, nil, nil, nil
	return err
}

// ErrClosed is the error of a machine that is closed.
var ErrClosed = fmt.Errorf("vmm: machine: %w", bridge.ErrClosed)
