package soft

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATCRange is the range of a CMD_ATC_INV (§4.5.1): the addresses from First to Last, both included.
// AppliesTo implements its rules:
//
//	HasSubstream  Global  applies to translations
//	true          false   with the SubstreamID Substream
//	true          true    with any SubstreamID
//	false         ignored with any SubstreamID, and without one
type ATCRange struct {
	First, Last  uint64
	Substream    smmuv3.SubstreamID
	HasSubstream bool
	Global       bool
}

// Reaches reports whether the range contains an address of a translation.
func (r ATCRange) Reaches(t Translation) bool {
	return t.Len != 0 && t.IOVA <= r.Last && t.IOVA+(t.Len-1) >= r.First
}

// AppliesTo reports whether the range applies to translations with this SubstreamID. With
// hasSubstream false it reports whether the range applies to translations without a SubstreamID. A
// range without a SubstreamID applies to all translations: Linux relies on it.
func (r ATCRange) AppliesTo(s smmuv3.SubstreamID, hasSubstream bool) bool {
	return !r.HasSubstream || hasSubstream && (r.Global || r.Substream == s)
}

// invalidateATCs makes the endpoints drop the translations that ATC_INVs name. The TLB has been
// invalidated, and no request that used it is in flight (§4.5.1).
func (h *Host) invalidateATCs(cmds []smmuv3.Command, shown *shown) error {
	var err error
	for _, c := range cmds {
		if c.Opcode() != smmuv3.OpATCInv {
			continue
		}
		if s := h.streams[c.StreamID()]; s != nil && !s.ep.invalidateATC(shown.atcRange(c), h.atcTimeout) {
			err = fmt.Errorf("stream %v: %w", s.sid, bridge.ErrATCTimeout)
		}
	}
	h.sections.Drain() // of translated transactions
	return err
}

// maxLate limits, for each endpoint, the calls of ATS.Invalidate that have timed out and not
// returned. Each such call occupies a goroutine.
const maxLate = 4

// invalidateATC makes the device invalidate a range of its ATC. It returns false if the device does
// not finish within the timeout. The endpoint is then isolated: its ATC has no valid translation.
func (e *Endpoint) invalidateATC(r ATCRange, timeout time.Duration) bool {
	a := e.ats.Load()
	if a == nil || a.Invalidate == nil || a.isolated.Load() {
		return true // the ATC has no valid translation (§3.9.1.5)
	}
	if e.late.Load() >= maxLate {
		a.isolated.Store(true) // each EnableATS would add a goroutine if Invalidate never returns
		return false
	}
	done := make(chan struct{})
	e.late.Add(1)
	go func() {
		defer close(done)
		defer e.late.Add(-1)
		a.Invalidate(r)
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

// atcRange returns the range of an ATC_INV: 4096 * 2^Size bytes, aligned to its size. A Size of 52
// or more means all addresses. SSV is ignored without IDR1.SSIDSIZE, and Global without SSV.
func (s *shown) atcRange(c smmuv3.Command) ATCRange {
	span := ^uint64(0)
	if size := c.ATCSize(); size < 52 {
		span = 1<<(12+size) - 1
	}
	first := c.Addr() &^ span
	r := ATCRange{First: first, Last: first | span}
	if c.SSV() && s.ids.Has(smmuv3.SSIDSIZE) {
		r.Substream, r.HasSubstream, r.Global = c.SubstreamID(), true, c.Global()
	}
	return r
}
