package soft

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// stream is an endpoint as the host knows it. Its methods hold the host's lock.
type stream struct {
	host *Host
	sid  smmuv3.StreamID
	ep   *Endpoint // nil once closed
}

// binding is a stage in effect on a stream. It does not change, but for its
// cache; the endpoint has a pointer to the one that stands.
type binding struct {
	host  *Host
	ep    *Endpoint
	sid   smmuv3.StreamID
	stage bridge.GuestStage
	table smmuv3.CDTable
	cds   []cdSlot // a power of two of them; none unless stage 1 translates
	s2    *stage2  // nil unless stage 2 translates
	vas   *tlb     // of what stage 1 translates, stage 2 along with it
	ipas  *tlb     // of what stage 2 translates alone
}

// newBinding makes a binding. Its TLBs are to be given back.
func newBinding(h *Host, ep *Endpoint, sid smmuv3.StreamID, g bridge.GuestStage) *binding {
	b := &binding{host: h, ep: ep, sid: sid, stage: g}
	if g.Disposition.Stage1() {
		b.table = smmuv3.CDTable{Ptr: uint64(g.S1ContextPtr), Max: g.S1CDMax, Fmt: g.S1Fmt}
		b.cds = make([]cdSlot, min(1<<g.S1CDMax, cdSlots))
		b.vas = h.tlbs.acquire(g.S2VMID, kindOf[g.Disposition])
	}
	if g.Disposition.Stage2() {
		b.s2 = newStage2(&g.S2, &h.ids)
		if !g.Disposition.Stage1() || g.S1DSS == smmuv3.S1DSSBypass {
			b.ipas = h.tlbs.acquire(g.S2VMID, ofStage2)
		}
	}
	return b
}

// release gives the TLBs back. No transaction is under way that uses the binding.
func (b *binding) release() {
	b.host.tlbs.release(b.vas)
	b.host.tlbs.release(b.ipas)
}

// Bind is bridge.Stream's. Stages that the architecture has no STE for are
// rejected, as hardware would.
func (s *stream) Bind(g bridge.GuestStage) error {
	if err := s.host.check(g); err != nil {
		return fmt.Errorf("soft: bind stream %v: %w", s.sid, err)
	}
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.ep == nil {
		return fmt.Errorf("soft: bind stream %v: %w", s.sid, bridge.ErrClosed)
	}
	old := s.ep.bound.Swap(newBinding(s.host, s.ep, s.sid, g))
	s.host.sections.Drain()
	old.release()
	return nil
}

// Close is bridge.Stream's.
func (s *stream) Close() error {
	s.host.mu.Lock()
	defer s.host.mu.Unlock()
	if s.ep == nil {
		return fmt.Errorf("soft: close stream %v: %w", s.sid, bridge.ErrClosed)
	}
	old := s.detach()
	s.host.sections.Drain()
	old.release()
	s.host.stalls.terminate(s.sid) // none comes after the drain
	delete(s.host.streams, s.sid)
	s.host.endpoints.Delete(s.sid)
	return nil
}

// detach lets go of the endpoint. DMA under way is not waited for.
func (s *stream) detach() *binding {
	old := s.ep.bound.Swap(nil)
	s.ep = nil
	return old
}

// check judges a stage as an STE with the same fields.
func (h *Host) check(g bridge.GuestStage) error {
	switch g.Disposition {
	case bridge.Abort, bridge.Bypass:
		return nil
	case bridge.Translate, bridge.TranslateS2, bridge.TranslateNested:
	default:
		return fmt.Errorf("%w: disposition %d", bridge.ErrRejected, g.Disposition)
	}
	s := g.STE()
	if rule := s.Illegal(&h.ids); rule != nil {
		return fmt.Errorf("%w: %v", bridge.ErrRejected, rule)
	}
	// Fields that do not fit into an STE.
	if uint64(g.S1ContextPtr) != s.S1ContextPtr() || g.S1CDMax != s.S1CDMax() || uint32(g.S1CDMax) > h.ids.Get(smmuv3.SSIDSIZE) {
		return fmt.Errorf("%w: S1ContextPtr %v or S1CDMax %d is out of range", bridge.ErrRejected, g.S1ContextPtr, g.S1CDMax)
	}
	if g.Disposition.Stage2() && g.S2 != s.Stage2().Effective(&h.ids, g.Disposition.Stage1()) {
		return fmt.Errorf("%w: stage 2 has what does not fit or means nothing: %v", bridge.ErrRejected, g)
	}
	if g.S2VMID != 0 && !h.ids.Has(smmuv3.S2P) {
		return fmt.Errorf("%w: S2VMID %d, without stage 2", bridge.ErrRejected, g.S2VMID)
	}
	return nil
}

// translate finds out where a transaction goes: the order of events of
// §7.3.22, from C_BAD_STREAMID on.
func (b *binding) translate(iova uint64, a *access) (translation, *refusal) {
	g := &b.stage
	switch {
	case g.Disposition == bridge.Abort:
		return translation{}, b.aborted(a)
	case g.Disposition == bridge.Bypass && g.Disabled:
		t, r := b.bypass(iova, a)
		if r != nil {
			r = &refusal{} // §3.4: no event is recorded
		}
		return t, r
	case !g.Disposition.Stage1() && a.attrs.HasSubstream:
		return translation{}, b.badSubstream(a.attrs.Substream)
	case !g.Disposition.Stage1():
		return b.bypass(iova, a)
	}

	index, use := substream(g, a.attrs)
	switch use {
	case useBypass:
		return b.bypass(iova, a)
	case useBadSubstream:
		return translation{}, b.badSubstream(a.attrs.Substream)
	case useDisabled:
		return translation{}, &refusal{event: smmuv3.NewEvent(smmuv3.FStreamDisabled, b.sid)}
	}

	c, r := b.context(index, iova, a)
	if r != nil {
		return translation{}, r
	}
	h := b.host
	if _, ok := c.half(iova); ok {
		if t, ok := b.vas.lookup(c.space, iova, a.need); ok {
			return t, nil
		}
	}
	now := h.clock.Load() // before the first descriptor is read
	l, r := b.walk(c, iova, a)
	if r != nil {
		return translation{}, r
	}
	if b.s2 != nil {
		l2, r := b.stage2(l.translate(iova).pa, forInput, iova, a)
		if r != nil {
			return translation{}, r
		}
		if l2.size < l.size {
			b.vas.fracture()
		}
		l = l.through(l2, iova)
	}
	b.vas.insert(c.space, iova, l, now, &h.clock)
	return l.translate(iova), nil
}

// aborted is the outcome in a stream that aborts.
func (b *binding) aborted(a *access) *refusal {
	g := &b.stage
	if g.Cause == 0 || g.Disabled {
		return &refusal{}
	}
	r := b.configError(g.Cause, a)
	if g.Cause == smmuv3.FSTEFetch {
		r.event.SetFetchAddr(uint64(g.FetchAddr))
	}
	return r
}

// bypass is what becomes of an address that stage 1 lets by: it is an IPA, if the
// output has room for it (§3.4). Without AArch32 tables as much goes into stage 2.
func (b *binding) bypass(iova uint64, a *access) (translation, *refusal) {
	mask := b.host.outputMask
	if iova > mask {
		return translation{}, b.inputFault(smmuv3.FAddrSize, iova, a)
	}
	if b.s2 != nil {
		return b.translateIPA(iova, a)
	}
	return translation{iova, mask - iova + 1}, nil
}

// use is what becomes of a transaction in a stream that translates.
type use uint8

const (
	useContext use = iota
	useBypass
	useBadSubstream
	useDisabled
)

// substream chooses the CD by the transaction's SubstreamID, or by S1DSS where
// it has none (§5.2, S1DSS; §7.3.7; §7.3.9).
func substream(g *bridge.GuestStage, a Attrs) (smmuv3.SubstreamID, use) {
	switch {
	case a.HasSubstream && (g.S1CDMax == 0 || uint64(a.Substream)>>g.S1CDMax != 0):
		return 0, useBadSubstream
	case a.HasSubstream && a.Substream == 0 && g.S1DSS == smmuv3.S1DSSSubstream0:
		return 0, useDisabled // CD 0 is that of transactions without
	case a.HasSubstream:
		return a.Substream, useContext
	case g.S1CDMax == 0 || g.S1DSS == smmuv3.S1DSSSubstream0:
		return 0, useContext
	case g.S1DSS == smmuv3.S1DSSBypass:
		return 0, useBypass
	}
	return 0, useDisabled
}
