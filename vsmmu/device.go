// Package vsmmu is a virtual SMMUv3: the device that a guest's own driver
// programs as if it were hardware, and that has a host carry out what the guest
// says.
//
// A VMM makes a Device with New, hands the guest's loads and stores in its
// 128 KiB of registers to Load and Store, and attaches the guest's devices by
// their StreamIDs to a host: package bridge/iommufd for devices that are passed
// through, bridge/soft for those that the VMM emulates, or both. The ID
// registers come from package vsmmu/idr.
//
// Sections cited as "§6.3.9" are of Arm's specification, IHI 0070.
package vsmmu

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// Config is what a Device is made of.
type Config struct {
	// IDs are the ID registers that the guest reads, as idr.Derive gives them.
	// They never change.
	IDs smmuv3.IDRegs
	// Memory is the guest's memory, where its tables and queues are.
	Memory guestmem.Memory
	// Interrupts takes the device's interrupts to the guest.
	Interrupts Interrupts
	// AbortAtReset has DMA abort, rather than bypass, from reset until the
	// guest's driver says otherwise (GBPA.ABORT, §6.3.14: the architecture
	// leaves it to the implementation). Guests that boot from a disk behind the
	// SMMU with a firmware that has no driver for it need it to bypass.
	AbortAtReset bool
	// Watch, if not nil, is told where in guest memory the configuration of the
	// attached streams lies, each time that changes: for VMMs that write-protect
	// it, and call Device.GuestWrote. It must not call back into the device.
	Watch func([]guestmem.Range)
	// Trace is told what the device does.
	Trace Trace
	// Log takes what no caller can be told, at a limited rate. nil for none.
	Log *slog.Logger
}

// Errors of a Device's methods.
var (
	// ErrConfig: New was given something that it cannot work with.
	ErrConfig = errors.New("vsmmu: configuration")
	// ErrClosed: the device has been closed.
	ErrClosed = errors.New("vsmmu: device is closed")
)

// Device is a virtual SMMUv3. All methods may be called from any goroutine.
//
// A store that makes work has its caller do a bounded part of it: up to 256
// commands that need no host, or 16 that do. The rest is done by a worker
// goroutine, which Close ends.
type Device struct {
	ids            *smmuv3.IDRegs
	mem            guestmem.Memory
	watch          func([]guestmem.Range)
	trace          Trace
	log            *slog.Logger
	limit          limiter
	stats          counters
	resetGBPA      smmuv3.GBPA
	identification [12]uint32
	access         *[numWords]access

	// Locks are taken in this order: engine, regMu, eventq.mu, irq.mu, errMu.
	// Only under the first are hosts called.

	// engine is held by whoever is the engine, see engine.go; what follows it
	// belongs to the engine.
	engine  sync.Mutex
	closed  bool
	streams *trap.Streams
	hosts   []*host
	watched []guestmem.Range
	gbpa    smmuv3.GBPA  // in effect
	cmdq    smmuv3.Queue // in effect while CMDQEN is acknowledged

	// regMu is held by stores of the guest, and where the engine stores to a
	// register that the guest may store to.
	regMu sync.Mutex
	regs  registerFile

	eventq eventQueue
	irq    interrupts
	errMu  sync.Mutex // GERROR and GERRORN

	failed  atomic.Bool // Service Failure Mode
	refetch atomic.Bool // a host has met an STE that could not be fetched
	pending atomic.Bool // the engine may have something to do
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

// New makes a device in its reset state, with no streams.
func New(cfg Config) (*Device, error) {
	switch {
	case cfg.Memory == nil:
		return nil, fmt.Errorf("%w: no Memory", ErrConfig)
	case cfg.Interrupts == nil:
		return nil, fmt.Errorf("%w: no Interrupts", ErrConfig)
	}
	if err := idr.Check(cfg.IDs); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ids := cfg.IDs
	d := &Device{
		ids:            &ids,
		mem:            cfg.Memory,
		watch:          cfg.Watch,
		trace:          cfg.Trace,
		log:            cfg.Log,
		identification: identification(&ids),
		access:         accesses(&ids),
		streams:        trap.NewStreams(cfg.Memory, ids, cfg.Trace.Bind),
		wake:           make(chan struct{}, 1),
		quit:           make(chan struct{}),
		done:           make(chan struct{}),
	}
	d.irq.out = cfg.Interrupts
	if cfg.AbortAtReset {
		d.resetGBPA = smmuv3.GBPAAbort
	}
	d.resetRegisters()
	d.configure(false)
	go d.work()
	return d, nil
}

// resetRegisters gives every register its reset value (§3.11). Where that is
// UNKNOWN it is zero.
func (d *Device) resetRegisters() {
	d.regMu.Lock()
	defer d.regMu.Unlock()
	for w := range d.regs {
		d.regs.set(word(w), 0)
	}
	for i, v := range d.ids.IDR {
		d.regs.set(word(smmuv3.RegIDR0/4+i), v)
	}
	d.regs.set(smmuv3.RegIIDR/4, d.ids.IIDR)
	d.regs.set(smmuv3.RegAIDR/4, d.ids.AIDR)
	d.regs.set(wGBPA, uint32(d.resetGBPA))
	d.gbpa = d.resetGBPA
}

// IDs are the ID registers that the guest reads.
func (d *Device) IDs() smmuv3.IDRegs { return *d.ids }

// Attach puts an endpoint of a host behind the SMMU, under the StreamID that
// the guest knows it by. On return the endpoint does what the guest's
// configuration says, or aborts if the host does not take that.
//
// It fails, and leaves everything as it was, if the StreamID does not fit
// IDR1.SIDSIZE or is in use, if the host lacks something that the guest has
// been promised (see idr.Satisfies), or if the host refuses the endpoint.
func (d *Device) Attach(sid smmuv3.StreamID, h bridge.Host, ep bridge.Endpoint) error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		if uint64(sid)>>d.ids.Get(smmuv3.SIDSIZE) != 0 {
			return fmt.Errorf("vsmmu: attach of stream %v: beyond IDR1.SIDSIZE %d", sid, d.ids.Get(smmuv3.SIDSIZE))
		}
		if err := d.admit(h); err != nil {
			return fmt.Errorf("vsmmu: attach of stream %v: %w", sid, err)
		}
		st, err := d.streams.Attach(sid, h, ep)
		if err != nil {
			return fmt.Errorf("vsmmu: %w", err)
		}
		if d.failed.Load() {
			return nil // attached streams abort
		}
		d.refresh(st)
		d.tellWatch()
		return nil
	})
}

// admit takes a host in, if it is not in already.
func (d *Device) admit(h bridge.Host) error {
	if d.hostOf(h) != nil {
		return nil
	}
	caps, err := h.Capabilities()
	if err != nil {
		return fmt.Errorf("capabilities of the host: %w", err)
	}
	if err := idr.Satisfies(caps, *d.ids); err != nil {
		return err
	}
	h.Events(d.hostEvent)
	d.hosts = append(d.hosts, &host{Host: h})
	return nil
}

// Detach takes an endpoint from behind the SMMU. The StreamID may be attached
// again.
func (d *Device) Detach(sid smmuv3.StreamID) error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		if err := d.streams.Detach(sid); err != nil {
			return fmt.Errorf("vsmmu: %w", err)
		}
		d.tellWatch()
		return nil
	})
}

// Stage is what a stream does at the moment; ok is false if it is not attached.
func (d *Device) Stage(sid smmuv3.StreamID) (stage bridge.GuestStage, ok bool) {
	_ = d.locked(func() error {
		if st := d.streams.Get(sid); st != nil {
			stage, ok = st.Stage(), true
		}
		return nil
	})
	return stage, ok
}

// Reset puts the device into its reset state, as the guest's machine being
// reset does: every stream does what GBPA says at reset, and no translation of
// the guest's is left on any host. Streams stay attached.
func (d *Device) Reset() error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		d.setEventQueue(false)
		d.failed.Store(false)
		d.resetRegisters()
		d.configure(false)
		for _, h := range d.hosts {
			h.suspect = false
			d.makeGood(h)
		}
		return nil
	})
}

// Close detaches every stream and ends the device, which from then on reads as
// zero and ignores stores. Hosts are left to those who made them.
func (d *Device) Close() error {
	err := d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		d.closed = true
		d.setEventQueue(false)
		var errs []error
		for len(d.streams.All()) != 0 {
			errs = append(errs, d.streams.Detach(d.streams.All()[0].ID))
		}
		close(d.quit)
		return errors.Join(errs...)
	})
	if errors.Is(err, ErrClosed) {
		return err
	}
	<-d.done
	return err
}
