//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// DefaultPath is where Linux has iommufd.
const DefaultPath = "/dev/iommu"

// Config is what a Host is made of. The zero value will do.
type Config struct {
	// Path is the device node of iommufd; DefaultPath if empty.
	Path string
	// ATS offers the guest PCIe ATS. It is for a VMM that shows its guest devices with an ATS capability, and lets it
	// reach the device's own switch: the kernel leaves it to the VMM to say so.
	ATS bool
}

// Host is a physical SMMU as one virtual machine sees it: a bridge.Host whose endpoints are *Device.
//
// All methods may be called from any goroutine. Those which take long, and so may wait for each other, keep none of the others
// waiting: Map and Unmap; Add, AddFD and Device.Close, for VFIO resets the device.
type Host struct {
	k    kernel
	ats  bool
	ioas id

	memory struct {
		sync.Mutex
		closed bool
		slots  map[guestmem.GPA]guestmem.Slot
	}

	// plugging is held while a device is bound or closed, which is too long for mu: a vCPU may wait for that. It is taken first.
	plugging sync.Mutex

	mu      sync.Mutex
	closed  bool  // set with plugging held, too
	nest    *nest // nil before the first device
	devices []*Device
	streams map[smmuv3.StreamID]*stream
	sink    func(smmuv3.Event)
	events  *eventReader // nil before the first stream
	// stale are tables that are in use no more and that the kernel would not destroy.
	stale []id
	batch batch
	// translating is how many streams the guest's stage 1 translates for, and missed whether it has invalidated translations
	// while that was 0.
	translating int
	missed      bool

	counts counters
}

var _ bridge.Host = (*Host)(nil)

// Open makes a host that has neither memory nor devices.
func Open(cfg Config) (*Host, error) { return open(cfg, linux{}) }

func open(cfg Config, sys system) (*Host, error) {
	path := cfg.Path
	if path == "" {
		path = DefaultPath
	}
	fd, err := sys.open(path)
	if err != nil {
		return nil, fmt.Errorf("iommufd: %s: %w", path, failed(opOpenIOMMU, err))
	}
	h := &Host{ats: cfg.ATS, streams: make(map[smmuv3.StreamID]*stream)}
	h.k.sys, h.k.fd = sys, fd
	h.memory.slots = make(map[guestmem.GPA]guestmem.Slot)
	if h.ioas, err = h.k.allocIOAS(); err != nil {
		return nil, errors.Join(fmt.Errorf("iommufd: %s: %w", path, err), sys.close(fd))
	}
	return h, nil
}

// Capabilities is bridge.Host's. They are those of the first device's SMMU, and before that is added the error matches
// ErrNoDevice. What the kernel does not vouch for in nested translation is left out, whatever the hardware has.
//
// A guest's ID registers never change. A VMM whose first device is plugged in while the guest runs decides beforehand what the
// guest is shown, and vsmmu.Device.Attach says then whether the hardware has it.
func (h *Host) Capabilities() (bridge.Capabilities, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nest == nil {
		return bridge.Capabilities{}, fmt.Errorf("iommufd: capabilities: %w", ErrNoDevice)
	}
	return bridge.Capabilities{IDs: h.nest.ids}, nil
}

// Events is bridge.Host's.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sink != nil && h.sink != nil {
		return fmt.Errorf("iommufd: events: %w", bridge.ErrInUse)
	}
	h.sink = sink
	return nil
}

// SetGuestIDs is bridge.Host's.
func (h *Host) SetGuestIDs(smmuv3.IDRegs) error { return nil }

// Attach is bridge.Host's. ep is a *Device of this host.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.attach(sid, ep)
	if err != nil {
		return nil, fmt.Errorf("iommufd: attach stream %v: %w", sid, err)
	}
	return s, nil
}

func (h *Host) attach(sid smmuv3.StreamID, ep bridge.Endpoint) (*stream, error) {
	d, ok := ep.(*Device)
	switch {
	case !ok || d == nil:
		return nil, fmt.Errorf("%w: %T", bridge.ErrEndpoint, ep)
	case d.host != h:
		return nil, fmt.Errorf("%w: it is another host's", bridge.ErrEndpoint)
	case h.closed || d.closed:
		return nil, bridge.ErrClosed
	case h.streams[sid] != nil:
		return nil, fmt.Errorf("the StreamID is %w", bridge.ErrInUse)
	case d.stream != nil:
		return nil, fmt.Errorf("the device is %w, as stream %v", bridge.ErrInUse, d.stream.sid)
	}
	h.startEvents()
	s := &stream{host: h, dev: d, sid: sid}
	// The vDEVICE comes first: without one the kernel reports no faults, and has no StreamID for CFGI_CD and ATC_INV.
	var err error
	if s.vdevice, err = h.k.allocVDevice(d.id, h.nest.viommu, sid); err != nil {
		return nil, err
	}
	if err := h.k.attach(d.fd, h.nest.abort); err != nil {
		return nil, errors.Join(err, h.k.destroy(&s.vdevice))
	}
	s.shared = h.nest.abort
	h.streams[sid] = s
	d.stream = s
	return s, nil
}

// Close is bridge.Host's. The host is closed whatever the error says: what the kernel would not give back, it drops with the
// descriptor. The embedder's mappings of the devices' regions have to be gone, for they keep the devices open.
func (h *Host) Close() error {
	h.plugging.Lock()
	defer h.plugging.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	h.closed = true
	var errs []error
	for _, s := range h.streams {
		errs = append(errs, s.unplug(), h.k.destroy(&s.vdevice))
	}
	if h.events != nil {
		errs = append(errs, h.events.close())
		h.nest.events = nil
	}
	for _, d := range h.devices {
		d.closed = true
		errs = append(errs, h.k.unbind(d.fd))
	}
	h.devices = nil
	// What would not go before must now, with no device left to use it.
	for _, s := range h.streams {
		errs = append(errs, s.drop())
	}
	errs = append(errs, h.sweep())
	if h.nest != nil {
		errs = append(errs, h.nest.destroy(&h.k))
	}
	errs = append(errs, h.closeMemory(), h.k.sys.close(h.k.fd))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("iommufd: close: %w", err)
	}
	return nil
}

// discard gives back a table that is not attached. If the kernel will not have it, that is no matter of what is attached now,
// and is tried again later.
func (h *Host) discard(table id) {
	if h.k.destroy(&table) != nil {
		h.stale = append(h.stale, table)
	}
}

// maxStale is how many tables may wait for the kernel to destroy them. A guest could have them pile up otherwise.
const maxStale = 16

// sweep tries again what discard could not do. It fails if too many are left.
func (h *Host) sweep() error {
	var errs []error
	h.stale = slices.DeleteFunc(h.stale, func(table id) bool {
		err := h.k.destroy(&table)
		errs = append(errs, err)
		return err == nil
	})
	if len(h.stale) >= maxStale || h.closed {
		return errors.Join(errs...)
	}
	return nil
}
