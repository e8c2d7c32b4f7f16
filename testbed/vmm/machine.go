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
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/passthrough"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pl011"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/virtio"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Config says what to boot on which machine.
type Config struct {
	Kernel  []byte // in any form that arm64image.Parse takes
	Initrd  []byte // may be empty
	Cmdline string
	Mem     uint64 // bytes, a multiple of 2 MiB
	CPUs    int
	Stalls  bool // DMA may be held up until a vCPU has done something about it, as by an SMMU that stalls

	// Console takes what the guest writes to its first UART; a nil one drops it. Its Write must return, or the guest's
	// console and at last Close wait for it.
	Console io.Writer
	// Control is the other end of the guest's second UART; nil for none. Close closes it. The guest loses what was sent
	// before it opened its device, so it is the one to speak first.
	Control io.ReadWriteCloser
}

// Machine is a virtual machine, made in three steps: New, then AddSMMU, AddDisk, AddPCIDisk and AddPCIDevice, then Run.
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
	smmu     bool
	pci      *pci.Host
	pciDisks []*virtio.Function
	passed   []*passthrough.Device
	pciSlots []pciSlot

	life atomic.Pointer[life]
}

// life is from power-on, or a reset, to whatever ends it.
type life struct {
	ended context.Context // its cause says why
	end   context.CancelCauseFunc
}

func newLife() *life {
	ended, end := context.WithCancelCause(context.Background())
	return &life{ended, end}
}

// stop ends the life of the machine, for the first reason that it is given.
func (m *Machine) stop(why error) { m.life.Load().end(why) }

func (m *Machine) host() *kvmHost { return m.kvm.Load() }

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
	m.life.Store(newLife())
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
	host, err := newKVMHost(m.ram, cfg.CPUs)
	if err != nil {
		return nil, err
	}
	m.kvm.Store(host)
	if err := m.addPCI(); err != nil {
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

// addPCI gives the machine its PCI host bridge. A guest is told of it if there is something behind it.
func (m *Machine) addPCI() error {
	mem, mem64 := pci.Window{Base: pciMemBase, Size: pciMemSize}, pci.Window{Base: pciMem64Base, Size: pciMem64Size}
	m.pci = pci.NewHost(pciBuses, mem, mem64)
	return errors.Join(
		m.bus.add(pciECAMBase, m.pci.ECAM().Size(), m.pci.ECAM()),
		m.bus.add(mem.Base, mem.Size, m.pci.Memory(mem)),
		m.bus.add(mem64.Base, mem64.Size, m.pci.Memory(mem64)),
	)
}

// AddDisk gives the machine a block device that reaches memory by dma.
func (m *Machine) AddDisk(block *virtio.Block, dma virtio.DMA, master Master) error {
	slot := len(m.disks)
	if slot == maxDisks {
		return fmt.Errorf("vmm: more than %d disks", maxDisks)
	}
	device := virtio.NewMMIO(block, dma, m.cfg.Stalls, m.line(virtioSPI+uint32(slot)))
	m.disks = append(m.disks, device)
	m.masters = append(m.masters, master)
	return m.bus.add(virtioSlot(slot), virtioSize, device)
}

// smmuSPIs are the wired interrupts of the SMMU (IHI 0070 §3.18). It has none for CMD_SYNC, whose end a message tells: a guest
// would have it with every SYNC, at the cost of two requests to KVM.
var smmuSPIs = map[vsmmu.Line]uint32{
	vsmmu.LineEventQ: smmuEventQSPI, vsmmu.LinePRIQ: smmuPRIQSPI, vsmmu.LineGError: smmuGErrorSPI,
}

// Pulse and SignalMSI make the machine the SMMU's vsmmu.Interrupts. Pulse raises and lowers a wired interrupt: an edge. It may
// be called from any goroutine.
func (m *Machine) Pulse(line vsmmu.Line) error {
	spi, wired := smmuSPIs[line]
	if !wired {
		return nil
	}
	vm := m.host().vm
	return errors.Join(vm.SetSPI(spi, true), vm.SetSPI(spi, false))
}

// SignalMSI carries out the write that is an MSI of the SMMU's: to the ITS, which knows the SMMU by a DeviceID of its own, or to
// memory, for a guest that polls. It may be called from any goroutine.
func (m *Machine) SignalMSI(addr guestmem.GPA, data uint32) error {
	if addr == doorbell {
		_, err := m.host().vm.SignalMSI(kvm.MSI{Addr: doorbell, Data: data, Device: smmuDeviceID})
		return err
	}
	return m.ram.store32(uint64(addr), data)
}

// SignalEndpointMSI carries out what a device behind the SMMU has written to where there is no memory: an MSI, if that is the ITS,
// which knows the device by its StreamID. It is a soft.Config's MSI, and may be called from any goroutine.
func (m *Machine) SignalEndpointMSI(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error {
	if addr != doorbell {
		return fmt.Errorf("%w: %v", guestmem.ErrUnmapped, addr)
	}
	_, err := m.host().vm.SignalMSI(kvm.MSI{Addr: doorbell, Data: data, Device: uint32(sid)})
	if err != nil {
		m.stop(err) // as for a line: the guest would wait for ever
	}
	return err
}

// line drives a level-triggered interrupt. A machine whose interrupts cannot be delivered ends.
func (m *Machine) line(spi uint32) func(level bool) {
	return func(level bool) {
		if err := m.host().vm.SetSPI(spi, level); err != nil {
			m.stop(err)
		}
	}
}

// Run boots the guest and returns when it has powered off (nil), reset or crashed (ErrGuestReset, ErrGuestCrash), when ctx
// ends (its cause, and where the guest was), or when the host fails. No vCPU runs after it. It is called once, and once more after each Reset.
func (m *Machine) Run(ctx context.Context) error {
	if err := m.load(); err != nil {
		return err
	}
	life, vcpus := m.life.Load(), m.host().vcpus
	// A vCPU in the guest is to Go's scheduler a short system call, and keeps its share of GOMAXPROCS for milliseconds.
	if want := len(vcpus) + runtime.NumCPU(); runtime.GOMAXPROCS(0) < want {
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(want))
	}
	defer context.AfterFunc(ctx, func() { life.end(context.Cause(ctx)) })()
	var running sync.WaitGroup
	running.Go(func() {
		<-life.ended.Done()
		for _, vcpu := range vcpus {
			vcpu.Stop()
		}
	})
	for _, vcpu := range vcpus {
		running.Go(func() {
			// The lock is never given back: the thread, which KVM knows, ends with the goroutine.
			runtime.LockOSThread()
			life.end(m.runVCPU(life, vcpu))
		})
	}
	running.Wait()
	err := context.Cause(life.ended)
	switch {
	case err == errPowerOff:
		return nil
	case ctx.Err() != nil:
		for _, vcpu := range vcpus {
			err = fmt.Errorf("%w; %s", err, vcpu.Whereabouts())
		}
	}
	return err
}

// errPowerOff is why a run ends that ends well.
var errPowerOff = errors.New("vmm: power off")

// runVCPU is the life of a vCPU. What it returns ends the machine.
func (m *Machine) runVCPU(life *life, vcpu *kvm.VCPU) error {
	for life.ended.Err() == nil {
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
	return context.Cause(life.ended)
}

// load puts kernel, initrd and device tree into memory and points the first vCPU at them (booting.rst, section 4).
func (m *Machine) load() error {
	seed := make([]byte, 64)
	_, _ = rand.Read(seed) // cannot fail: crypto/rand ends the program instead
	tree, err := deviceTree(hardware{
		mem: m.cfg.Mem, cpus: m.cfg.CPUs, cmdline: m.cfg.Cmdline,
		initrd: m.boot.initrd, smmu: m.smmu, disks: m.masters, pci: m.pciSlots, seed: seed,
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
	return m.host().vcpus[0].SetEntry(m.boot.kernel.start, m.boot.tree.start)
}

// Reset puts the machine into the state that it had before Run, except for what is in its memory: after a guest that reset it, for
// Run to boot again. Run must have returned. Devices have let go of memory when Reset returns; the SMMU is its owner's to
// reset, after this.
func (m *Machine) Reset() error {
	// Devices first: they let go of the VM and of memory.
	m.pci.Reset()
	for _, disk := range m.disks {
		disk.Reset()
	}
	for _, uart := range m.uarts {
		uart.Reset()
	}
	host, err := newKVMHost(m.ram, m.cfg.CPUs)
	if err != nil {
		return err
	}
	m.life.Store(newLife())
	return m.kvm.Swap(host).close()
}

// Close gives back what the machine holds. Run must have returned, and whatever else uses Memory, Pulse or SignalMSI must
// have ended.
func (m *Machine) Close() (err error) {
	m.stop(errClosed)
	for _, device := range m.passed {
		err = errors.Join(err, device.Close())
	}
	for _, disk := range m.disks {
		err = errors.Join(err, disk.Close())
	}
	for _, disk := range m.pciDisks {
		err = errors.Join(err, disk.Close())
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
	m.passed, m.disks, m.pciDisks, m.uarts, m.ram = nil, nil, nil, nil, nil
	return err
}

var errClosed = errors.New("vmm: machine closed")
