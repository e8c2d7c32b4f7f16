package vmm

import (
	"sync"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// Edu places an edu function on the root bus of the PCI host bridge.
type Edu struct {
	Device   int // 0 to 31; 0 if there is no AddRootPort
	Function int // 0 to 7; a guest finds function 0 first, and the others only with it
	edu.Features
}

// StreamID returns the StreamID of the function's DMA, which is its requester ID.
func (e Edu) StreamID() smmuv3.StreamID {
	return smmuv3.StreamID(pci.RootFunction(e.Device, e.Function))
}

// sharedLine is a level-triggered interrupt that functions share: it is high while any of them
// raises it.
type sharedLine struct {
	mu     sync.Mutex
	raised int
}

// change counts a function that raises the line, or lowers it, and sets the level if that changes.
func (s *sharedLine) change(level bool, set func(level bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.raised > 0
	if level {
		s.raised++
	} else {
		s.raised--
	}
	if now := s.raised > 0; now != was {
		set(now)
	}
}
