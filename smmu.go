package vsmmuv3

import (
	"errors"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// Config configures an SMMU. Memory and Interrupts are required.
type Config struct {
	// Memory is the guest's memory: a guestmem.Slots over the VMM's mappings. For live migration it
	// is a guestmem.Tracked over the Slots. With memory that is not a guestmem.Swapper, the guest
	// reads IDR0.HTTU as 0: it has no hardware update of Access flags and dirty state.
	Memory guestmem.Memory
	// Interrupts signals the SMMU's own interrupts: vsmmu.SPIs, vsmmu.EventFDs, or the VMM's own.
	Interrupts vsmmu.Interrupts
	// MSI sends the MSIs of endpoints to the guest's interrupt controller, which identifies them by
	// their StreamIDs (see soft.Config). It may be nil if no endpoint sends any.
	MSI func(sid smmuv3.StreamID, addr guestmem.GPA, data uint32) error
	// Policy are the ID register fields that the VMM chooses. If the policy asks for ATS, PRI,
	// stalls, a stage 2 or addresses of 52 bits, the host offers them. With Saved, Policy has no
	// effect, and the guest continues to read the saved registers.
	Policy idr.Policy
	// Saved is the result of Save. New then returns an SMMU in that state, with all its streams.
	// Memory must have the contents that it had at Save. Endpoint returns the endpoint of each
	// stream. A VMM that had endpoints of other hosts restores by the parts: New attaches every
	// stream to Host.
	Saved []byte

	// Device and Host have the other options of the parts, such as Device.AbortAtReset, Device.Log
	// and Host.TLBEntries. New sets their Memory, Interrupts and MSI, and Device.IDs. If Host.IDs
	// is not zero, the host offers these ID registers.
	Device vsmmu.Config
	Host   soft.Config
}

// SMMU is a virtual SMMUv3 in front of emulated devices. Its methods, and those of its Device, may
// be called from any goroutine, but not from a callback (see vsmmu, Duties of the embedder).
type SMMU struct {
	// Device has the guest's registers: Load, Store, LoadBytes, StoreBytes. It also has IDs, Stage,
	// Save and Reset. Its Attach puts endpoints of other hosts, such as bridge/iommufd, behind the
	// SMMU. Close detaches these endpoints, but the caller must close their hosts.
	*vsmmu.Device
	// Host translates for the endpoints. Do not call Host.Attach: a stream that the Device does not
	// know aborts, and keeps its StreamID in use. Call Endpoint or Device.Attach.
	Host *soft.Host

	mu       sync.Mutex
	restored map[smmuv3.StreamID]*soft.Endpoint // not yet returned by Endpoint
}

// New returns an SMMU, in its reset state or in the state of Config.Saved. The caller must Close it.
//
// An error matches vsmmu.ErrConfig if the configuration is invalid, idr.ErrPolicy if Config.Policy
// contradicts itself or exceeds the host, and vsmmu.ErrState if Config.Saved is not a state.
func New(cfg Config) (*SMMU, error) {
	if err := cfg.check(); err != nil {
		return nil, invalid(err)
	}
	ids, streams, err := cfg.saved()
	if err != nil {
		return nil, err
	}
	if _, ok := cfg.Memory.(guestmem.Swapper); !ok && cfg.Memory != nil && ids.Has(smmuv3.HTTU) {
		return nil, invalid(errors.New("Config.Memory is not a guestmem.Swapper, and the saved guest reads HTTU" +
			" (use a guestmem.Slots or a guestmem.Tracked)"))
	}
	cfg.Host.Memory, cfg.Host.MSI = cfg.Memory, cfg.MSI
	if cfg.Host.IDs == (smmuv3.IDRegs{}) {
		cfg.Host.IDs = offer(cfg.Policy, ids, cfg.Memory)
	}
	s := &SMMU{restored: map[smmuv3.StreamID]*soft.Endpoint{}}
	if s.Host, err = soft.New(cfg.Host); err != nil {
		return nil, invalid(errors.Unwrap(err)) // without "soft: new host"
	}
	if err := s.start(&cfg, ids, streams); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// invalid returns the error of New for an invalid configuration.
func invalid(err error) error {
	return fmt.Errorf("vsmmuv3: new SMMU: %w: %w", vsmmu.ErrConfig, err)
}

// start makes the device. If there is a saved state, it attaches its streams and restores it.
func (s *SMMU) start(cfg *Config, ids smmuv3.IDRegs, streams []smmuv3.StreamID) (err error) {
	if cfg.Saved == nil {
		caps, _ := s.Host.Capabilities() // of a new host
		derived, err := idr.Derive(cfg.Policy, caps)
		if err != nil {
			return err
		}
		ids = derived.IDs
	}
	cfg.Device.Memory, cfg.Device.Interrupts, cfg.Device.IDs = cfg.Memory, cfg.Interrupts, ids
	if s.Device, err = vsmmu.New(cfg.Device); err != nil {
		return err
	}
	for _, sid := range streams {
		ep := soft.NewEndpoint()
		if err := s.Device.Attach(sid, s.Host, ep); err != nil {
			return err
		}
		s.restored[sid] = ep
	}
	if cfg.Saved == nil {
		return nil
	}
	return s.Device.Restore(cfg.Saved)
}

// check returns an error for a field of Device or Host that New sets.
func (c *Config) check() error {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"Device.Memory", c.Device.Memory != nil},
		{"Device.Interrupts", c.Device.Interrupts != nil},
		{"Device.IDs", c.Device.IDs != smmuv3.IDRegs{}},
		{"Host.Memory", c.Host.Memory != nil},
		{"Host.MSI", c.Host.MSI != nil},
	} {
		if f.set {
			return fmt.Errorf("%s is set (New sets it from the fields of Config)", "Config."+f.name)
		}
	}
	if c.Saved != nil && len(c.Saved) == 0 {
		return errors.New("Config.Saved is empty but not nil")
	}
	return nil
}

// saved returns the ID registers and the StreamIDs of the saved state, if there is one.
func (c *Config) saved() (ids smmuv3.IDRegs, streams []smmuv3.StreamID, err error) {
	if c.Saved == nil {
		return ids, nil, nil
	}
	if ids, err = vsmmu.SavedIDs(c.Saved); err == nil {
		streams, err = vsmmu.SavedStreams(c.Saved)
	}
	if err != nil {
		err = fmt.Errorf("vsmmuv3: new SMMU: Config.Saved: %w", errors.Unwrap(err)) // without "vsmmu: saved IDs"
	}
	return ids, streams, err
}

// made fails for an SMMU that New did not make.
func (s *SMMU) made(op string) error {
	if s == nil || s.Device == nil {
		return fmt.Errorf("vsmmuv3: %s: SMMU was not made by New", op)
	}
	return nil
}

// Endpoint puts a device behind the SMMU, with the StreamID that the guest's firmware has for the
// device. Call it before the guest starts, or when a device is plugged in. The device model does
// all its DMA through the endpoint.
//
// After a restore, the first call for each saved StreamID returns the endpoint of the restored
// stream. Call EnableATS and AllowStalls on it as on a new endpoint, before its device does DMA.
//
// Endpoint fails if the StreamID does not fit IDR1.SIDSIZE (vsmmu.ErrConfig), or is in use
// (bridge.ErrInUse).
func (s *SMMU) Endpoint(sid smmuv3.StreamID) (*soft.Endpoint, error) {
	if err := s.made("new endpoint"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep, ok := s.restored[sid]; ok {
		delete(s.restored, sid)
		return ep, nil
	}
	ep := soft.NewEndpoint()
	if err := s.Device.Attach(sid, s.Host, ep); err != nil {
		return nil, err
	}
	return ep, nil
}

// Detach removes a device from the SMMU, as vsmmu.Device.Detach does. Afterwards DMA of its
// endpoint fails, and Endpoint may use the StreamID again.
func (s *SMMU) Detach(sid smmuv3.StreamID) error {
	if err := s.made("detach"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.restored, sid)
	return s.Device.Detach(sid)
}

// Close closes first the device, then its host. Stop the vCPUs before Close. Afterwards DMA of
// endpoints fails. A second Close has no effect and returns an error that matches vsmmu.ErrClosed.
// After a Close of Device alone, Close closes the host.
func (s *SMMU) Close() error {
	if s == nil || s.Host == nil {
		return s.made("close")
	}
	if s.Device == nil { // New has failed
		return s.Host.Close()
	}
	err, closed := s.Device.Close(), s.Host.Close()
	switch {
	case errors.Is(closed, bridge.ErrClosed):
		return err
	case errors.Is(err, vsmmu.ErrClosed):
		return closed
	}
	return errors.Join(err, closed)
}
