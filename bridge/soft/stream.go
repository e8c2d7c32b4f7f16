package soft

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stream is an attached endpoint. The host's lock guards it.
type stream struct {
	host *Host
	sid  smmuv3.StreamID
	ep   *Endpoint // nil once closed
}

// Bind implements bridge.Stream. It rejects a stage that no legal STE describes, as hardware does.
func (s *stream) Bind(g bridge.GuestStage) error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.ep == nil {
		return errStreamClosed
	}
	if err := s.host.checkStage(g); err != nil {
		return fmt.Errorf("%w: %w", bridge.ErrRejected, err)
	}
	old := s.ep.bound.Swap(newBinding(s.host, s.ep, s.sid, g))
	s.host.sections.Drain()
	old.release()
	return nil
}

// Close implements bridge.Stream.
func (s *stream) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.ep == nil {
		return errStreamClosed
	}
	old := s.detach()
	s.host.sections.Drain()
	old.release()
	s.host.stalls.terminate(s.sid) // no transaction stalls after the drain
	delete(s.host.streams, s.sid)
	s.host.endpoints.remove(s.sid)
	return nil
}

// detach detaches the endpoint. It does not wait for in-flight DMA.
func (s *stream) detach() *binding {
	old := s.ep.bound.Swap(nil)
	s.ep = nil
	return old
}

// checkStage returns an error if an STE with the fields of the stage is illegal.
func (h *Host) checkStage(g bridge.GuestStage) error {
	switch g.Disposition {
	case bridge.Abort, bridge.Bypass:
		return nil
	case bridge.Translate, bridge.TranslateS2, bridge.TranslateNested:
	default:
		return fmt.Errorf("disposition %d is undefined", uint8(g.Disposition))
	}
	ids := &h.shown.Load().ids
	s := g.STE()
	// The device sets S1STALLD if the host can stall and the guest's ID registers show no stalls.
	// The guest's own STE must not set it.
	if h.offered.Get(smmuv3.StallModel) == smmuv3.StallBoth && ids.Get(smmuv3.StallModel) == smmuv3.StallTerminate {
		s.SetS1STALLD(false)
	}
	if rule := s.Illegal(ids); rule != nil {
		return fmt.Errorf("%v", rule)
	}
	switch {
	case uint64(g.S1ContextPtr) != s.S1ContextPtr():
		return fmt.Errorf("S1ContextPtr %v is out of range or misaligned", g.S1ContextPtr)
	case g.S1CDMax != s.S1CDMax() || uint32(g.S1CDMax) > ids.Get(smmuv3.SSIDSIZE):
		return fmt.Errorf("S1CDMax %d is out of range", g.S1CDMax)
	case g.Disposition.Stage2() && g.S2 != s.Stage2().Effective(ids, g.Disposition.Stage1()):
		return fmt.Errorf("stage 2 fields are out of range or not in effect: %v", g)
	case g.S2VMID != 0 && !ids.Has(smmuv3.S2P):
		return fmt.Errorf("S2VMID %d without stage 2", g.S2VMID)
	}
	return nil
}
