//go:build linux && (amd64 || arm64)

package vmm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/acpi"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/cfi"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/fwcfg"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pl031"
)

// uefi holds the additional devices of a machine with firmware.
type uefi struct {
	code, vars []byte
	flash      *cfi.Flash
	fwcfg      configPort
}

// configPort is the place of the firmware configuration device on the bus. Each Run has a new one.
type configPort struct{ device atomic.Pointer[fwcfg.Device] }

func (p *configPort) Load(off uint64, size int) uint64 {
	if d := p.device.Load(); d != nil {
		return d.Load(off, size)
	}
	return 0
}

func (p *configPort) Store(off uint64, size int, value uint64) {
	if d := p.device.Load(); d != nil {
		d.Store(off, size, value)
	}
}

// Memory slots of the flash, above the slots of memorySlots.
const (
	codeSlot = ramSlot + 1 + maxSlots
	varsSlot = codeSlot + 1
)

// addUEFI adds the firmware's flash, the firmware configuration device and a clock.
func (m *Machine) addUEFI() (err error) {
	if len(m.cfg.Firmware) > flashSize {
		return fmt.Errorf("vmm: new machine: firmware of %d bytes: more than %d", len(m.cfg.Firmware), flashSize)
	}
	m.cfg.ACPI = true
	u := &uefi{}
	m.uefi = u
	for _, bank := range []*[]byte{&u.code, &u.vars} {
		*bank, err = unix.Mmap(-1, 0, flashSize, unix.PROT_READ|unix.PROT_WRITE,
			unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
		if err != nil {
			return fmt.Errorf("vmm: new machine: flash: %w", err)
		}
	}
	copy(u.code, m.cfg.Firmware)
	// EDK2 uses the first blocks. All others would cost memory.
	cfi.Erase(u.vars[:3*cfi.Block])
	if err := u.connect(m.host().vm); err != nil {
		return err
	}
	u.flash, err = cfi.New(u.vars, mapVars(m.host().vm, u.vars), m.stop)
	return errors.Join(err,
		m.bus.add(flashSize, flashSize, u.flash),
		m.bus.add(fwcfgBase, fwcfg.Size, &u.fwcfg),
		m.bus.add(rtcBase, pl031.Size, new(pl031.RTC)),
	)
}

// connect maps the flash for the guest of a new VM.
func (u *uefi) connect(vm *kvm.VM) error {
	if err := vm.SetReadOnlyMemory(codeSlot, 0, u.code); err != nil {
		return err
	}
	if u.flash == nil {
		return nil // New maps the variables
	}
	return u.flash.Reset(mapVars(vm, u.vars))
}

// mapVars returns a function that maps the variables for the guest's loads, or unmaps them.
func mapVars(vm *kvm.VM, vars []byte) func(bool) error {
	return func(on bool) error {
		if on {
			return vm.SetReadOnlyMemory(varsSlot, flashSize, vars)
		}
		return vm.RemoveMemory(varsSlot)
	}
}

func (u *uefi) close() (err error) {
	for _, bank := range [][]byte{u.code, u.vars} {
		if bank != nil {
			err = errors.Join(err, unix.Munmap(bank))
		}
	}
	return err
}

// loadUEFI gives the firmware the tables and the device tree, at the start of memory, and sets the
// entry point of the first vCPU.
func (m *Machine) loadUEFI(hw *hardware) error {
	tables, err := acpiTables(hw)
	if err != nil {
		return fmt.Errorf("vmm: ACPI: %w", err)
	}
	files, err := acpi.Loader(tables...)
	if err != nil {
		return fmt.Errorf("vmm: ACPI: %w", err)
	}
	cpus := binary.LittleEndian.AppendUint16(nil, uint16(hw.cpus))
	m.uefi.fwcfg.device.Store(fwcfg.New(m.memoryAt, map[uint16][]byte{fwcfg.KeyCPUs: cpus}, files))
	hw.uefi = true
	tree, err := deviceTree(hw)
	if err != nil {
		return fmt.Errorf("vmm: device tree: %w", err)
	}
	copy(m.ram, tree)
	return m.host().vcpus[0].SetEntry(0, RAMBase)
}

// memoryAt returns n bytes of guest-physical memory, or nil.
func (m *Machine) memoryAt(addr uint64, n int) []byte {
	off := addr - RAMBase
	if addr < RAMBase || n < 0 || off > uint64(len(m.ram)) || uint64(n) > uint64(len(m.ram))-off {
		return nil
	}
	return m.ram[off:][:n]
}
