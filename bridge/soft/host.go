package soft

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Config is what a Host is made of.
type Config struct {
	// Memory is where CDs and tables are read and DMA goes. Hardware update of
	// Access flag and dirty state takes one that is a guestmem.Swapper, and
	// Endpoint.Map one that is a guestmem.Mapper, by which all DMA is faster, too.
	Memory guestmem.Memory
	// MSI, if there is one, gets the writes of four aligned bytes that translate
	// to where there is no memory: with the StreamID, which an interrupt
	// controller tells devices apart by. The transaction is under way until it
	// returns, so it must not wait for the SMMU: neither for the host nor for the
	// vsmmu.Device above, whose registers a guest may well have a device write to.
	// Without it such writes fail as all others do that meet no memory.
	MSI func(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error
	// IDs are the ID registers that guest structures are judged by. Zero means
	// DefaultIDs, of which the guest is shown all that it can be if this host is the
	// only one. Beside others it is shown less, and what idr.Derive made of them and
	// DefaultIDs has this host judge as the others do: Result.IDs.
	IDs smmuv3.IDRegs
	// TLBEntries is how many translations are held, rounded up to a power of two
	// and cut to MaxTLBEntries. 0 means 8192. An entry takes 33 bytes. With a stage 2
	// it is as many for each VMID and Config that streams have at a time.
	TLBEntries int
	// ATCTimeout is how long an endpoint may take for ATS.Invalidate. 0 means a
	// second.
	ATCTimeout time.Duration
}

// MaxTLBEntries is the largest Config.TLBEntries.
const MaxTLBEntries = 1 << 20

// Host is a software SMMU: a bridge.Host whose endpoints are *Endpoint. All
// methods may be called from any goroutine.
type Host struct {
	ids        smmuv3.IDRegs
	outputMask uint64 // of ids

	mem    guestmem.Memory
	mapper guestmem.Mapper  // mem, or nil
	swap   guestmem.Swapper // nil without HTTU
	msi    func(smmuv3.StreamID, guestmem.GPA, uint32) error
	sink   func(smmuv3.Event)
	// refetch asks the device to fetch an STE again; nil if there is none to ask.
	refetch func(smmuv3.StreamID) bool
	// Of ATS and PRI.
	requests   func(smmuv3.PageRequest)
	atcTimeout time.Duration

	// sections are the transactions under way: those of the memory where it has
	// some, so that one entry serves both.
	sections *guestmem.Sections
	micro    [guestmem.Places]*microTLB // each belongs to the section in its place; nil until there is one
	_        [cacheLine]byte            // what is above seldom changes, and every transaction reads it
	clock    atomic.Uint64              // counts batches of invalidations

	mu      sync.Mutex
	streams map[smmuv3.StreamID]*stream // nil once closed
	tlbs    tlbs

	stalls    stalls
	endpoints sync.Map // of *Endpoint by StreamID, for those who must not wait for mu
}

var (
	_ bridge.Host          = (*Host)(nil)
	_ bridge.Staller       = (*Host)(nil)
	_ bridge.PageRequester = (*Host)(nil)
	_ bridge.STERefetcher  = (*Host)(nil)
)

// New makes a host, or says what is wrong with the configuration.
func New(cfg Config) (*Host, error) {
	if cfg.Memory == nil {
		return nil, errors.New("soft: no guest memory")
	}
	swap, _ := cfg.Memory.(guestmem.Swapper)
	ids := cfg.IDs
	if ids == (smmuv3.IDRegs{}) {
		ids = DefaultIDs()
		if swap == nil {
			ids.Set(smmuv3.HTTU, 0)
		}
	}
	if err := checkIDs(ids); err != nil {
		return nil, err
	}
	if ids.Has(smmuv3.HTTU) && swap == nil {
		return nil, errors.New("soft: IDR0.HTTU needs memory that is a guestmem.Swapper")
	}
	entries := cfg.TLBEntries
	if entries == 0 {
		entries = 8192
	}
	h := &Host{
		ids:        ids,
		outputMask: ids.OutputMask(),
		mem:        cfg.Memory,
		swap:       swap,
		msi:        cfg.MSI,
		atcTimeout: cmp.Or(cfg.ATCTimeout, time.Second),
		sections:   new(guestmem.Sections),
		stalls:     stalls{held: make([]*stalled, ids.Get(smmuv3.StallMax))},
		streams:    make(map[smmuv3.StreamID]*stream),
	}
	h.tlbs.init(min(max(entries, 1), MaxTLBEntries), &h.ids, &h.clock)
	if m, ok := cfg.Memory.(guestmem.Mapper); ok {
		h.mapper, h.sections = m, m.Sections()
	}
	return h, nil
}

// cacheLine is what one processor's writes take from the others: two lines, as
// processors fetch neighbours along.
const cacheLine = 128

// Capabilities is bridge.Host's.
func (h *Host) Capabilities() (bridge.Capabilities, error) {
	return bridge.Capabilities{IDs: h.ids}, nil
}

// Events is bridge.Host's. The sink is called while the transaction that the
// event is about counts as under way; it must not call the host.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	if sink != nil && h.sink != nil {
		return fmt.Errorf("soft: events: %w", bridge.ErrInUse)
	}
	h.sink = sink
	return nil
}

// SetGuestIDs is bridge.Host's.
func (h *Host) SetGuestIDs(smmuv3.IDRegs) error { return nil }

// Attach is bridge.Host's. ep is an *Endpoint.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	fail := func(err error) (bridge.Stream, error) {
		return nil, fmt.Errorf("soft: attach stream %v: %w", sid, err)
	}
	e, ok := ep.(*Endpoint)
	if !ok || e == nil {
		return fail(fmt.Errorf("%w: %T", bridge.ErrEndpoint, ep))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams == nil {
		return fail(bridge.ErrClosed)
	}
	if h.streams[sid] != nil {
		return fail(fmt.Errorf("the StreamID is %w", bridge.ErrInUse))
	}
	// Another host may be at it at the same time.
	if !e.bound.CompareAndSwap(nil, newBinding(h, e, sid, bridge.GuestStage{})) {
		return fail(fmt.Errorf("the endpoint is %w", bridge.ErrInUse))
	}
	s := &stream{host: h, sid: sid, ep: e}
	h.streams[sid] = s
	h.endpoints.Store(sid, e)
	return s, nil
}

// Close is bridge.Host's. It returns when DMA under way is done, and ends what is
// stalled.
func (h *Host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		s.detach()
	}
	h.sections.Drain()
	for sid := range h.streams {
		h.stalls.terminate(sid) // none comes after the drain
		h.endpoints.Delete(sid)
	}
	h.streams = nil
	return nil
}
