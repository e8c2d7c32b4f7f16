package edu

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// Function is a function on a PCI bus. It implements pci.Function.
type Function struct {
	cfg      Config
	endpoint *soft.Endpoint
	gate     gate
	atc      atc

	// The following fields are used by calls of the host bridge, which makes one at a time.
	slot    *pci.Slot
	bars    pci.BARs
	claimed [2]bool
	at      [2]uint64 // the addresses that it claimed

	// mu guards all following fields.
	mu     sync.Mutex
	life   *life
	space  *space
	values values
	irq    interrupts
	pages  pages
	hang   chan struct{} // closed when invalidations complete again; nil if they do
	drops  []soft.ATCRange
	buffer [regs.BufferSize]byte
}

// life is the time from one reset to the next.
type life struct {
	context.Context
	end     context.CancelCauseFunc
	running sync.WaitGroup // goroutines that use the endpoint
}

// errReset ends a life.
var errReset = errors.New("edu: the function was reset")

// values are the registers that are plain words.
type values struct {
	liveness, factorial, status    uint32
	source, dest, count, dmaCmd    uint64
	attrs                          regs.Attrs
	command, address, chunk        uint64
	result                         regs.Outcome
	translatedAddr, translatedSize uint64
	invalidations, responses       uint64
	busy                           bool // a DMA or command runs
}

// New returns a function. The caller must Close it.
func New(cfg Config) (*Function, error) {
	if err := cfg.Features.check(); err != nil {
		return nil, fmt.Errorf("edu: new function: %w", err)
	}
	if cfg.PageTimeout == 0 {
		cfg.PageTimeout = 10 * time.Second
	}
	f := &Function{cfg: cfg, endpoint: soft.NewEndpoint()}
	f.bars.Define(registersBAR, registersSize, 0)
	if cfg.Features.MSIX {
		f.bars.Define(messagesBAR, messagesSize, 0)
	}
	f.begin()
	return f, nil
}

// Endpoint returns the source of the function's DMA.
func (f *Function) Endpoint() *soft.Endpoint { return f.endpoint }

// Connect sets the function's slot. The host bridge calls it first.
func (f *Function) Connect(slot *pci.Slot) { f.slot = slot }

// begin puts everything but claims into its reset state, and starts a life.
func (f *Function) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := new(life)
	l.Context, l.end = context.WithCancelCause(context.Background())
	f.life = l
	f.space = newSpace(f.cfg.Features, f.cfg.INTx != nil)
	f.values = values{}
	f.irq.reset(f.cfg.INTx)
	f.pages.reset()
	f.atc.clear()
	f.hang, f.drops = nil, nil
	if f.cfg.Features.Stalls {
		f.endpoint.AllowStalls(l)
	}
	if f.cfg.Features.ATS {
		f.endpoint.EnableATS(soft.ATS{Invalidate: f.invalidate, Respond: f.respond})
	}
}

// halt ends the life, and waits for everything that runs.
func (f *Function) halt() {
	f.mu.Lock()
	l := f.life
	f.mu.Unlock()
	l.end(errReset)
	l.running.Wait()
}

// Close ends the function's DMA. The host bridge must not call it any more.
func (f *Function) Close() error {
	f.halt()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.irq.reset(f.cfg.INTx)
	return nil
}

// Pause holds new DMA and waits for in-flight DMA, so that the SMMU can be replaced. Messages and
// page requests count as DMA. If ctx ends earlier, such as because a transaction is stalled, the
// function continues, and Pause returns the cause. At most one goroutine may pause a function.
func (f *Function) Pause(ctx context.Context) error {
	if err := f.gate.close(ctx); err != nil {
		return fmt.Errorf("edu: pause: %w", err)
	}
	return nil
}

// Resume ends a Pause.
func (f *Function) Resume() { f.gate.open() }

// LoadConfig implements pci.Function.
func (f *Function) LoadConfig(off uint32, size int) uint32 {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pages.show(f.space)
	return f.space.Load(off, size)
}

// StoreConfig implements pci.Function.
func (f *Function) StoreConfig(off uint32, size int, value uint32) (rest func()) {
	if f.initiatesFLR(off, size, value) {
		f.Reset()
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	had := f.space.ats()
	f.space.Store(off, size, value)
	for i := range uint32(messagesBAR + 1) {
		reg := pci.RegBAR0 + 4*i
		if v, ok := pci.Merge(f.bars.Load(int(i)), reg, 4, off, size, value); ok {
			f.bars.Store(int(i), v)
			f.space.Put(reg, 4, f.bars.Load(int(i)))
		}
	}
	f.Decode()
	f.storeMSIXControl(off, size, value)
	f.pages.control(f.space, off, size, value)
	if had && !f.space.ats() {
		f.atc.clear() // §10.5.1.3: the ATC is empty when ATS is enabled
	}
	f.signal() // an interrupt may be enabled
	return nil
}

// initiatesFLR reports whether a store asks for a function-level reset (§6.6.2).
func (f *Function) initiatesFLR(off uint32, size int, value uint32) bool {
	v, ok := pci.Merge(0, expressAt+pci.DeviceControl, 2, off, size, value)
	return f.cfg.Features.FLR && ok && v&pci.InitiateFLR != 0
}

// Decode implements pci.Function. It claims the addresses of the base address registers if memory
// decoding is enabled, and releases them otherwise.
func (f *Function) Decode() {
	for i := range f.claimed {
		size := f.bars.Size(i)
		at, want := f.bars.Base(i), size > 0 && f.space.command()&pci.CommandMemory != 0
		if f.claimed[i] && (!want || at != f.at[i]) {
			f.slot.Release(i)
			f.claimed[i] = false
		}
		if want && !f.claimed[i] {
			f.claimed[i], f.at[i] = f.slot.Claim(i, at, size), at
		}
	}
}

// SetRequester implements pci.Function. A function on the root bus keeps its requester ID.
func (f *Function) SetRequester(pci.RequesterID, bool) {}

// Reset implements pci.Function.
func (f *Function) Reset() {
	f.halt()
	f.begin()
	f.bars.Reset()
	f.Decode()
}

// LoadMemory implements pci.Function.
func (f *Function) LoadMemory(bar int, off uint64, size int) uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bar == messagesBAR {
		return f.irq.load(off, size)
	}
	return f.load(off, size)
}

// StoreMemory implements pci.Function.
func (f *Function) StoreMemory(bar int, off uint64, size int, value uint64) (rest func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bar == messagesBAR {
		f.irq.table.Store(off, size, value)
		f.signal() // a pending message may be unmasked
		return nil
	}
	return f.store(off, size, value)
}
