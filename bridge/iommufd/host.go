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

// DefaultPath is the device node of iommufd on Linux.
const DefaultPath = "/dev/iommu"

// Config configures a Host. The zero value is valid.
type Config struct {
	// Path is the device node of iommufd. It defaults to DefaultPath.
	Path string
	// ATS offers PCIe ATS to the guest if the physical SMMU has IDR0.ATS. Set it if the VMM shows
	// the ATS capability of devices to the guest and forwards writes of its enable bit. The kernel
	// leaves both to the VMM.
	ATS bool
}

// Host is a physical SMMU as one virtual machine sees it. It is a bridge.Host whose endpoints are
// *Device.
//
// All methods can be called from any goroutine. Map and Unmap wait for each other. Add, AddFD and
// Device.Close also wait for each other, since VFIO resets the device in them. None of these delays
// the other methods.
type Host struct {
	k    kernel
	ats  bool
	ioas id

	memory struct {
		sync.Mutex
		closed bool
		slots  map[guestmem.GPA]guestmem.Slot
	}

	// plugging is held while a device is bound or closed. Both take too long to hold mu, since a
	// vCPU may wait for mu. plugging is locked before mu.
	plugging sync.Mutex

	// mu guards all following fields.
	mu      sync.Mutex
	closed  bool  // written with plugging held as well
	nest    *nest // nil before the first device
	devices []*Device
	streams map[smmuv3.StreamID]*stream
	guest   *smmuv3.IDRegs // nil before SetGuestIDs
	events  *eventReader   // nil before the first stream
	// leftovers are unused objects that the kernel refused to destroy. An object precedes the
	// objects that it uses.
	leftovers []id
	batch     batch
	// translating is the number of streams whose stage 1 translates. missed is set if the guest
	// invalidated translations while translating was 0.
	translating int
	missed      bool

	claim  claim // has its own lock
	counts counters
}

var _ bridge.Host = (*Host)(nil)

// Open returns a host without memory or devices.
func Open(cfg Config) (*Host, error) { return open(cfg, linux{}) }

func open(cfg Config, sys system) (*Host, error) {
	path := cfg.Path
	if path == "" {
		path = DefaultPath
	}
	fd, err := sys.open(path)
	if err != nil {
		return nil, fmt.Errorf("iommufd: open %s: %w", path, failed(opOpenIOMMU, err))
	}
	h := &Host{ats: cfg.ATS, streams: make(map[smmuv3.StreamID]*stream)}
	h.k.sys, h.k.fd = sys, fd
	h.memory.slots = make(map[guestmem.GPA]guestmem.Slot)
	if h.ioas, err = h.k.allocIOAS(); err != nil {
		return nil, errors.Join(fmt.Errorf("iommufd: open %s: %w", path, err), sys.close(fd))
	}
	return h, nil
}

// errNotMade is the error of a nil or zero Host.
var errNotMade = errors.New("host was not made by iommufd.Open")

// made fails for a Host that Open did not make.
func (h *Host) made() error {
	if h == nil || h.k.sys == nil {
		return errNotMade
	}
	return nil
}

// The errors of a closed host, device or stream. They match bridge.ErrClosed.
var (
	errHostClosed   = fmt.Errorf("host %w", bridge.ErrClosed)
	errDeviceClosed = fmt.Errorf("device %w", bridge.ErrClosed)
	errStreamClosed = fmt.Errorf("stream %w", bridge.ErrClosed)
)

// Capabilities implements bridge.Host. It returns the registers of the first device's SMMU. Before
// the first Add the error matches ErrNoDevice. It omits features that the kernel does not support
// in nested translation.
//
// A guest's ID registers never change. If the VMM adds the first device while the guest runs, it
// has chosen the registers without that device. vsmmu.Device.Attach then checks that the hardware
// has the features that they show.
func (h *Host) Capabilities() (bridge.Capabilities, error) {
	if err := h.made(); err != nil {
		return bridge.Capabilities{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.nest == nil {
		return bridge.Capabilities{}, ErrNoDevice
	}
	return bridge.Capabilities{IDs: h.nest.ids}, nil
}

// Events implements bridge.Host. Faults that the kernel reported for an earlier sink never reach a
// later one.
func (h *Host) Events(sink func(smmuv3.Event)) error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if sink == nil {
		h.claim.release()
		h.deliverFaults() // without a sink this drops them
		h.guest = nil
		h.missed = h.missed || h.nest != nil // the next guest does not inherit translations
		if h.nest != nil {
			return h.nest.show(nil)
		}
		return nil
	}
	if h.closed {
		return errHostClosed
	}
	if h.claim.taken() {
		return fmt.Errorf("host %w", bridge.ErrInUse)
	}
	h.deliverFaults() // drops faults of the earlier device
	h.claim.take(sink)
	return nil
}

// SetGuestIDs implements bridge.Host. It fails if the registers show ATS, ASID16, CD2L, SSIDSIZE,
// RIL or DS beyond the Capabilities, since the hardware would then execute the guest's commands
// differently.
func (h *Host) SetGuestIDs(ids smmuv3.IDRegs) error {
	if err := h.made(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return errHostClosed
	}
	if h.nest != nil {
		if err := h.nest.show(&ids); err != nil {
			return err
		}
	}
	h.guest = &ids
	return nil
}

// Attach implements bridge.Host. The endpoint is a *Device of this host.
func (h *Host) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	if err := h.made(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	s, err := h.attach(sid, ep)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (h *Host) attach(sid smmuv3.StreamID, ep bridge.Endpoint) (*stream, error) {
	d, ok := ep.(*Device)
	switch {
	case !ok || d == nil:
		return nil, fmt.Errorf("%w: %T (want a *iommufd.Device)", bridge.ErrEndpoint, ep)
	case d.host != h:
		return nil, fmt.Errorf("%w: the device belongs to another host", bridge.ErrEndpoint)
	case h.closed:
		return nil, errHostClosed
	case d.closed:
		return nil, errDeviceClosed
	case h.streams[sid] != nil:
		return nil, fmt.Errorf("StreamID %w", bridge.ErrInUse)
	case d.stream != nil:
		return nil, fmt.Errorf("endpoint %w", bridge.ErrInUse)
	}
	_ = h.destroyLeftovers() // Attach adds none
	h.startEvents()
	// Without a vDEVICE the kernel reports no faults and does not know the StreamID in CFGI_CD and
	// ATC_INV.
	if err := h.newVDevice(d, sid); err != nil {
		return nil, err
	}
	if err := h.k.attach(d.fd, h.nest.abort); err != nil {
		_ = h.k.destroy(&d.vdevice) // the next Attach or Close tries again
		return nil, err
	}
	s := &stream{host: h, dev: d, sid: sid, shared: h.nest.abort}
	h.streams[sid] = s
	d.stream = s
	return s, nil
}

// Close destroys all objects. The host is closed even after an error: the kernel frees the
// remaining objects when it closes the descriptor. The caller unmaps the devices' regions first,
// since a mapping keeps the device open. The error of a later call matches bridge.ErrClosed.
func (h *Host) Close() error {
	if err := h.made(); err != nil {
		return fmt.Errorf("iommufd: close: %w", err)
	}
	h.plugging.Lock()
	defer h.plugging.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("iommufd: close: %w", errHostClosed)
	}
	h.closed = true
	var errs []error
	for _, s := range h.streams {
		errs = append(errs, s.detach())
	}
	for _, d := range h.devices {
		_ = h.k.destroy(&d.vdevice) // tried again below
	}
	switch {
	case h.events != nil:
		errs = append(errs, h.events.close())
	case h.nest != nil:
		errs = append(errs, h.nest.events.Close())
	}
	for _, d := range h.devices {
		d.closed = true
		errs = append(errs, h.k.unbind(d.fd))
	}
	// No device uses the remaining objects any more.
	for _, s := range h.streams {
		s.replaceTable(0, 0, vSTE{})
	}
	errs = append(errs, h.unmapAll())
	// At first the kernel may refuse to destroy an object because a later object of the list uses
	// it.
	objects := h.objects()
	for _, object := range objects {
		_ = h.k.destroy(object)
	}
	for _, object := range objects {
		errs = append(errs, h.k.destroy(object))
	}
	h.devices, h.leftovers = nil, nil
	errs = append(errs, h.k.sys.close(h.k.fd))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("iommufd: close: %w", err)
	}
	return nil
}

// objects returns all objects except devices. An object precedes the objects that it uses.
func (h *Host) objects() (all []*id) {
	for _, d := range h.devices {
		all = append(all, &d.vdevice)
	}
	for i := range h.leftovers {
		all = append(all, &h.leftovers[i])
	}
	if h.nest != nil {
		all = append(all, h.nest.objects()...)
	}
	return append(all, &h.ioas)
}

// discard destroys an object that is not in use. If the kernel refuses, it adds the object to the
// leftovers.
func (h *Host) discard(object id) {
	if h.k.destroy(&object) != nil {
		h.leftovers = append(h.leftovers, object)
	}
}

// maxLeftovers limits the leftovers, since a guest could add one with each new STE.
const maxLeftovers = 16

// destroyLeftovers tries again to destroy the leftovers. It fails if too many remain.
func (h *Host) destroyLeftovers() (err error) {
	h.leftovers = slices.DeleteFunc(h.leftovers, func(object id) bool {
		e := h.k.destroy(&object)
		if e != nil {
			err = fmt.Errorf("%d objects are left over: %w", len(h.leftovers), e)
		}
		return e == nil
	})
	if len(h.leftovers) < maxLeftovers {
		return nil
	}
	return err
}
