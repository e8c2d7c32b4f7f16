//go:build linux && (amd64 || arm64)

package vmm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/kvm"
	"github.com/go-vsmmu/vsmmuv3/internal/vmm/arm64image"
	"github.com/go-vsmmu/vsmmuv3/internal/vmm/pl011"
	"github.com/go-vsmmu/vsmmuv3/internal/vmm/virtio"
)

// Config says what to boot on which machine.
type Config struct {
	Kernel  []byte // in any form that arm64image.Parse takes
	Initrd  []byte // may be empty
	Cmdline string
	Mem     uint64 // bytes, a multiple of 2 MiB
	CPUs    int

	// Console takes what the guest writes to its first UART; a nil one drops it. Its Write must return, or the guest's
	// console and at last Close wait for it.
	Console io.Writer
	// Control is the other end of the guest's second UART; nil for none. Close closes it. The guest loses what was sent
	// before it opened its device, so it is the one to speak first.
	Control io.ReadWriteCloser
}

// Machine is a virtual machine, made in three steps: New, then AddSMMU and AddDisk, then Run.
type Machine struct {
	cfg    Config
	kernel *arm64image.Image
	boot   boot

	ram   ram
	vm    *kvm.VM
	vcpus []*kvm.VCPU

	bus     bus
	uarts   []*pl011.UART
	disks   []*virtio.Device
	masters []Master
	smmu    bool

	stop   context.CancelCauseFunc // ends the run under way
	failed context.Context
}

// Why a guest ended other than by powering off.
var (
	ErrGuestReset = errors.New("vmm: the guest reset its machine")
	ErrGuestCrash = errors.New("vmm: the guest reported a crash")
)

// New makes a machine that has memory, vCPUs, an interrupt controller and UARTs. The caller must Close it.
func New(cfg Config) (_ *Machine, err error) {
	if cfg.CPUs < 1 || cfg.CPUs > maxCPUs {
		return nil, fmt.Errorf("vmm: %d vCPUs: not 1 to %d", cfg.CPUs, maxCPUs)
	}
	if cfg.Console == nil {
		cfg.Console = io.Discard
	}
	m := &Machine{cfg: cfg}
	m.failed, m.stop = context.WithCancelCause(context.Background())
	if m.kernel, err = arm64image.Parse(cfg.Kernel); err != nil {
		return nil, fmt.Errorf("vmm: kernel: %w", err)
	}
	if m.boot, err = plan(cfg.Mem, m.kernel, uint64(len(cfg.Initrd))); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.Close())
		}
	}()
	if m.ram, err = newRAM(cfg.Mem); err != nil {
		return nil, err
	}
	if err := m.addProcessors(); err != nil {
		return nil, err
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

func (m *Machine) addProcessors() (err error) {
	if m.vm, err = kvm.NewVM(); err != nil {
		return err
	}
	if err := m.vm.SetMemory(0, RAMBase, m.ram); err != nil {
		return err
	}
	for i := range m.cfg.CPUs {
		vcpu, err := m.vm.NewVCPU(i)
		if err != nil {
			return err
		}
		m.vcpus = append(m.vcpus, vcpu)
	}
	return m.vm.AddGICv3(kvm.GICv3{Dist: gicDistBase, Redist: gicRedistBase, SPIs: spis})
}

func (m *Machine) addUART(base uint64, spi uint32, out io.Writer, in io.ReadCloser) error {
	uart := pl011.New(out, in, m.line(spi))
	m.uarts = append(m.uarts, uart)
	return m.bus.add(base, uartSize, uart)
}

// Memory is the guest's memory, from RAMBase on, until Close. The guest changes it at any time while it runs.
func (m *Machine) Memory() []byte { return m.ram }

// AddSMMU gives the machine an SMMUv3 with the given register file, which every disk then stands behind.
func (m *Machine) AddSMMU(registers MMIODevice) error {
	m.smmu = true
	return m.bus.add(smmuBase, smmuSize, registers)
}

// AddDisk gives the machine a block device that reaches memory by dma.
func (m *Machine) AddDisk(block *virtio.Block, dma virtio.DMA, master Master) error {
	slot := len(m.disks)
	if slot == maxDisks {
		return fmt.Errorf("vmm: more than %d disks", maxDisks)
	}
	device := virtio.NewDevice(block, dma, m.line(virtioSPI+uint32(slot)))
	m.disks = append(m.disks, device)
	m.masters = append(m.masters, master)
	return m.bus.add(virtioSlot(slot), virtioSize, device)
}

// SMMULine is one of the wired interrupts of the SMMU.
type SMMULine uint32

// The wired interrupts of the SMMU (IHI 0070 §3.18).
const (
	SMMUEventQ  SMMULine = smmuEventQSPI
	SMMUPRIQ    SMMULine = smmuPRIQSPI
	SMMUCmdSync SMMULine = smmuCmdSyncSPI
	SMMUGError  SMMULine = smmuGErrorSPI
)

// Pulse raises and lowers a wired interrupt: an edge. It may be called from any goroutine.
func (m *Machine) Pulse(line SMMULine) error {
	if err := m.vm.SetSPI(uint32(line), true); err != nil {
		return err
	}
	return m.vm.SetSPI(uint32(line), false)
}

// SignalMSI carries out the write that is an MSI. The machine has no ITS, so only memory can take one: a guest that polls
// for it. It may be called from any goroutine.
func (m *Machine) SignalMSI(addr guestmem.GPA, data uint32) error {
	return m.ram.store32(uint64(addr), data)
}

// line drives a level-triggered interrupt. A machine whose interrupts cannot be delivered ends.
func (m *Machine) line(spi uint32) func(level bool) {
	return func(level bool) {
		if err := m.vm.SetSPI(spi, level); err != nil {
			m.stop(err)
		}
	}
}

// Run boots the guest and returns when it has powered off (nil), reset or crashed (ErrGuestReset, ErrGuestCrash), when ctx
// ends (its cause), or when the host fails. No vCPU runs after it. It is called once.
func (m *Machine) Run(ctx context.Context) error {
	if err := m.load(); err != nil {
		return err
	}
	// A vCPU in the guest is to Go's scheduler a short system call, and keeps its share of GOMAXPROCS for milliseconds.
	if want := len(m.vcpus) + runtime.NumCPU(); runtime.GOMAXPROCS(0) < want {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(want))
	}
	defer context.AfterFunc(ctx, func() { m.stop(context.Cause(ctx)) })()
	var running sync.WaitGroup
	running.Go(func() {
		<-m.failed.Done()
		for _, vcpu := range m.vcpus {
			vcpu.Stop()
		}
	})
	for _, vcpu := range m.vcpus {
		running.Go(func() {
			// The lock is never given back: the thread, which KVM knows, ends with the goroutine.
			runtime.LockOSThread()
			m.stop(m.runVCPU(vcpu))
		})
	}
	running.Wait()
	if err := context.Cause(m.failed); err != errPowerOff {
		return err
	}
	return nil
}

// errPowerOff is why a run ends that ends well.
var errPowerOff = errors.New("vmm: power off")

// runVCPU is the life of a vCPU. What it returns ends the machine.
func (m *Machine) runVCPU(vcpu *kvm.VCPU) error {
	for m.failed.Err() == nil {
		exit, err := vcpu.Run()
		if err != nil {
			return err
		}
		switch exit {
		case kvm.MMIO:
			access := vcpu.MMIO()
			if access.Write {
				m.bus.store(access.Addr, access.Size, access.Value)
			} else {
				vcpu.SetLoaded(m.bus.load(access.Addr, access.Size))
			}
		case kvm.PowerOff:
			return errPowerOff
		case kvm.Reset:
			return ErrGuestReset
		case kvm.Crash:
			return ErrGuestCrash
		}
	}
	return context.Cause(m.failed)
}

// load puts kernel, initrd and device tree into memory and points the first vCPU at them (booting.rst, section 4).
func (m *Machine) load() error {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // cannot fail: crypto/rand ends the program instead
	tree, err := deviceTree(hardware{
		mem: m.cfg.Mem, cpus: m.cfg.CPUs, cmdline: m.cfg.Cmdline,
		initrd: m.boot.initrd, smmu: m.smmu, disks: m.masters, seed: seed,
	})
	if err != nil {
		return err
	}
	if len(tree) > maxTree {
		return fmt.Errorf("vmm: device tree of %d bytes", len(tree))
	}
	copy(m.ram.at(m.boot.kernel), m.kernel.Data)
	copy(m.ram.at(m.boot.initrd), m.cfg.Initrd)
	copy(m.ram.at(m.boot.tree), tree)
	return m.vcpus[0].SetEntry(m.boot.kernel.start, m.boot.tree.start)
}

// Close gives back what the machine holds. Run must have returned, and whatever else uses Memory, Pulse or SignalMSI must
// have ended.
func (m *Machine) Close() (err error) {
	m.stop(errClosed)
	for _, disk := range m.disks {
		disk.Close()
	}
	for _, uart := range m.uarts {
		err = errors.Join(err, uart.Close())
	}
	for _, vcpu := range m.vcpus {
		err = errors.Join(err, vcpu.Close())
	}
	if m.vm != nil {
		err = errors.Join(err, m.vm.Close())
	}
	if m.ram != nil {
		err = errors.Join(err, m.ram.close())
	}
	m.disks, m.uarts, m.vcpus, m.vm, m.ram = nil, nil, nil, nil, nil
	return err
}

var errClosed = errors.New("vmm: machine closed")
