package vsmmu

import (
	"errors"
	"fmt"
	"io"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// NumLines is the number of Lines.
const NumLines = int(LineGError) + 1

// lastSPI is the last SPI of a GIC, counted from 0: INTID 1019 (IHI 0069 §2.2.1).
const lastSPI = 1019 - 32

// SPIs returns Interrupts that signal on four consecutive SPIs of the GIC, from base on, in the
// order of the Lines. firmware.SMMU.WithSPIs gives the guest the same numbers. SPIs count from 0 as
// in a device tree: SPI n is INTID n+32, and gsi n of KVM's default routing for irqfds.
//
// An edge is two calls of set: level true, then false. On KVM, set is KVM_IRQ_LINE, whose interrupt
// number is spi+32. set may be called from any goroutine, several at a time, and does not wait for
// the guest.
//
// unwired are lines that have no SPI: Pulse does nothing for them. Omit LineCmdSync if IDR0.MSI is
// 1: a guest that waits for messages would else cost two calls of set for every CMD_SYNC. Set
// firmware.SMMU.NoCmdSync as well.
//
// There is no controller for MSIs: SignalMSI fails. WithMSI adds one. New refuses Interrupts whose
// set is nil or whose SPIs do not exist.
func SPIs(base uint32, set func(spi uint32, level bool) error, unwired ...Line) Interrupts {
	w := &spis{base: base, set: set}
	for i := range w.wired {
		w.wired[i] = true
	}
	for _, l := range unwired {
		if int(l) >= NumLines {
			w.invalid = fmt.Errorf("SPIs without %v, which is not a Line", l)
			return w
		}
		w.wired[l] = false
	}
	switch last := uint64(base) + uint64(NumLines) - 1; {
	case set == nil:
		w.invalid = errors.New("SPIs with a nil set")
	case last > lastSPI:
		w.invalid = fmt.Errorf("SPIs %d to %d: a GIC has SPIs 0 to %d", base, last, lastSPI)
	}
	return w
}

type spis struct {
	noMSI
	base    uint32
	set     func(spi uint32, level bool) error
	wired   [NumLines]bool
	invalid error
}

func (w *spis) check() error { return w.invalid }

func (w *spis) Pulse(l Line) error {
	if !w.wired[l] {
		return nil
	}
	spi := w.base + uint32(l)
	// The line must fall even after an error: otherwise it would give no further edge.
	return errors.Join(w.set(spi, true), w.set(spi, false))
}

// EventFDs returns Interrupts that signal by eventfds, such as KVM's irqfds: an edge is a write of
// the 8-byte number 1. A nil entry is a line without a wire. On KVM, KVM_IRQFD connects each fd to
// the gsi that is the line's SPI, counted from 0: see SPIs and firmware.SMMU.WithSPIs.
//
// An entry usually is an *os.File. Its Write may be called from any goroutine, and does not block:
// an eventfd blocks only after 2^64-2 edges that no one has read. MSIs fail, as with SPIs. New
// refuses entries that hold a nil pointer, and Interrupts without any entry.
func EventFDs(fds [NumLines]io.Writer) Interrupts {
	w := &eventFDs{fds: fds, invalid: errors.New("EventFDs without any")}
	for l, fd := range fds {
		switch {
		case fd == nil:
		case nilcheck.IsNil(fd):
			w.invalid = fmt.Errorf("EventFDs whose %v is a nil %T", Line(l), fd)
			return w
		default:
			w.invalid = nil
		}
	}
	return w
}

type eventFDs struct {
	noMSI
	fds     [NumLines]io.Writer
	invalid error
}

func (w *eventFDs) check() error { return w.invalid }

// one is the number 1 in the form that an eventfd expects. Its writers do not change it.
var one = []byte{1, 0, 0, 0, 0, 0, 0, 0}

func (w *eventFDs) Pulse(l Line) error {
	fd := w.fds[l]
	if fd == nil {
		return nil
	}
	if _, err := fd.Write(one); err != nil {
		return fmt.Errorf("eventfd of %v: %w", l, err)
	}
	return nil
}

// WithMSI returns Interrupts that pulse the lines of i, and send MSIs of the SMMU by signal. It has
// the contract of Interrupts.SignalMSI. The guest sends MSIs only if IDR0.MSI is 1: see idr.Policy.
func WithMSI(i Interrupts, signal func(addr guestmem.GPA, data uint32) error) Interrupts {
	return &withMSI{i, signal}
}

type withMSI struct {
	Interrupts
	signal func(guestmem.GPA, uint32) error
}

func (w *withMSI) SignalMSI(addr guestmem.GPA, data uint32) error { return w.signal(addr, data) }

func (w *withMSI) check() error {
	if w.signal == nil {
		return errors.New("WithMSI with a nil signal")
	}
	if err := checkInterrupts(w.Interrupts); err != nil {
		return fmt.Errorf("WithMSI of %w", err)
	}
	return nil
}

// noMSI is the part of Interrupts without a controller for MSIs. The error is one value, since a
// guest can cause it at any rate.
type noMSI struct{}

var errNoMSI = fmt.Errorf("no controller for MSIs (see WithMSI): %w", guestmem.ErrUnmapped)

func (noMSI) SignalMSI(guestmem.GPA, uint32) error { return errNoMSI }

// checkInterrupts returns an error for Interrupts that cannot signal anything. The error describes
// them.
func checkInterrupts(i Interrupts) error {
	if i == nil {
		return errors.New("nil")
	}
	if nilcheck.IsNil(i) {
		return fmt.Errorf("a nil %T", i)
	}
	if c, ok := i.(interface{ check() error }); ok {
		return c.check()
	}
	return nil
}
