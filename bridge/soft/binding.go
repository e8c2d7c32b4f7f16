package soft

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// binding is the stage in effect on a stream. It is immutable except for its cached CDs. The
// endpoint points to the current binding.
type binding struct {
	host  *Host
	shown *shown
	ep    *Endpoint
	sid   smmuv3.StreamID
	stage bridge.GuestStage
	table smmuv3.CDTable
	cds   []cdSlot // a power of two of them; none unless stage 1 translates
	s2    *stage2  // nil unless stage 2 translates
	vas   *domain  // translations of stage 1, or of both stages
	ipas  *domain  // translations of stage 2 alone
}

// newBinding returns a binding. The caller holds the host's lock, and releases the binding later.
func newBinding(h *Host, ep *Endpoint, sid smmuv3.StreamID, g bridge.GuestStage) *binding {
	b := &binding{host: h, shown: h.shown.Load(), ep: ep, sid: sid, stage: g}
	if g.Disposition.Stage1() {
		b.table = smmuv3.CDTable{Ptr: uint64(g.S1ContextPtr), Max: g.S1CDMax, Fmt: g.S1Fmt}
		b.cds = h.cds.alloc(1 << g.S1CDMax)
		b.vas = h.domains.acquire(g.S2VMID, kindOf[g.Disposition])
	}
	if g.Disposition.Stage2() {
		b.s2 = newStage2(&g.S2, &b.shown.ids)
		if !g.Disposition.Stage1() || g.S1DSS == smmuv3.S1DSSBypass {
			b.ipas = h.domains.acquire(g.S2VMID, ofStage2)
		}
	}
	return b
}

// release returns the host's resources that the binding uses. No in-flight transaction uses the
// binding. A micro-TLB may keep the binding alive, so release clears its references.
func (b *binding) release() {
	b.host.domains.release(b.vas)
	b.host.domains.release(b.ipas)
	b.host.cds.free(len(b.cds))
	b.vas, b.ipas, b.s2, b.cds = nil, nil, nil, nil
}

// begin starts a transaction. It returns the current binding, and the transaction's section, for
// which invalidations wait. The binding is nil if the endpoint is not attached.
func (e *Endpoint) begin() (*binding, guestmem.Section) {
	if e == nil {
		return nil, guestmem.Section{}
	}
	for {
		b := e.bound.Load()
		if b == nil {
			return nil, guestmem.Section{}
		}
		s := b.host.sections.Enter()
		// Bind may have replaced b before Enter, without waiting for this section.
		if e.bound.Load() == b {
			return b, s
		}
		s.Leave()
	}
}
