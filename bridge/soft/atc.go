package soft

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATCRange is what a CMD_ATC_INV (§4.5.1) reaches: the addresses from First to Last,
// both included, of requests with this SubstreamID, or without any; with Global, of
// those with whichever SubstreamID.
type ATCRange struct {
	First, Last  uint64
	Substream    smmuv3.SubstreamID
	HasSubstream bool
	Global       bool
}

// Reaches reports whether addresses of a translation are in the range.
func (r ATCRange) Reaches(t Translation) bool {
	return t.Len != 0 && t.IOVA <= r.Last && t.IOVA+(t.Len-1) >= r.First
}

// invalidateATCs has the endpoints drop what ATC_INVs name. The TLB has been
// invalidated, and no request that it could have answered is under way (§4.5.1).
func (h *Host) invalidateATCs(cmds []smmuv3.Command) error {
	var err error
	for _, c := range cmds {
		if s := h.streams[c.StreamID()]; c.Opcode() == smmuv3.OpATCInv && s != nil && !s.ep.invalidateATC(c, h.atcTimeout) {
			err = fmt.Errorf("soft: stream %v: %w", s.sid, bridge.ErrATCTimeout)
		}
	}
	h.sections.Drain() // of translated transactions
	return err
}

// invalidateATC reports false if the device took too long. From then on nothing that
// it holds counts.
func (e *Endpoint) invalidateATC(c smmuv3.Command, timeout time.Duration) bool {
	a := e.ats.Load()
	if a == nil || a.Invalidate == nil || a.isolated.Load() {
		return true // there is nothing (§3.9.1.5), or nothing that counts
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.Invalidate(atcRange(c))
	}()
	late := time.NewTimer(timeout)
	defer late.Stop()
	select {
	case <-done:
		return true
	case <-late.C:
		a.isolated.Store(true)
		return false
	}
}

// atcRange reads the fields of an ATC_INV: 4096 * 2^Size bytes, aligned to that, and
// with a Size of 52 and more everything. Global means nothing without a SubstreamID.
func atcRange(c smmuv3.Command) ATCRange {
	span := ^uint64(0)
	if size := c.ATCSize(); size < 52 {
		span = 1<<(12+size) - 1
	}
	first := c.Addr() &^ span
	return ATCRange{
		First: first, Last: first | span,
		Substream: c.SubstreamID(), HasSubstream: c.SSV(), Global: c.SSV() && c.Global(),
	}
}
