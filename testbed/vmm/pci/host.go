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

// RootRequester returns the requester ID of function 0 of a device on the root bus.
func RootRequester(device int) RequesterID { return RootFunction(device, 0) }

// RootFunction returns the requester ID of a function on the root bus.
func RootFunction(device, function int) RequesterID { return RequesterID(device<<3 | function) }

// Function is a function on a bus. A Host calls one method at a time.
type Function interface {
	// LoadConfig and StoreConfig access 1, 2 or 4 bytes at their natural alignment.
	//
	// A store may return a function for work that takes long, such as DMA, or nil. The Host calls
	// this function before the guest's access ends, while other accesses continue.
	LoadConfig(off uint32, size int) uint32
	StoreConfig(off uint32, size int, value uint32) (rest func())
	// LoadMemory and StoreMemory access a range that the function claimed for a base address
	// register.
	LoadMemory(bar int, off uint64, size int) uint64
	StoreMemory(bar int, off uint64, size int, value uint64) (rest func())
	// SetRequester sets the function's requester ID. If ok is false, the function has no requester
	// ID: until the next call, the Host does not access the function, and the function makes no
	// DMA.
	SetRequester(id RequesterID, ok bool)
	// Reset puts the function into its reset state, and releases its claims.
	Reset()
	// Decode claims the ranges of the base address registers that the function decodes and has no
	// claim for.
	Decode()
}

// Window is a range of memory, with the same addresses on the bus and on the CPUs' side.
type Window struct{ Base, Size uint64 }

func (w Window) contains(base, size uint64) bool {
	return base >= w.Base && size <= w.Size && base-w.Base <= w.Size-size
}

// Devices is the number of devices on the root bus, and Functions the number of functions of each.
const (
	Devices   = 32
	Functions = 8
)

// log2 of the sizes of a bus and of a function in the ECAM (§7.2.2).
const (
	busShift      = 20
	functionShift = 12
)

const maxBuses = 256

// Host is a host bridge. Its root bus is bus 0.
type Host struct {
	buses   int
	windows []Window

	mu       sync.Mutex
	slots    [Devices * Functions]*Slot // by the requester ID of the slot on the root bus
	claims   []claim
	released bool // a claim was released, and settle has not run
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

// ErrFull is matched by the error of Add and AddFunction for a place that does not exist or is in
// use.
var ErrFull = errors.New("no such place on the root bus, or it is in use")

// multifunction reports whether a device has functions besides function 0, whose place is at.
func (h *Host) multifunction(at RequesterID) bool {
	for _, s := range h.slots[at+1 : at+Functions] {
		if s != nil {
			return true
		}
	}
	return false
}

// Add adds a function to the root bus as function 0 of a device, or behind a root port with that
// device number. It first passes the function's slot to connect, which may be nil.
func (h *Host) Add(device int, behindPort bool, f Function, connect func(*Slot)) error {
	if nilcheck.IsNil(f) {
		return fmt.Errorf("pci: add device %d: no function", device)
	}
	var port *port
	if behindPort {
		port = newPort(f)
	}
	if err := h.add(device, 0, f, port, connect); err != nil {
		return fmt.Errorf("pci: add device %d: %w", device, err)
	}
	return nil
}

// AddFunction adds a function to the root bus, as Add does. A device with a root port has no other
// function. A guest finds functions 1 to 7 only if the device has a function 0, whose header then
// says that there are more (§7.5.1.1.9).
func (h *Host) AddFunction(device, function int, f Function, connect func(*Slot)) error {
	if nilcheck.IsNil(f) {
		return fmt.Errorf("pci: add function %d of device %d: no function", function, device)
	}
	if err := h.add(device, function, f, nil, connect); err != nil {
		return fmt.Errorf("pci: add function %d of device %d: %w", function, device, err)
	}
	return nil
}

func (h *Host) add(device, function int, f Function, port *port, connect func(*Slot)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if device < 0 || device >= Devices || function < 0 || function >= Functions {
		return ErrFull
	}
	first := RootRequester(device)
	if zero := h.slots[first]; zero != nil && zero.port != nil || port != nil && h.multifunction(first) {
		return ErrFull
	}
	at := RootFunction(device, function)
	if h.slots[at] != nil {
		return ErrFull
	}
	s := &Slot{host: h, at: at, function: f, port: port}
	h.slots[at] = s
	if connect != nil {
		connect(s)
	}
	h.renumber()
	return nil
}

// AddPort adds an empty root port to the root bus. The guest finds it at its next scan of the bus.
func (h *Host) AddPort(device int) error { return h.Add(device, true, absent{}, nil) }

// Remove resets function 0 of a device and removes it. Accesses to the device then find nothing.
// Its device number stays in use.
func (h *Host) Remove(device int) {
	if device < 0 || device >= Devices {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	defer h.settle()
	s := h.slots[RootRequester(device)]
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
func (absent) Decode()                                     {}

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
// same requester ID, the one with the lower place on the root bus gets it.
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
