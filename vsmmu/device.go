package vsmmu

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// Config configures a Device. IDs, Memory and Interrupts are required.
type Config struct {
	// IDs are the ID registers that the guest reads, as idr.Derive returns them. They never change.
	IDs smmuv3.IDRegs
	// Memory is the guest's memory, where its tables and queues are: a guestmem.Slots over the
	// VMM's mappings, for example.
	Memory guestmem.Memory
	// Interrupts signals the device's interrupts to the guest.
	Interrupts Interrupts
	// AbortAtReset makes DMA abort, rather than bypass, from reset until the guest's driver
	// configures the SMMU (GBPA.ABORT, §6.3.14, an IMPLEMENTATION DEFINED choice). A guest that
	// boots from a disk behind the SMMU needs bypass if its firmware has no driver for the SMMU.
	AbortAtReset bool
	// Watch, if not nil, gets the ranges of guest memory that hold the configuration of the
	// attached streams, each time they change. It is for VMMs that write-protect these ranges and
	// call Device.GuestWrote. It must return quickly and must not change the slice.
	Watch func([]guestmem.Range)
	// Dirty, if not nil, gets each range of guest memory that the device has written to, right
	// after the write: records of its queues, and MSIs that go to memory. It must return quickly. A
	// VMM whose Memory is a guestmem.Tracked needs no Dirty: the Tracked accounts for these writes.
	Dirty func(guestmem.Range)
	// Trace observes the device. Device.Stats does not need it.
	Trace Trace
	// Log gets the errors that no method returns, at a limited rate. It may be nil.
	Log *slog.Logger
	// CheckReentry is for tests. It makes a callback panic if it calls a method of the device that
	// callbacks must not call (see Duties of the embedder). The message names the callback and the
	// method. It does not detect a callback that makes DMA, which hangs. The check makes every
	// callback and method slower.
	CheckReentry bool
}

// Sentinel errors. The errors of a Device's methods match them with errors.Is.
var (
	// ErrConfig means that the Config of New, or the StreamID or the host of Attach, is invalid.
	ErrConfig = errors.New("invalid configuration")
	// ErrClosed means that the device is closed. It matches bridge.ErrClosed.
	ErrClosed = fmt.Errorf("device %w", bridge.ErrClosed)
	// ErrNotAttached means that no endpoint is attached with the StreamID.
	ErrNotAttached = errors.New("not attached")
	// ErrNotReset means that the device is not in its reset state, which Restore requires.
	ErrNotReset = errors.New("device is not in its reset state")
	// ErrServiceFailure means that the device is in Service Failure Mode (§12.3): a host failed to
	// bind a stage, and then failed to make the stream abort.
	ErrServiceFailure = errors.New("service failure mode")
)

// Device is a virtual SMMUv3. All methods may be called from any goroutine, but not from a
// callback: see Duties of the embedder.
//
// A store to CMDQ_PROD executes commands on its caller's goroutine, up to a bound: 256 commands,
// with at most two calls of hosts, or eight interrupts. Only a host that fails costs more. A worker
// goroutine executes the rest, and makes the host calls that other stores cause. Close ends the
// worker. Loads and other stores wait for no host. The methods for the embedder, Stage included,
// wait for a host call in progress.
type Device struct {
	ids      *smmuv3.IDRegs
	commands *smmuv3.CommandSet
	mem      guestmem.WordMemory
	watch    func([]guestmem.Range)
	dirty    func(guestmem.Range)
	trace    Trace
	log      *slog.Logger
	limit    limiter
	stats    counters
	reset    *[numWords]uint32 // the registers' reset values
	reentry  *reentry          // nil without Config.CheckReentry

	// From ids, for paths that are too hot to decode them.
	stage1, ats, msi bool   // IDR0.S1P, ATS, MSI
	outputMask       uint64 // of IDR5.OAS

	// The lock order is: engine, regMu, eventq.mu, priq.mu, irq.mu. Hosts are called with engine
	// held and no other lock. A page request may be answered with no lock held.

	// engine guards the following fields up to failure. The goroutine that holds it is the engine:
	// see engine.go.
	engine     sync.Mutex
	closed     bool
	restored   bool // since New or Reset
	streams    *trap.Streams
	registered map[bridge.Host]*host // claimed by this device
	claims     []*host               // the same in order; kept by Close, for Stats
	counts     engineCounts
	hosts      []*host // of these, the ones with streams
	owed       bool    // the next SYNC calls a host
	atcTimeout bool    // the next SYNC reports that an ATC_INV timed out
	retrying   bool    // stalled transactions are being retried
	watched    []guestmem.Range
	gbpa       smmuv3.GBPA         // in effect
	cmdq       smmuv3.Queue        // in effect while CMDQEN is acknowledged
	fetched    *[2 * runMax]uint64 // commands, for the engine to check and execute
	failure    error               // why the device is in Service Failure Mode

	// The guest's stores hold regMu, except those to plain words. The engine holds it where it
	// stores to a register that the guest may store to.
	regMu  sync.Mutex
	regs   registerFile
	access *[numWords]access
	sealed atomic.Bool // every register is zero for good

	refetches refetches

	eventq eventQueue
	priq   priQueue
	irq    interrupts

	failed  atomic.Bool // Service Failure Mode: failure is set
	refetch atomic.Bool // the engine refetches the STEs whose fetch failed
	pending atomic.Bool // the engine may have something to do
	wake    chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

// New makes a device in its reset state, without streams. An error matches ErrConfig.
func New(cfg Config) (*Device, error) {
	if err := checkConfig(&cfg); err != nil {
		return nil, fmt.Errorf("vsmmu: new device: %w: %w", ErrConfig, err)
	}
	ids := cfg.IDs
	var gbpa smmuv3.GBPA
	if cfg.AbortAtReset {
		gbpa = smmuv3.GBPA_ABORT
	}
	var check *reentry
	if cfg.CheckReentry {
		check = new(reentry)
		check.watchCallbacks(&cfg)
	}
	d := &Device{
		ids:        &ids,
		commands:   smmuv3.NewCommandSet(ids),
		mem:        guestmem.NewWordMemory(cfg.Memory),
		stage1:     ids.Has(smmuv3.S1P),
		ats:        ids.Has(smmuv3.ATS),
		msi:        ids.Has(smmuv3.MSI),
		outputMask: ids.OutputMask(),
		watch:      cfg.Watch,
		dirty:      cfg.Dirty,
		trace:      cfg.Trace,
		log:        cfg.Log,
		reset:      resetValues(&ids, gbpa),
		reentry:    check,
		access:     accesses(&ids),
		registered: map[bridge.Host]*host{},
		gbpa:       gbpa,
		irq:        interrupts{out: cfg.Interrupts},
		eventq:     eventQueue{outputQueue: outputQueue{queueRegs: &eventqRegs}, stalls: newStalls(&ids)},
		priq:       priQueue{outputQueue: outputQueue{queueRegs: &priqRegs}, reader: trap.NewReader(cfg.Memory)},
		wake:       make(chan struct{}, 1),
		refetches:  refetches{reader: trap.NewReader(cfg.Memory)},
		fetched:    new([2 * runMax]uint64),
		quit:       make(chan struct{}),
		done:       make(chan struct{}),
	}
	d.streams = trap.NewStreams(cfg.Memory, ids, d.bound)
	d.eventq.d, d.priq.d = d, d
	d.putRegisters(d.reset)
	_ = d.configure(false) // of no streams
	go d.work()
	return d, nil
}

func checkConfig(cfg *Config) error {
	switch {
	case cfg.Memory == nil:
		return errors.New("Config.Memory is nil")
	case nilcheck.IsNil(cfg.Memory):
		return fmt.Errorf("Config.Memory is a nil %T", cfg.Memory)
	case cfg.IDs == smmuv3.IDRegs{}:
		return errors.New("Config.IDs are zero (use idr.Derive)")
	}
	if m, ok := cfg.Memory.(guestmem.Mapper); ok && m.Sections() == nil {
		return fmt.Errorf("Config.Memory is a %T whose Sections are nil", cfg.Memory)
	}
	if err := checkInterrupts(cfg.Interrupts); err != nil {
		return fmt.Errorf("Config.Interrupts is %w", err)
	}
	return idr.CheckDevice(cfg.IDs)
}

// errNotMade is the error of a nil or zero Device.
var errNotMade = errors.New("device was not made by vsmmu.New")

// do runs a method for the embedder as the engine. It fails with ErrClosed if the device is closed.
func (d *Device) do(method string, f func() error) error {
	if d == nil || d.ids == nil {
		return errNotMade
	}
	d.enter(method)
	d.engine.Lock()
	defer d.engine.Unlock()
	if d.closed {
		return ErrClosed
	}
	return f()
}

// opError adds the operation and its object to a method's error.
func opError(err error, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("vsmmu: %s: %w", fmt.Sprintf(format, a...), err)
}

// wrote reports a write to guest memory to Config.Dirty.
func (d *Device) wrote(gpa guestmem.GPA, n int) {
	if d.dirty != nil {
		d.dirty(guestmem.Range{GPA: gpa, Len: uint64(n)})
	}
}

// putRegisters sets every register.
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

// IDs returns the ID registers that the guest reads.
func (d *Device) IDs() smmuv3.IDRegs {
	if d == nil || d.ids == nil {
		return smmuv3.IDRegs{}
	}
	return *d.ids
}

// Attach puts an endpoint of a host behind the SMMU, under the guest's StreamID for it. Call it
// before the guest starts, or when a device is plugged in. On return the endpoint follows the
// guest's configuration. If the host refuses the configuration, the endpoint aborts.
//
// Attach fails, and changes nothing, in these cases:
//   - The StreamID does not fit IDR1.SIDSIZE (ErrConfig).
//   - The StreamID, the endpoint or the host is in use (bridge.ErrInUse).
//   - The host lacks a feature of the guest's ID registers (idr.ErrHost, see idr.Satisfies).
//   - The host is nil, not comparable, or lacks the methods for such a feature (ErrConfig).
//   - The endpoint is nil (bridge.ErrEndpoint), or the host refuses it.
//
// The device compares hosts with ==, so h usually is a pointer. The first Attach of a host claims
// it until the device is closed, and takes about 8 KiB. Use one long-lived host for endpoints that
// come and go.
func (d *Device) Attach(sid smmuv3.StreamID, h bridge.Host, ep bridge.Endpoint) error {
	err := d.do("Attach", func() error {
		if size := d.ids.Get(smmuv3.SIDSIZE); uint64(sid)>>size != 0 {
			return fmt.Errorf("%w: StreamID does not fit IDR1.SIDSIZE %d", ErrConfig, size)
		}
		if err := checkHost(h); err != nil {
			return err
		}
		if nilcheck.IsNil(ep) {
			return fmt.Errorf("%w: nil (%T)", bridge.ErrEndpoint, ep)
		}
		if d.streams.Get(sid) != nil {
			return fmt.Errorf("StreamID %w", bridge.ErrInUse)
		}
		host, known, err := d.register(h)
		if err != nil {
			return err
		}
		st, err := d.streams.Attach(sid, host, ep)
		if err != nil {
			if !known {
				err = errors.Join(err, d.release(host))
			}
			return err
		}
		d.addStream(host, st)
		d.notifyWatch()
		return nil
	})
	return opError(err, "attach stream %v", sid)
}

// Detach removes an endpoint from the SMMU and waits for its in-flight DMA. The caller must not
// hold a lock that the endpoint needs to complete its DMA. The StreamID may be attached again.
//
// The error matches ErrNotAttached if the StreamID is not attached. Any other error is the host's:
// the endpoint is detached from the device, but the host may still hold it and the StreamID.
func (d *Device) Detach(sid smmuv3.StreamID) error {
	err := d.do("Detach", func() error {
		st := d.streams.Get(sid)
		if st == nil {
			return ErrNotAttached
		}
		err := d.detach(st)
		d.notifyWatch()
		return err
	})
	return opError(err, "detach stream %v", sid)
}

func (d *Device) detach(st *trap.Stream) error {
	h := hostOf(st)
	if !d.failed.Load() {
		d.flushHost(h) // the batch may name the stream
	}
	d.terminateStalled(st)
	err := h.count(CallDetach, d.streams.Detach(st))
	d.forgetStalls(st.ID) // transactions may have stalled meanwhile
	d.removeStream(h)
	return err
}

// Stage returns the stage that a stream is bound to. ok is false if the StreamID is not attached.
func (d *Device) Stage(sid smmuv3.StreamID) (stage bridge.GuestStage, ok bool) {
	_ = d.do("Stage", func() error {
		if st := d.streams.Get(sid); st != nil {
			stage, ok = st.Stage(), true
		}
		return nil
	})
	return stage, ok
}

// Reset puts the device into its reset state. Call it when the guest's machine is reset. Every
// stream follows the reset value of GBPA, and no host holds a translation of the guest. Streams
// stay attached. A stream that Service Failure Mode detached from its host is attached to it again.
//
// After an error, the device is reset. A stream may abort instead of bypassing, or a host may hold
// stale translations. The streams of such a host abort instead of translating, until a resync at a
// later SYNC succeeds. If the error matches ErrServiceFailure, the device is in Service Failure
// Mode.
//
// Stop the vCPUs and reset the endpoints first: without Config.AbortAtReset, DMA bypasses stage 1
// after reset.
func (d *Device) Reset() error {
	err := d.do("Reset", func() error {
		d.eventq.enable(false)
		d.priq.enable(false)
		d.restored = false
		d.failed.Store(false)
		d.failure = nil
		d.putRegisters(d.reset)
		d.gbpa = smmuv3.GBPA(d.reset[wGBPA])
		for _, st := range d.streams.All() {
			if err := d.streams.Reattach(st); err != nil {
				d.fail(streamError("reattach", st, err))
			}
		}
		// Streams stop using the guest's tables before the hosts invalidate: a stream that still
		// used the tables would make its host cache them again.
		err := d.configure(false)
		d.terminateAllStalled()
		for _, h := range d.hosts {
			if !d.failed.Load() {
				err = errors.Join(err, d.resync(h))
			}
		}
		d.atcTimeout = false // after the reset, the guest sees no earlier timeout of an ATC_INV
		if d.failed.Load() {
			return d.failure
		}
		return err
	})
	return opError(err, "reset")
}

// Close detaches every stream, releases the hosts and ends the device. Its registers then read as
// zero and ignore stores. The caller closes the hosts afterwards. A second Close has no effect and
// returns an error that matches ErrClosed.
func (d *Device) Close() error {
	err := d.do("Close", func() error {
		d.closed = true
		d.eventq.enable(false)
		d.priq.enable(false)
		var errs []error
		for len(d.streams.All()) != 0 {
			st := d.streams.All()[0]
			errs = append(errs, streamError("detach", st, d.detach(st)))
		}
		for _, h := range d.registered {
			errs = append(errs, d.release(h))
		}
		d.seal() // last: the calls above may store to GERROR
		close(d.quit)
		return errors.Join(errs...)
	})
	if !errors.Is(err, errNotMade) {
		<-d.done
	}
	return opError(err, "close")
}
