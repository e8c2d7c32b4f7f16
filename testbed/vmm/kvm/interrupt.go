//go:build linux && (amd64 || arm64)

package kvm

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetSPI sets the level of a shared peripheral interrupt, counted from 0 as in device trees. An
// edge-triggered interrupt is signalled by its rise.
func (vm *VM) SetSPI(spi uint32, level bool) error {
	const firstSPI = 32
	line := irqLevel{irq: irqTypeSPI | (spi + firstSPI)}
	if level {
		line.level = 1
	}
	_, err := vm.callPtr("KVM_IRQ_LINE", irqLine, unsafe.Pointer(&line))
	return err
}

// MSI is a message signalled interrupt: a write of Data to Addr, the doorbell of an ITS, by the
// device with the DeviceID Device.
type MSI struct {
	Addr   uint64
	Data   uint32
	Device uint32 // DeviceID, of 16 bits
}

// SignalMSI sends an MSI to the ITS. taken is true if the guest's ITS configuration maps it to an
// interrupt.
func (vm *VM) SignalMSI(m MSI) (taken bool, err error) {
	arg := msi{
		addrLow:  uint32(m.Addr),
		addrHigh: uint32(m.Addr >> 32),
		data:     m.Data,
		flags:    msiValidDeviceID,
		device:   m.Device,
	}
	n, err := vm.callPtr("KVM_SIGNAL_MSI", signalMSI, unsafe.Pointer(&arg))
	// An ITS that is not enabled ignores the write (IHI 0069, GITS_CTLR.Enabled). KVM returns
	// EBUSY.
	if errors.Is(err, unix.EBUSY) {
		return false, nil
	}
	return n > 0, err
}

// maxRoutes is the greatest number of routes of SetRoutes. KVM supports more.
const maxRoutes = 1024

// Route is the target of a GSI, the number that an irqfd has: the MSI, or the SPI if MSI is nil.
type Route struct {
	GSI uint32
	SPI uint32
	MSI *MSI
}

// SetRoutes replaces all routes of the VM. A new VM has a route for each SPI, with the SPI's
// number.
func (vm *VM) SetRoutes(routes []Route) error {
	if len(routes) > maxRoutes {
		return fmt.Errorf("kvm: KVM_SET_GSI_ROUTING: %d routes: more than %d", len(routes), maxRoutes)
	}
	table := &routing{nr: uint32(len(routes))}
	for i, r := range routes {
		table.entries[i] = r.entry()
	}
	_, err := vm.callPtr("KVM_SET_GSI_ROUTING", setGSIRouting, unsafe.Pointer(table))
	return err
}

func (r Route) entry() route {
	if r.MSI == nil {
		return route{gsi: r.GSI, typ: routeIRQChip, chip: [2]uint32{0, r.SPI}}
	}
	return route{
		gsi: r.GSI, typ: routeMSI, flags: msiValidDeviceID,
		chip: [2]uint32{uint32(r.MSI.Addr), uint32(r.MSI.Addr >> 32)}, msi: [2]uint32{r.MSI.Data, r.MSI.Device},
	}
}

// Connect makes each signal of an eventfd, a pending one included, raise the GSI's interrupt. An
// eventfd can have one connection.
func (vm *VM) Connect(fd int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi})
}

// ConnectLevel connects an eventfd to a level-triggered SPI, which stays high until the guest has
// handled it. KVM then signals resample, so that the device can raise the interrupt again.
func (vm *VM) ConnectLevel(fd, resample int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi, flags: irqfdResample, resample: uint32(resample)})
}

// Disconnect undoes Connect and ConnectLevel. When it returns, no signal is in flight. Later
// signals stay in the eventfd.
func (vm *VM) Disconnect(fd int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi, flags: irqfdDeassign})
}

func (vm *VM) irqfd(arg irqfd) error {
	_, err := vm.callPtr("KVM_IRQFD", setIRQFD, unsafe.Pointer(&arg))
	return err
}
