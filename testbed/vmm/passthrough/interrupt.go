//go:build linux && (amd64 || arm64)

package passthrough

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

// interrupts is the state of the device's interrupts. At most one mode is enabled at a time.
type interrupts struct {
	mode    mode
	pin     bool // the device has INTx
	msix    msix
	vectors []vector // in modeMSIX
	line    vector   // in modeINTx
	unmask  int      // in modeINTx: the eventfd that unmasks INTx at the device
}

type mode uint8

const (
	modeNone mode = iota
	modeINTx
	modeMSIX
)

// vector is an interrupt of the device, which signals an eventfd.
type vector struct {
	eventfd int
	undo    func() error // disconnects the eventfd from the guest; nil if it is not connected
	data    uint32       // the MSI data of the connection
}

// examineInterrupts finds the device's interrupts.
func (d *Device) examineInterrupts(config *[256]byte) error {
	if d.phys.IRQs(vfio.INTx) > 0 && config[pci.RegIntPin] != 0 {
		d.intr.pin = true
		d.space.own[pci.RegIntPin] = 1 // INTA#
	}
	if d.space.msix == 0 {
		return nil
	}
	if d.space.msix+msixSize > uint32(len(config)) {
		return fmt.Errorf(
			"%w: its MSI-X capability at %#x extends past the configuration space",
			ErrDevice,
			d.space.msix,
		)
	}
	vectors := int(binary.LittleEndian.Uint16(config[d.space.msix+msixControl:])&pci.MSIXTableSize) + 1
	if have := d.phys.IRQs(vfio.MSIX); have < vectors {
		return fmt.Errorf("%w: the host supports %d of its %d MSI-X vectors", ErrDevice, have, vectors)
	}
	m := &d.intr.msix
	m.table = pci.NewMSIX(vectors)
	m.place(d.space.msix, config)
	m.isPending = func(i int) bool { return i < len(d.intr.vectors) && d.intr.vectors[i].pending() }
	for _, s := range [][2]uint64{{uint64(m.bar), m.at.end()}, {uint64(m.pendingBAR), m.pending.end()}} {
		if s[0] >= pci.NumBARs || s[1] > d.bars.Size(int(s[0])) {
			return fmt.Errorf("%w: its MSI-X table or pending bits extend past their BAR", ErrDevice)
		}
	}
	return nil
}

// updateInterrupts enables the mode that the guest configured.
func (d *Device) updateInterrupts() {
	want := modeNone
	switch m := d.intr.msix.table; {
	case m != nil && m.Enabled():
		want = modeMSIX
	case d.intr.pin && d.space.command&pci.CommandINTxDisable == 0:
		want = modeINTx
	}
	if want != d.intr.mode {
		if err := d.setMode(want); err != nil {
			d.complain("enable interrupts; the device has none", err)
		}
	}
	d.connectVectors()
}

// setMode disables the current mode and enables another. After an error, no mode is enabled.
func (d *Device) setMode(want mode) error {
	var err error
	switch d.intr.mode {
	case modeINTx:
		err = d.disableINTx()
	case modeMSIX:
		err = d.disableMSIX()
	}
	d.intr.mode = modeNone
	if err == nil {
		switch want {
		case modeINTx:
			err = d.enableINTx()
		case modeMSIX:
			err = d.enableMSIX()
		}
	}
	if err == nil {
		d.intr.mode = want
	}
	return err
}

func newEventfd() (int, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("eventfd: %w", err)
	}
	return fd, nil
}

func (d *Device) enableINTx() (err error) {
	in := &d.intr
	if in.line.eventfd, err = newEventfd(); err != nil {
		return err
	}
	if in.unmask, err = newEventfd(); err != nil {
		return errors.Join(err, unix.Close(in.line.eventfd))
	}
	if in.line.undo, err = d.machine.ConnectINTx(in.line.eventfd, in.unmask); err == nil {
		err = d.phys.EnableINTx(int32(in.line.eventfd), int32(in.unmask))
	}
	if err != nil {
		return errors.Join(err, d.closeINTx())
	}
	return nil
}

func (d *Device) disableINTx() error {
	return errors.Join(d.phys.Disable(vfio.INTx), d.closeINTx())
}

func (d *Device) closeINTx() error {
	return errors.Join(d.intr.line.disconnect(), unix.Close(d.intr.line.eventfd), unix.Close(d.intr.unmask))
}

func (d *Device) enableMSIX() (err error) {
	in := &d.intr
	in.vectors = make([]vector, 0, in.msix.table.Vectors())
	fds := make([]int32, 0, cap(in.vectors))
	for range cap(in.vectors) {
		fd, err := newEventfd()
		if err != nil {
			return errors.Join(err, d.closeVectors())
		}
		in.vectors = append(in.vectors, vector{eventfd: fd})
		fds = append(fds, int32(fd))
	}
	// All vectors at once: not every host can add vectors later.
	if err := d.phys.EnableMSIX(fds); err != nil {
		return errors.Join(err, d.closeVectors())
	}
	return nil
}

func (d *Device) disableMSIX() error {
	return errors.Join(d.phys.Disable(vfio.MSIX), d.closeVectors())
}

func (d *Device) closeVectors() (err error) {
	for i := range d.intr.vectors {
		v := &d.intr.vectors[i]
		err = errors.Join(err, v.disconnect(), unix.Close(v.eventfd))
	}
	d.intr.vectors = nil
	return err
}

// connectVectors connects the vectors that are not masked, and disconnects the others.
func (d *Device) connectVectors() {
	for i := range d.intr.vectors {
		d.updateVector(i)
	}
}

func (d *Device) disconnectVectors() {
	for i := range d.intr.vectors {
		if err := d.intr.vectors[i].disconnect(); err != nil {
			d.complain("connect vector", err)
		}
	}
}

// updateVector connects vector i with the data that the guest programmed, if it is not masked.
//
// It ignores the address. The address belongs to the device's DMA, so only the SMMU can translate
// it, and the machine has one doorbell. The guest can raise only the interrupts that its ITS has
// for this device.
func (d *Device) updateVector(i int) {
	if i >= len(d.intr.vectors) {
		return // MSI-X is not enabled
	}
	v, table := &d.intr.vectors[i], d.intr.msix.table
	live, data := table.Live(i), table.Data(i)
	if live && v.undo != nil && v.data == data {
		return
	}
	// A signal from here on stays in the eventfd until the next connection: it is pending.
	err := v.disconnect()
	if err == nil && live {
		err = v.connect(d.machine, uint32(d.requester), data)
	}
	if err != nil {
		d.complain("connect vector", err)
	}
}

func (v *vector) connect(m Machine, deviceID, data uint32) (err error) {
	v.undo, err = m.ConnectMSI(v.eventfd, deviceID, data)
	v.data = data
	return err
}

func (v *vector) disconnect() error {
	if v.undo == nil {
		return nil
	}
	undo := v.undo
	v.undo = nil
	return undo()
}

// pending reports whether the eventfd was signalled while the vector is not connected.
func (v *vector) pending() bool {
	poll := []unix.PollFd{{Fd: int32(v.eventfd), Events: unix.POLLIN}}
	n, err := unix.Poll(poll, 0)
	return v.undo == nil && err == nil && n > 0
}
