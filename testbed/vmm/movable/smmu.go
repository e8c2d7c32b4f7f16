// Package movable has an SMMU that moves while its guest runs. A move saves and discards the
// device, and restores it into another device with another host. The guest and the endpoints see
// one SMMU.
package movable

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Device is a vsmmu.Device or a transcript.Recorder.
type Device interface {
	io.Closer
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
	Attach(smmuv3.StreamID, bridge.Host, bridge.Endpoint) error
	Save() ([]byte, error)
	Reset() error
}

// Config describes an SMMU.
type Config struct {
	// Device and Host configure the first device and host, and the device and host of each move.
	Device vsmmu.Config
	Host   soft.Config
	// New returns the first device; nil means vsmmu.New.
	New func(vsmmu.Config) (Device, error)
	// Stop, unless nil, stops DMA for a move and returns the function that continues it. DMA
	// between EnterDMA and LeaveDMA stops without Stop. A move that Stop refuses changes nothing.
	Stop func() (resume func(), err error)
	// Round, unless nil, is called in each move while DMA stands still and the device is saved: the
	// last round of a live migration (guestmem.Tracked).
	Round func()
}

// SMMU is a device and its host. Its methods may be called from any goroutine.
type SMMU struct {
	cfg Config

	// Endpoints' DMA holds dma shared, and the guest's loads and stores hold accesses shared. A
	// move holds both exclusively, so endpoints and vCPUs wait. It locks dma first, since stalled
	// DMA waits for the guest's accesses.
	dma, accesses sync.RWMutex
	moving        atomic.Bool
	device        Device
	host          *soft.Host
	attached      []attached
}

type attached struct {
	sid      smmuv3.StreamID
	endpoint *soft.Endpoint
}

// New returns an SMMU with its first device. host is its first host, which the SMMU then owns.
func New(cfg Config, host *soft.Host) (*SMMU, error) {
	if cfg.New == nil {
		cfg.New = func(cfg vsmmu.Config) (Device, error) { return vsmmu.New(cfg) }
	}
	s := &SMMU{cfg: cfg, host: host}
	if bound := cfg.Device.Trace.Bind; bound != nil {
		s.cfg.Device.Trace.Bind = func(sid smmuv3.StreamID, g bridge.GuestStage, err error) {
			if !s.moving.Load() { // a Restore binds stages that the guest bound before
				bound(sid, g, err)
			}
		}
	}
	var err error
	s.device, err = cfg.New(s.cfg.Device)
	return s, err
}

// Load reads a register.
func (s *SMMU) Load(off uint64, size int) uint64 {
	s.accesses.RLock()
	defer s.accesses.RUnlock()
	return s.device.Load(off, size)
}

// Store writes a register.
func (s *SMMU) Store(off uint64, size int, v uint64) {
	s.accesses.RLock()
	defer s.accesses.RUnlock()
	s.device.Store(off, size, v)
}

// EnterDMA starts DMA of an endpoint, which LeaveDMA ends. The caller must hold no lock that the
// SMMU, a vCPU or another endpoint may wait for.
func (s *SMMU) EnterDMA() { s.dma.RLock() }

// LeaveDMA ends DMA.
func (s *SMMU) LeaveDMA() { s.dma.RUnlock() }

// Attach attaches an endpoint.
func (s *SMMU) Attach(sid smmuv3.StreamID, endpoint *soft.Endpoint) error {
	s.accesses.Lock()
	defer s.accesses.Unlock()
	if err := s.device.Attach(sid, s.host, endpoint); err != nil {
		return err
	}
	s.attached = append(s.attached, attached{sid, endpoint})
	return nil
}

// Device returns the current device, which the next move closes.
func (s *SMMU) Device() Device {
	s.accesses.RLock()
	defer s.accesses.RUnlock()
	return s.device
}

// SetRound sets Config.Round.
func (s *SMMU) SetRound(f func()) {
	s.accesses.Lock()
	defer s.accesses.Unlock()
	s.cfg.Round = f
}

// Moving reports whether a move is in progress.
func (s *SMMU) Moving() bool { return s.moving.Load() }

// ErrBusy means that DMA did not stop, and that the SMMU was not moved. Move's error matches it.
var ErrBusy = errors.New("DMA does not stop")

// Move moves the SMMU and returns the size of its state in bytes. After an error that does not match
// ErrBusy the SMMU is unusable.
func (s *SMMU) Move() (size int, err error) {
	s.dma.Lock()
	defer s.dma.Unlock()
	if s.cfg.Stop != nil {
		resume, err := s.cfg.Stop()
		if err != nil {
			return 0, fmt.Errorf("%w: %w", ErrBusy, err)
		}
		defer resume()
	}
	s.accesses.Lock()
	defer s.accesses.Unlock()
	s.moving.Store(true)
	defer s.moving.Store(false)

	state, err := s.device.Save()
	if err != nil {
		return 0, err
	}
	if s.cfg.Round != nil {
		s.cfg.Round()
	}
	if err := errors.Join(s.device.Close(), s.host.Close()); err != nil {
		return 0, fmt.Errorf("closing the saved SMMU: %w", err)
	}
	if s.cfg.Device.IDs, err = vsmmu.SavedIDs(state); err != nil {
		return 0, err
	}
	host, err := soft.New(s.cfg.Host)
	if err != nil {
		return 0, err
	}
	next, err := vsmmu.New(s.cfg.Device)
	if err != nil {
		return 0, err
	}
	s.device, s.host = next, host
	for _, a := range s.attached {
		if err := next.Attach(a.sid, host, a.endpoint); err != nil {
			return 0, err
		}
	}
	return len(state), next.Restore(state)
}

// Close closes the device and then the host. Afterwards no endpoint reaches memory, and no
// interrupt reaches the machine.
func (s *SMMU) Close() error {
	s.accesses.Lock()
	defer s.accesses.Unlock()
	return errors.Join(s.device.Close(), s.host.Close())
}
