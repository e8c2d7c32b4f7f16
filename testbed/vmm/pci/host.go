package pci

import (
	"errors"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// RequesterID identifies a function in its DMA and messages: bus, device and function number.
type RequesterID uint16

func (id RequesterID) String() string {
	return fmt.Sprintf("%02x:%02x.%d", uint16(id)>>8, uint16(id)>>3&0x1f, uint16(id)&7)
}

// RootRequester returns the requester ID of a function on the root bus.
func RootRequester(device int) RequesterID { return RequesterID(device) << 3 }

// Function is a function on a bus. A Host calls one method at a time.
type Function interface {
	// LoadConfig and StoreConfig access 1, 2 or 4 bytes at their natural alignment.
	//
	// A store may return a function for work that takes long, such as DMA, or nil. The Host calls
	// it before the guest's access ends, while other accesses continue.
	LoadConfig(off uint32, size int) uint32
	StoreConfig(off uint32, size int, value uint32) (rest func())
	// LoadMemory and StoreMemory access a range that the function claimed for a base address
	// register.
	LoadMemory(bar int, off uint64, size int) uint64
	StoreMemory(bar int, off uint64, size int, value uint64) (rest func())
	// SetRequester sets the function's requester ID. If ok is false, it has none: the Host makes no
	// accesses to it, and it makes no DMA, until the next call.
	SetRequester(id RequesterID, ok bool)
	// Reset puts the function into its reset state, and releases its claims.
	Reset()
}

// Window is a range of memory, with the same addresses on the bus and on the CPUs' side.
type Window struct{ Base, Size uint64 }

func (w Window) contains(base, size uint64) bool {
	return base >= w.Base && size <= w.Size && base-w.Base <= w.Size-size
}

// Devices is the number of devices on the root bus. Each has one function.
const Devices = 32

// busShift is log2 of the size of a bus in the ECAM (§7.2.2).
const busShift = 20

const maxBuses = 256

// Host is a host bridge. Its root bus is bus 0.
type Host struct {
	buses   int
	windows []Window

	mu     sync.Mutex
	slots  [Devices]*Slot
	claims []claim
}

// NewHost returns a host bridge with 1 to 256 buses, whose functions may claim memory in the
// windows.
func NewHost(buses int, windows ...Window) (*Host, error) {
	if buses < 1 || buses > maxBuses {
		return nil, fmt.Errorf("pci: new host bridge: %d buses: not 1 to %d", buses, maxBuses)
	}
	for _, w := range windows {
		if w.Size == 0 || w.Base+w.Size-1 < w.Base {
			return nil, fmt.Errorf("pci: new host bridge: window of %#x bytes at %#x", w.Size, w.Base)
		}
	}
	return &Host{buses: buses, windows: windows}, nil
}

// ErrFull is matched by Add's error for a device number that does not exist or is in use.
var ErrFull = errors.New("no such device number, or it is in use")

// Add adds a function to the root bus with the given device number, or behind a root port with that
// number. It first passes the function's slot to connect, which may be nil.
func (h *Host) Add(device int, behindPort bool, f Function, connect func(*Slot)) error {
	if nilcheck.IsNil(f) {
		return fmt.Errorf("pci: add device %d: no function", device)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if device < 0 || device >= Devices || h.slots[device] != nil {
		return fmt.Errorf("pci: add device %d: %w", device, ErrFull)
	}
	s := &Slot{host: h, device: uint8(device), function: f}
	if behindPort {
		s.port = newPort(f)
	}
	h.slots[device] = s
	if connect != nil {
		connect(s)
	}
	h.renumber()
	return nil
}

// AddPort adds an empty root port to the root bus. The guest finds it at its next scan of the bus.
func (h *Host) AddPort(device int) error { return h.Add(device, true, absent{}, nil) }

// Remove resets the function of a device and removes it. Accesses to the device then find nothing.
// Its device number stays in use.
func (h *Host) Remove(device int) {
	if device < 0 || device >= Devices {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.slots[device]
	if s == nil {
		return
	}
	s.function.Reset()
	if s.reachable {
		s.function.SetRequester(0, false)
	}
	s.function = absent{}
	if s.port != nil {
		s.port.link(s.function)
	}
}

// absent is the function of an empty slot.
type absent struct{}

func (absent) LoadConfig(_ uint32, size int) uint32        { return uint32(allOnes(size)) }
func (absent) StoreConfig(uint32, int, uint32) func()      { return nil }
func (absent) LoadMemory(_ int, _ uint64, size int) uint64 { return allOnes(size) }
func (absent) StoreMemory(int, uint64, int, uint64) func() { return nil }
func (absent) SetRequester(RequesterID, bool)              {}
func (absent) Reset()                                      {}

// Reset puts the bridge, its ports and all functions into their reset state.
func (h *Host) Reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.slots {
		if s == nil {
			continue
		}
		s.function.Reset()
		if s.port != nil {
			s.port = newPort(s.function)
		}
	}
	h.renumber()
}

// renumber calls SetRequester of each function whose requester ID changed. If two slots have the
// same requester ID, the one with the lower device number gets it.
func (h *Host) renumber() {
	taken := map[RequesterID]*Slot{}
	for _, s := range h.slots {
		if s == nil {
			continue
		}
		if id, ok := s.identity(); ok && taken[id] == nil {
			taken[id] = s
		}
	}
	// A function loses its ID before another gets it.
	for _, s := range h.slots {
		if s != nil && s.reachable && taken[s.requester] != s {
			s.reachable = false
			s.function.SetRequester(0, false)
		}
	}
	for _, s := range h.slots {
		if s == nil || s.reachable {
			continue
		}
		if id, ok := s.identity(); ok && taken[id] == s {
			s.requester, s.reachable = id, true
			s.function.SetRequester(id, true)
		}
	}
}
