package soft

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// translate translates the address of a transaction. It checks for events in the order of §7.3.22,
// from C_BAD_STREAMID on.
func (b *binding) translate(s guestmem.Section, iova uint64, a *access) (translation, *refusal) {
	g := &b.stage
	switch {
	case g.Disposition == bridge.Abort:
		return translation{}, b.aborted(a)
	case g.Disposition == bridge.Bypass && g.Disabled:
		t, r := b.bypass(s, iova, a)
		if r != nil {
			r = &refusal{err: errDisabledSize} // §3.4: no event is recorded
		}
		return t, r
	case !g.Disposition.Stage1() && a.attrs.HasSubstream:
		return translation{}, b.badSubstream(a.attrs.Substream)
	case !g.Disposition.Stage1():
		return b.bypass(s, iova, a)
	}

	index, use := substream(g, a.attrs)
	switch use {
	case useBypass:
		return b.bypass(s, iova, a)
	case useBadSubstream:
		return translation{}, b.badSubstream(a.attrs.Substream)
	case useDisabled:
		return translation{}, &refusal{event: smmuv3.NewEvent(smmuv3.FStreamDisabled, b.sid)}
	}

	now := b.host.clock.Load() // a batch that makes the CD stale comes later, or has begun
	c, r := b.findCD(index, iova, a)
	if r != nil {
		return translation{}, r
	}
	if _, ok := c.half(iova); ok {
		if t, ok := b.vas.lookup(c.space, iova, a.need); ok {
			return t, nil
		}
	}
	b.ep.countMiss(s)
	b.beginWalk(s, b.vas, c.asid, now, a)
	l, r := b.walk(c, iova, a)
	if r != nil {
		return translation{}, r
	}
	if b.s2 != nil {
		l2, r := b.walkStage2(l.translate(iova).pa, forInput, iova, a)
		if r != nil {
			return translation{}, r
		}
		if l2.size < l.size {
			b.vas.fracture()
		}
		l = l.through(l2, iova)
	}
	b.vas.insert(c.space, iova, l, &a.walk, &b.host.clock)
	return l.translate(iova), nil
}

// aborted returns the outcome in a stream that aborts.
func (b *binding) aborted(a *access) *refusal {
	g := &b.stage
	switch {
	case g.Disabled:
		return &refusal{err: errGBPAAborts}
	case g.Cause == 0:
		return &refusal{err: errStageAborts}
	}
	r := b.configError(g.Cause, a)
	if g.Cause == smmuv3.FSTEFetch {
		r.event.SetFetchAddr(uint64(g.FetchAddr))
	}
	return r
}

// bypass translates an address that bypasses stage 1. It is an IPA, and must fit the output
// address size (§3.4). Without AArch32 tables that is also the input size of stage 2.
func (b *binding) bypass(s guestmem.Section, iova uint64, a *access) (translation, *refusal) {
	mask := b.shown.outputMask
	if iova > mask {
		return translation{}, b.inputFault(smmuv3.FAddrSize, iova, a)
	}
	if b.s2 != nil {
		return b.translateIPA(s, iova, a)
	}
	return translation{iova, mask - iova + 1}, nil
}

// translateIPA translates an address that is an IPA.
func (b *binding) translateIPA(s guestmem.Section, ipa uint64, a *access) (translation, *refusal) {
	if t, ok := b.ipas.lookup(space{}, ipa, a.need); ok {
		return t, nil
	}
	b.ep.countMiss(s)
	b.beginWalk(s, b.ipas, 0, b.host.clock.Load(), a)
	l, r := b.walkStage2(ipa, forInput, ipa, a)
	if r != nil {
		return translation{}, r
	}
	b.ipas.insert(space{}, ipa, l, &a.walk, &b.host.clock)
	return l.translate(ipa), nil
}

// beginWalk prepares a walk whose result goes into a domain. now is the clock, read before the
// search for the walk's CD, and therefore before the times of the invalidations.
func (b *binding) beginWalk(s guestmem.Section, d *domain, asid smmuv3.ASID, now uint64, a *access) {
	a.walk = walkState{now: now, since: d.tablesSince(asid)}
	if c := b.host.cacheOf(s); c != nil {
		a.walk.cache = &c.tables
	}
}

// use is how a stream handles a transaction if its stage 1 translates.
type use uint8

const (
	useContext use = iota
	useBypass
	useBadSubstream
	useDisabled
)

// substream selects the CD by the transaction's SubstreamID, or by S1DSS if it has none (§5.2,
// S1DSS; §7.3.7; §7.3.9).
func substream(g *bridge.GuestStage, a Attrs) (smmuv3.SubstreamID, use) {
	switch {
	case a.HasSubstream && (g.S1CDMax == 0 || uint64(a.Substream)>>g.S1CDMax != 0):
		return 0, useBadSubstream
	case a.HasSubstream && a.Substream == 0 && g.S1DSS == smmuv3.S1DSSSubstream0:
		return 0, useDisabled // CD 0 is for transactions without a SubstreamID
	case a.HasSubstream:
		return a.Substream, useContext
	case g.S1CDMax == 0 || g.S1DSS == smmuv3.S1DSSSubstream0:
		return 0, useContext
	case g.S1DSS == smmuv3.S1DSSBypass:
		return 0, useBypass
	}
	return 0, useDisabled
}
