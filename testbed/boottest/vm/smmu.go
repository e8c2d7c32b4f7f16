package vm

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

// smmuDevice is a vsmmu.Device or a transcript.Recorder.
type smmuDevice interface {
	io.Closer
	Load(off uint64, size int) uint64
	Store(off uint64, size int, v uint64)
	Attach(smmuv3.StreamID, bridge.Host, bridge.Endpoint) error
	Save() ([]byte, error)
}

// smmu is a machine's SMMU: a device and its host. It can be moved while the guest runs: saved,
// discarded, and restored into another device with another host. Its methods may be called from any
// goroutine.
type smmu struct {
	cfg   vsmmu.Config
	hosts soft.Config
	// round, unless nil, is called in each move while DMA is stopped and the device is saved. It is
	// the last round of a live migration (guestmem.Tracked).
	round func()

	// Endpoints' DMA holds dma shared, and the guest's loads and stores hold accesses shared. A
	// move holds both exclusively, as if endpoints and vCPUs were stopped. It locks dma first:
	// stalled DMA waits for the guest's accesses.
	dma, accesses sync.RWMutex
	moving        atomic.Bool
	device        smmuDevice
	host          *soft.Host
	attached      []attached
}

type attached struct {
	sid      smmuv3.StreamID
	endpoint *soft.Endpoint
}

// newSMMU returns an SMMU with its first device and host. Moves use cfg and hosts for the next
// ones.
func newSMMU(
	cfg vsmmu.Config, hosts soft.Config, host *soft.Host, make func(vsmmu.Config) (smmuDevice, error),
) (*smmu, error) {
	s := &smmu{cfg: cfg, hosts: hosts, host: host}
	if bound := cfg.Trace.Bind; bound != nil {
		s.cfg.Trace.Bind = func(sid smmuv3.StreamID, g bridge.GuestStage, err error) {
			if !s.moving.Load() { // a Restore repeats binds that the guest caused earlier
				bound(sid, g, err)
			}
		}
	}
	var err error
	s.device, err = make(s.cfg)
	return s, err
}

// Load and Store access the device's registers.
func (s *smmu) Load(off uint64, size int) uint64 {
	s.accesses.RLock()
	defer s.accesses.RUnlock()
	return s.device.Load(off, size)
}

func (s *smmu) Store(off uint64, size int, v uint64) {
	s.accesses.RLock()
	defer s.accesses.RUnlock()
	s.device.Store(off, size, v)
}

// attach attaches an endpoint to the device.
func (s *smmu) attach(sid smmuv3.StreamID, endpoint *soft.Endpoint) error {
	s.accesses.Lock()
	defer s.accesses.Unlock()
	if err := s.device.Attach(sid, s.host, endpoint); err != nil {
		return err
	}
	s.attached = append(s.attached, attached{sid, endpoint})
	return nil
}

// move moves the SMMU and returns the size of its state. After an error the SMMU is unusable.
func (s *smmu) move() (size int, err error) {
	s.dma.Lock()
	defer s.dma.Unlock()
	s.accesses.Lock()
	defer s.accesses.Unlock()
	s.moving.Store(true)
	defer s.moving.Store(false)

	state, err := s.device.Save()
	if err != nil {
		return 0, err
	}
	if s.round != nil {
		s.round()
	}
	if err := errors.Join(s.device.Close(), s.host.Close()); err != nil {
		return 0, fmt.Errorf("closing the saved SMMU: %w", err)
	}
	if s.cfg.IDs, err = vsmmu.SavedIDs(state); err != nil {
		return 0, err
	}
	host, err := soft.New(s.hosts)
	if err != nil {
		return 0, err
	}
	next, err := vsmmu.New(s.cfg)
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

// Close closes the device and then the host. After Close, no endpoint reaches memory, and no
// interrupt reaches the machine.
func (s *smmu) Close() error {
	s.accesses.Lock()
	defer s.accesses.Unlock()
	return errors.Join(s.device.Close(), s.host.Close())
}
