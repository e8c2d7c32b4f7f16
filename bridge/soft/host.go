package soft

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Host is a software SMMU: a bridge.Host whose endpoints are of type *Endpoint. Its methods
// may be called from any goroutine.
type Host struct {
	offered smmuv3.IDRegs
	shown   atomic.Pointer[shown] // changes only while no stream is attached

	mem        guestmem.Memory
	mapper     guestmem.Mapper  // mem, or nil
	swap       guestmem.Swapper // mem, or nil
	msi        func(smmuv3.StreamID, guestmem.GPA, uint32) error
	events     atomic.Pointer[func(smmuv3.Event)]
	requests   atomic.Pointer[func(smmuv3.PageRequest)]
	refetch    atomic.Pointer[func(smmuv3.StreamID) bool]
	atcTimeout time.Duration

	// sections are the in-flight transactions. They are the memory's own sections, if it has any,
	// so a transaction enters only one section.
	sections *guestmem.Sections
	caches   [guestmem.Places]*placeCache // by the section's place; nil until first used
	_        [cacheLine]byte              // every transaction reads the fields above; they rarely change
	// clock advances when a batch of invalidations begins, and again when it is executed. It is odd
	// in between. The time of an invalidation is the clock after its batch, so an entry that was
	// read during the batch counts as older.
	clock atomic.Uint64

	mu      sync.Mutex
	streams map[smmuv3.StreamID]*stream // nil once closed
	closed  atomic.Bool                 // streams is nil, for methods that do not take mu
	domains domains
	cds     cdBudget

	stalls    stalls
	endpoints endpoints
}

// errNotMade is the error of a nil or zero Host.
var errNotMade = errors.New("host was not made by soft.New")

// made fails for a Host that New did not make.
func (h *Host) made() error {
	if h == nil || h.mem == nil {
		return errNotMade
	}
	return nil
}

// Errors of a closed host and a closed stream. They match bridge.ErrClosed.
var (
	errHostClosed   = fmt.Errorf("host %w", bridge.ErrClosed)
	errStreamClosed = fmt.Errorf("stream %w", bridge.ErrClosed)
)

var (
	_ bridge.Host          = (*Host)(nil)
	_ bridge.Staller       = (*Host)(nil)
	_ bridge.PageRequester = (*Host)(nil)
	_ bridge.STERefetcher  = (*Host)(nil)
)

// New returns a host. It fails if the configuration is invalid.
func New(cfg Config) (*Host, error) {
	if cfg.Memory != nil {
		cfg = cfg.withDefaults()
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("soft: new host: %w", err)
	}
	h := &Host{
		offered:    cfg.IDs,
		mem:        cfg.Memory,
		msi:        cfg.MSI,
		atcTimeout: cfg.ATCTimeout,
		sections:   new(guestmem.Sections),
		streams:    make(map[smmuv3.StreamID]*stream),
	}
	h.swap, _ = cfg.Memory.(guestmem.Swapper)
	if m, ok := cfg.Memory.(guestmem.Mapper); ok {
		h.mapper, h.sections = m, m.Sections()
	}
	h.domains.entries, h.domains.clock = cfg.TLBEntries, &h.clock
	h.show(cfg.IDs)
	return h, nil
}

// cacheLine is the number of bytes that avoids false sharing. It is two lines, since processors
// prefetch lines in pairs.
const cacheLine = 128

// Capabilities implements bridge.Host. It returns Config.IDs, also after SetGuestIDs.
func (h *Host) Capabilities() (bridge.Capabilities, error) {
	if err := h.made(); err != nil {
		return bridge.Capabilities{}, err
	}
	return bridge.Capabilities{IDs: h.offered}, nil
}

// Events implements bridge.Host. The host calls the sink while the transaction that caused the
// event is in flight. The sink must not call the host.
//
// On return of Events(nil) no call of the earlier sink is in flight. The guest then reads the
// Capabilities again.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	if err := h.made(); err != nil {
		return err
	}
	if sink == nil {
		if h.events.Swap(nil) == nil {
			return nil
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.sections.Drain()
		if len(h.streams) == 0 {
			h.show(h.offered)
		}
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return errHostClosed
	}
	if !h.events.CompareAndSwap(nil, &sink) {
		return fmt.Errorf("host %w", bridge.ErrInUse)
	}
	return nil
}

// SetGuestIDs implements bridge.Host. The host then behaves as an SMMU with these registers: it
// reads STEs, CDs, descriptors and commands as that SMMU does. The registers must not exceed the
// host's Capabilities. SetGuestIDs fails with bridge.ErrInUse while a stream is attached.
func (h *Host) SetGuestIDs(guest smmuv3.IDRegs) error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.streams == nil:
		return errHostClosed
	case len(h.streams) != 0:
		return fmt.Errorf("streams are attached: host %w", bridge.ErrInUse)
	}
	if err := checkShown(guest, h.offered); err != nil {
		return err
	}
	h.show(guest)
	return nil
}

// show makes the host behave as an SMMU with these registers. No stream is attached.
func (h *Host) show(ids smmuv3.IDRegs) {
	v := newShown(ids)
	h.shown.Store(v)
	h.domains.mask = v.vmidMask
	h.stalls.resize(v.stalls)
}

// report sends an event to the sink, if there is one.
func (h *Host) report(e smmuv3.Event) {
	if sink := h.events.Load(); sink != nil {
		(*sink)(e)
	}
}

// Attach implements bridge.Host. The endpoint is of type *Endpoint.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	if err := h.made(); err != nil {
		return nil, err
	}
	e, ok := ep.(*Endpoint)
	switch {
	case !ok:
		return nil, fmt.Errorf("%w: %T", bridge.ErrEndpoint, ep)
	case e == nil:
		return nil, fmt.Errorf("%w: nil %T", bridge.ErrEndpoint, ep)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return nil, errHostClosed
	}
	if h.streams[sid] != nil {
		return nil, fmt.Errorf("StreamID %w", bridge.ErrInUse)
	}
	// Another host may attach the endpoint at the same time.
	if !e.bound.CompareAndSwap(nil, newBinding(h, e, sid, bridge.GuestStage{})) {
		return nil, fmt.Errorf("endpoint %w", bridge.ErrInUse)
	}
	s := &stream{host: h, sid: sid, ep: e}
	h.streams[sid] = s
	h.endpoints.add(sid, e)
	return s, nil
}

// Close implements bridge.Host. It waits for in-flight DMA, and terminates stalled
// transactions with an abort.
func (h *Host) Close() error {
	if err := h.close(); err != nil {
		return fmt.Errorf("soft: close: %w", err)
	}
	return nil
}

func (h *Host) close() error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return errHostClosed
	}
	for _, s := range h.streams {
		s.detach()
	}
	h.closed.Store(true)
	h.sections.Drain()
	for sid := range h.streams {
		h.stalls.terminate(sid) // no transaction stalls after the drain
		h.endpoints.remove(sid)
	}
	h.streams, h.domains = nil, domains{}
	h.caches = [guestmem.Places]*placeCache{}
	return nil
}

// endpoints finds the endpoint of a StreamID. It does not need the host's lock, which Invalidate
// holds while it waits for an endpoint.
type endpoints struct {
	mu    sync.RWMutex
	bySID map[smmuv3.StreamID]*Endpoint
}

func (t *endpoints) add(sid smmuv3.StreamID, e *Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bySID == nil {
		t.bySID = make(map[smmuv3.StreamID]*Endpoint)
	}
	t.bySID[sid] = e
}

func (t *endpoints) remove(sid smmuv3.StreamID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.bySID, sid); len(t.bySID) == 0 {
		t.bySID = nil // a map does not shrink
	}
}

func (t *endpoints) find(sid smmuv3.StreamID) *Endpoint {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.bySID[sid]
}
