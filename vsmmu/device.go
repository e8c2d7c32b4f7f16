// Package vsmmu is a virtual SMMUv3: the device that a guest's own driver
// programs as if it were hardware, and that has a host carry out what the guest
// says.
//
// A VMM makes a Device with New, hands the guest's loads and stores in its
// 128 KiB of registers to Load and Store, and attaches the guest's devices by
// their StreamIDs to a host: package bridge/iommufd for devices that are passed
// through, bridge/soft for those that the VMM emulates, or both. The ID
// registers come from package vsmmu/idr. The examples of this package and of
// bridge/iommufd put it all together.
//
// The device calls what it was given (Memory, Interrupts, the functions of Config,
// hosts) on the goroutine of whoever gave cause, a vCPU or an endpoint, or on its
// worker's, with locks of its own held. Nothing of that may call a method of the
// Device.
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
	// Memory is the guest's memory, where its tables and queues are. A
	// guestmem.Slots over the VMM's mappings will do.
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
	// it, and call Device.GuestWrote. It must be quick, not change the slice, and not
	// call back into the device.
	Watch func([]guestmem.Range)
	// Dirty, if not nil, is called for each range of guest memory that the device has written to,
	// right after the write: records of its queues, and MSIs that go to memory. It must be quick,
	// and not call back into the device. A VMM whose Memory is a guestmem.Tracked, for live
	// migration, needs no Dirty: the Tracked has these writes and the DMA of soft.Endpoints.
	Dirty func(guestmem.Range)
	// Trace is told what the device does. Device.Stats has counts without it.
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
	// ErrNotAttached: no endpoint has the StreamID.
	ErrNotAttached = errors.New("not attached")
	// ErrServiceFailure: the device is in Service Failure Mode (IHI 0070
	// §12.3), as a host takes neither a stage nor an abort.
	ErrServiceFailure = errors.New("vsmmu: service failure mode")
)

// Device is a virtual SMMUv3. All methods may be called from any goroutine.
//
// A store to CMDQ_PROD has its caller do a bounded part of the work: up to 256
// commands, with no more than two calls of hosts, or eight interrupts; only a host that
// fails costs more. The rest, and what other stores ask of hosts, is done by a worker
// goroutine, which Close ends. Loads and other stores wait for no host; the methods that
// are the embedder's own, Stage among them, wait for whatever call of a host is under
// way.
type Device struct {
	ids      *smmuv3.IDRegs
	commands *smmuv3.CommandSet
	mem      guestmem.Memory
	watch    func([]guestmem.Range)
	dirty    func(guestmem.Range)
	trace    Trace
	log      *slog.Logger
	limit    limiter
	stats    counters
	reset    *[numWords]uint32 // the registers' reset values

	// Locks are taken in this order: engine, regMu, eventq.mu, priq.mu, irq.mu. Only
	// under the first are hosts called, except that a page request may be answered
	// under none.

	// engine is held by whoever is the engine, see engine.go; what follows it
	// belongs to the engine.
	engine   sync.Mutex
	closed   bool
	streams  *trap.Streams
	admitted map[bridge.Host]*host // that have ever had a stream
	hosts    []*host               // that have one now
	owed     bool                  // to a host: a call at the next SYNC
	// atcTimeout is set while a SYNC has to tell that an ATC_INV timed out.
	atcTimeout bool
	// retrying is set while stalled transactions are being tried again.
	retrying bool
	watched  []guestmem.Range
	gbpa     smmuv3.GBPA  // in effect
	cmdq     smmuv3.Queue // in effect while CMDQEN is acknowledged
	failure  error        // why the device is in Service Failure Mode

	// regMu is held by stores of the guest but those to plain words, and where the
	// engine stores to a register that the guest may store to.
	regMu  sync.Mutex
	regs   registerFile
	access *[numWords]access
	sealed atomic.Bool // every register is zero for good

	refetches refetches

	eventq eventQueue
	priq   priQueue
	irq    interrupts

	failed  atomic.Bool // Service Failure Mode: failure is set
	refetch atomic.Bool // STEs whose fetch failed are to be fetched again
	pending atomic.Bool // the engine may have something to do
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

// New makes a device in its reset state, with no streams. The error matches ErrConfig.
func New(cfg Config) (*Device, error) {
	switch {
	case cfg.Memory == nil:
		return nil, fmt.Errorf("%w: no Memory", ErrConfig)
	case cfg.Interrupts == nil:
		return nil, fmt.Errorf("%w: no Interrupts", ErrConfig)
	case cfg.IDs == smmuv3.IDRegs{}:
		return nil, fmt.Errorf("%w: no IDs: idr.Derive makes them", ErrConfig)
	}
	if err := idr.CheckDevice(cfg.IDs); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	ids := cfg.IDs
	var gbpa smmuv3.GBPA
	if cfg.AbortAtReset {
		gbpa = smmuv3.GBPA_ABORT
	}
	d := &Device{
		ids:       &ids,
		commands:  smmuv3.NewCommandSet(ids),
		mem:       cfg.Memory,
		watch:     cfg.Watch,
		dirty:     cfg.Dirty,
		trace:     cfg.Trace,
		log:       cfg.Log,
		reset:     resetValues(&ids, gbpa),
		access:    accesses(&ids),
		streams:   trap.NewStreams(cfg.Memory, ids, cfg.Trace.Bind),
		admitted:  map[bridge.Host]*host{},
		gbpa:      gbpa,
		irq:       interrupts{out: cfg.Interrupts},
		eventq:    eventQueue{outputQueue: outputQueue{queueRegs: &eventqRegs}, stalls: newStalls(&ids)},
		priq:      priQueue{outputQueue: outputQueue{queueRegs: &priqRegs}, reader: trap.NewReader(cfg.Memory)},
		wake:      make(chan struct{}, 1),
		refetches: refetches{reader: trap.NewReader(cfg.Memory)},
		quit:      make(chan struct{}),
		done:      make(chan struct{}),
	}
	d.putRegisters(d.reset)
	_ = d.configure(false) // of no streams
	go d.work()
	return d, nil
}

// write writes to the guest's memory.
func (d *Device) write(p []byte, gpa guestmem.GPA) error {
	err := d.mem.WriteAt(p, gpa)
	if err == nil && d.dirty != nil {
		d.dirty(guestmem.Range{GPA: gpa, Len: uint64(len(p))})
	}
	return err
}

// putRegisters gives every register a value.
func (d *Device) putRegisters(values *[numWords]uint32) {
	d.regMu.Lock()
	defer d.regMu.Unlock()
	d.irq.mu.Lock()
	defer d.irq.mu.Unlock()
	for w, v := range values {
		d.regs.set(word(w), v)
	}
}

// seal makes every register zero for good.
func (d *Device) seal() {
	d.regMu.Lock()
	d.sealed.Store(true)
	d.regMu.Unlock()
	d.putRegisters(new([numWords]uint32))
}

// IDs are the ID registers that the guest reads.
func (d *Device) IDs() smmuv3.IDRegs { return *d.ids }

// Attach puts an endpoint of a host behind the SMMU, under the StreamID that
// the guest knows it by: before the guest starts, or at any time when a device is
// plugged in. On return the endpoint does what the guest's configuration says, or
// aborts if the host does not take that.
//
// It fails, and leaves everything as it was, if the StreamID does not fit
// IDR1.SIDSIZE, if it or the endpoint is in use (bridge.ErrInUse), if the host lacks
// something that the guest has been promised (idr.ErrHost, see idr.Satisfies), or if
// the host refuses the endpoint.
//
// Hosts are told apart by ==: h is a pointer, as a rule. The device keeps some 16 KiB
// for each host that it has met, until it is closed: endpoints that come and go are
// better attached to a host that stays.
func (d *Device) Attach(sid smmuv3.StreamID, h bridge.Host, ep bridge.Endpoint) error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		if uint64(sid)>>d.ids.Get(smmuv3.SIDSIZE) != 0 {
			return fmt.Errorf("vsmmu: attach stream %v: beyond IDR1.SIDSIZE %d", sid, d.ids.Get(smmuv3.SIDSIZE))
		}
		host, err := d.admit(h)
		if err != nil {
			return fmt.Errorf("vsmmu: attach stream %v: %w", sid, err)
		}
		st, err := d.streams.Attach(sid, host, ep)
		if err != nil {
			return fmt.Errorf("vsmmu: attach stream %v: %w", sid, err)
		}
		d.enlist(host, st)
		d.tellWatch()
		return nil
	})
}

// Detach takes an endpoint from behind the SMMU, and waits for its DMA under way: the
// caller holds nothing that the endpoint needs to finish. The StreamID may be
// attached again. The error matches ErrNotAttached if it was not; any other is the
// host's, which may then keep the StreamID and the endpoint, but the device has none
// any more.
func (d *Device) Detach(sid smmuv3.StreamID) error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		if err := d.detach(sid); err != nil {
			return fmt.Errorf("vsmmu: detach stream %v: %w", sid, err)
		}
		d.tellWatch()
		return nil
	})
}

func (d *Device) detach(sid smmuv3.StreamID) error {
	st := d.streams.Get(sid)
	if st == nil {
		return ErrNotAttached
	}
	if !d.failed.Load() {
		// What has been gathered may name the stream, and the host will not
		// know it any more.
		d.flushHost(hostOf(st))
	}
	d.endStalled(st)
	err := d.streams.Detach(st)
	d.strike(sid) // what has stalled since: the next stream of that name is another
	d.discharge(hostOf(st))
	return err
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
// the guest's is left on any host. Streams stay attached, and those that
// Service Failure Mode cut off are attached again. If hosts do not let that come
// true, the error says so: a stream aborts that was to bypass, or no stream of a host
// will translate until a later SYNC finds that it has dropped what it held. If it
// matches ErrServiceFailure not even that could be had, and the device is in Service
// Failure Mode.
//
// A VMM that resets its machine stops the vCPUs and resets the endpoints first: at
// reset DMA bypasses stage 1, without Config.AbortAtReset.
func (d *Device) Reset() error {
	return d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		d.setEventQueue(false)
		d.setPRIQueue(false)
		d.failed.Store(false)
		d.failure = nil
		d.putRegisters(d.reset)
		d.gbpa = smmuv3.GBPA(d.reset[wGBPA])
		for _, st := range d.streams.All() {
			if err := d.streams.Reattach(st); err != nil {
				d.fail(streamError("reset", st, err))
			}
		}
		// Away from the guest's tables first: while a stream still used them,
		// the host would cache again what it is to drop.
		err := d.configure(false)
		d.endAllStalled()
		for _, h := range d.hosts {
			if !d.failed.Load() {
				err = errors.Join(err, d.makeGood(h))
			}
		}
		d.atcTimeout = false // the next guest has asked for nothing
		if d.failed.Load() {
			return d.failure
		}
		return err
	})
}

// Close detaches every stream and ends the device, which from then on reads as
// zero and ignores stores. Hosts are left to those who made them, and closed after
// the device.
func (d *Device) Close() error {
	err := d.locked(func() error {
		if d.closed {
			return ErrClosed
		}
		d.closed = true
		d.setEventQueue(false)
		d.setPRIQueue(false)
		var errs []error
		for len(d.streams.All()) != 0 {
			errs = append(errs, d.detach(d.streams.All()[0].ID))
		}
		for _, h := range d.admitted {
			errs = append(errs, d.release(h))
		}
		d.seal() // after the last that may store to GERROR
		close(d.quit)
		return errors.Join(errs...)
	})
	if errors.Is(err, ErrClosed) {
		return err
	}
	<-d.done
	return err
}
