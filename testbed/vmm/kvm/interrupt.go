//go:build linux && (amd64 || arm64)

package kvm

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SetSPI drives the line of shared peripheral interrupt spi, counted from 0 as device trees do. For an edge-triggered
// interrupt the rise is what counts.
func (vm *VM) SetSPI(spi uint32, level bool) error {
	const firstSPI = 32
	line := irqLevel{irq: irqTypeSPI | (spi + firstSPI)}
	if level {
		line.level = 1
	}
	_, err := vm.callPtr("KVM_IRQ_LINE", irqLine, unsafe.Pointer(&line))
	return err
}

// MSI is a message signalled interrupt: a write of Data to Addr, which is to be an ITS's doorbell, by the device that the ITS
// knows as Device.
type MSI struct {
	Addr   uint64
	Data   uint32
	Device uint32 // DeviceID, of 16 bits
}

// SignalMSI has the ITS take one MSI. It reports whether an interrupt came of it: the guest decides which do.
func (vm *VM) SignalMSI(m MSI) (taken bool, err error) {
	arg := msi{addrLow: uint32(m.Addr), addrHigh: uint32(m.Addr >> 32), data: m.Data, flags: msiValidDeviceID, device: m.Device}
	n, err := vm.callPtr("KVM_SIGNAL_MSI", signalMSI, unsafe.Pointer(&arg))
	// An ITS that is not enabled ignores the write (IHI 0069, GITS_CTLR.Enabled), which KVM answers with an error.
	if errors.Is(err, unix.EBUSY) {
		return false, nil
	}
	return n > 0, err
}

// maxRoutes is the most that one request of SetRoutes takes here; KVM has room for more.
const maxRoutes = 1024

// Route says what a GSI, the number that an IRQFD is connected to, stands for: an SPI, or with MSI set that.
type Route struct {
	GSI uint32
	SPI uint32
	MSI *MSI
}

// SetRoutes replaces all routes of the VM. Without a call of it each SPI has the route of its number.
func (vm *VM) SetRoutes(routes []Route) error {
	if len(routes) > maxRoutes {
		return fmt.Errorf("kvm: KVM_SET_GSI_ROUTING: %d routes are more than %d", len(routes), maxRoutes)
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

// Connect has each signal of an eventfd raise what the GSI stands for, from one that is pending on. The eventfd may be
// connected once.
func (vm *VM) Connect(fd int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi})
}

// ConnectLevel is Connect for a level-triggered SPI: it stays up until the guest has handled it, and then resample is signalled,
// for whoever drives the line to raise it again if there is still a reason.
func (vm *VM) ConnectLevel(fd, resample int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi, flags: irqfdResample, resample: uint32(resample)})
}

// Disconnect undoes Connect and ConnectLevel. Signals under way have been delivered when it returns, and later ones stay in
// the eventfd.
func (vm *VM) Disconnect(fd int, gsi uint32) error {
	return vm.irqfd(irqfd{fd: uint32(fd), gsi: gsi, flags: irqfdDeassign})
}

func (vm *VM) irqfd(arg irqfd) error {
	_, err := vm.callPtr("KVM_IRQFD", setIRQFD, unsafe.Pointer(&arg))
	return err
}
