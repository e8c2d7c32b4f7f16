package soft

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATS implements the ATC of an endpoint that caches translations, such as a PCIe function
// (§3.9.1).
type ATS struct {
	// Invalidate drops the translations in a range. It returns when no translated access uses one
	// any more, since the guest's CMD_SYNC waits for it. A translation that is requested earlier
	// and arrives later must not be used either. A lock ensures this: Invalidate takes it, and the
	// endpoint holds it from the request until it has stored the translation.
	//
	// Invalidate must not call the host, nor wait for DMA that may stall, for the release of a
	// Mapping, or for RequestPage. If it takes longer than Config.ATCTimeout, the host isolates the
	// endpoint from ATS (§3.9.1.4) until the next EnableATS. Invalidate may be nil if the device
	// caches no translation.
	Invalidate func(ATCRange)
	// Respond receives the response to a group of page requests. RequestPage may call it, and it
	// must not block. A guest may respond to a group twice, or to one that never existed.
	// Respond may be nil.
	Respond func(bridge.PageResponse)
}

// atc is an endpoint's ATS from one EnableATS to the next.
type atc struct {
	ATS
	isolated atomic.Bool // an invalidation has timed out
}

// EnableATS declares that the device has an ATC, which is empty. Call it before the device makes
// DMA, and after each reset of the device. Translation requests succeed on a host with IDR0.ATS, in
// streams whose guest allows them by STE.EATS.
func (e *Endpoint) EnableATS(a ATS) { e.ats.Store(&atc{ATS: a}) }

// Errors of translation requests (§3.9.1.2).
var (
	// ErrUnsupportedRequest means that the guest does not allow ATS.
	ErrUnsupportedRequest = errors.New("unsupported request")
	// ErrCompleterAbort means that the guest's configuration is invalid or cannot be read.
	ErrCompleterAbort = errors.New("completer abort")
)

// Translation is the response to a translation request. It is valid for the SubstreamID and
// privilege of the request, until Invalidate.
type Translation struct {
	IOVA, Len uint64       // Len is a power of two, and IOVA a multiple of it
	Addr      guestmem.GPA // of the first byte
	// If neither Read nor Write is granted, Addr has no meaning, and the device must not cache
	// the response: the next one may differ.
	Read, Write, Execute bool
}

// Translate requests the translation of an address, for ReadTranslated and WriteTranslated. With
// write it also requests write permission, which marks the page dirty. The response may grant less.
// On failure Translate returns a *Fault. It matches ErrUnsupportedRequest if the guest does not
// allow ATS, and ErrCompleterAbort if the guest's configuration is invalid. It matches
// errors.ErrUnsupported before EnableATS, and if the guest's IDR0.ATS is 0.
func (e *Endpoint) Translate(iova uint64, write bool) (Translation, error) {
	return e.With(Attrs{}).Translate(iova, write)
}

// Translate requests as Endpoint.Translate does, with the port's attributes. Instruction requests
// execute permission. Instruction and Privileged have effect only with a SubstreamID (§13.7).
func (p Port) Translate(iova uint64, write bool) (Translation, error) {
	var a access
	for {
		b, section, f := p.ep.beginATS()
		var t Translation
		if f == nil {
			if ask := b.refetch(&a); ask != nil {
				section.Leave()
				ask(b.sid)
				continue
			}
			t, f = b.request(iova, p.attrs, write)
			section.Leave()
		}
		if f != nil {
			f.Op, f.IOVA = "translate", iova
			return Translation{}, p.ep.failed(f)
		}
		return t, nil
	}
}

// beginATS starts an ATS transaction. It fails if the endpoint or its host has no ATS.
func (e *Endpoint) beginATS() (*binding, guestmem.Section, *Fault) {
	b, section := e.begin()
	if b == nil {
		return nil, section, &Fault{Err: ErrNotAttached}
	}
	a := e.ats.Load()
	switch {
	case !b.shown.ids.Has(smmuv3.ATS):
		section.Leave()
		return nil, section, b.fault(fmt.Errorf("the guest's IDR0.ATS is 0: %w", errors.ErrUnsupported))
	case a == nil:
		section.Leave()
		return nil, section, b.fault(fmt.Errorf("the endpoint has no ATS: %w (call EnableATS)", errors.ErrUnsupported))
	case a.isolated.Load():
		section.Leave()
		return nil, section, b.fault(fmt.Errorf("%w: %w", ErrFault, bridge.ErrATCTimeout))
	}
	return b, section, nil
}

// request answers a translation request. Without CR2.REC_CFG_ATS the only event is
// F_BAD_ATS_TREQ (§3.9.1.2).
func (b *binding) request(iova uint64, attrs Attrs, write bool) (Translation, *Fault) {
	fail := func(err error) (Translation, *Fault) {
		return Translation{}, b.fault(err)
	}
	if !attrs.HasSubstream {
		attrs = Attrs{}
	}
	execute := attrs.Instruction
	attrs.Instruction = false
	port := Port{attrs: attrs}
	read := port.access(false)
	g := &b.stage
	switch {
	case g.Disposition == bridge.Abort && g.Cause != 0:
		return fail(ErrCompleterAbort)
	case g.Disposition == bridge.Abort && !g.Disabled:
		return fail(ErrUnsupportedRequest)
	case !g.Disposition.Translates() || g.EATS != smmuv3.EATSFull:
		r := b.configError(smmuv3.FBadATSTReq, &read)
		r.event.SetInputAddr(iova &^ (1<<smmuv3.Granule4K - 1))
		return Translation{}, b.forbid(r, ErrUnsupportedRequest)
	}

	if !g.Disposition.Stage1() {
		if attrs.HasSubstream { // §3.9.1.1 and §5.2: a substream needs stage 1
			return fail(ErrCompleterAbort)
		}
		return b.requestIPA(iova, port, write)
	}
	index, use := substream(g, attrs)
	switch {
	case use == useBypass && b.s2 != nil:
		return b.requestIPA(iova, port, write)
	case use == useBypass && iova <= b.shown.outputMask: // §13.6.4
		return Translation{Len: b.shown.outputMask + 1, Read: true, Write: true}, nil
	case use == useBypass:
		return b.shown.nothing(iova), nil
	case use != useContext:
		return fail(ErrCompleterAbort)
	}
	c, r := b.findCD(index, iova, &read)
	if r != nil {
		return fail(ErrCompleterAbort)
	}
	t, r := b.grantable(c, iova, port, write)
	if r != nil {
		return fail(ErrCompleterAbort)
	}
	t.Execute = t.Execute && execute
	return t, nil
}

// grantable returns the translation with the permissions that the tables grant (§13.7.1). It
// returns a refusal only for faults other than missing permissions.
func (b *binding) grantable(c *contextDesc, iova uint64, port Port, write bool) (t Translation, r *refusal) {
	toRead, toWrite := port.access(false), port.access(true)
	var l leaf
	if write {
		l, r = b.walkStages(c, iova, &toWrite)
	}
	if !write || r != nil && r.event.Type() == smmuv3.FPermission {
		l, r = b.walkStages(c, iova, &toRead) // grant at least the read
	}
	switch {
	case r == nil:
	case r.event.Type() == smmuv3.FWalkEABT:
		return Translation{}, r
	default:
		return b.shown.nothing(iova), nil
	}
	toRun := privExecute
	if !port.attrs.Privileged {
		toRun = unprivExecute
	}
	return Translation{
		IOVA: iova &^ (1<<l.size - 1), Len: 1 << l.size, Addr: guestmem.GPA(l.pa),
		Read: true, Write: l.perms&toWrite.need != 0, Execute: l.perms&toRun != 0,
	}, nil
}

// walkStages is walk, followed by stage 2 if there is one.
func (b *binding) walkStages(c *contextDesc, iova uint64, a *access) (leaf, *refusal) {
	l, r := b.walk(c, iova, a)
	if r != nil || b.s2 == nil {
		return l, r
	}
	l2, r := b.walkStage2(l.translate(iova).pa, forInput, iova, a)
	if r != nil {
		return leaf{}, r
	}
	return l.through(l2, iova), nil
}

// requestIPA answers a translation request that stage 2 alone translates.
func (b *binding) requestIPA(ipa uint64, port Port, write bool) (Translation, *Fault) {
	if ipa > b.shown.outputMask {
		return b.shown.nothing(ipa), nil
	}
	toRead, toWrite := port.access(false), port.access(true)
	var l leaf
	var r *refusal
	if write {
		l, r = b.walkStage2(ipa, forInput, ipa, &toWrite)
	}
	if !write || r != nil && r.event.Type() == smmuv3.FPermission {
		l, r = b.walkStage2(ipa, forInput, ipa, &toRead) // grant at least the read
	}
	switch {
	case r == nil:
	case r.event.Type() == smmuv3.FWalkEABT:
		return Translation{}, b.fault(ErrCompleterAbort)
	default:
		return b.shown.nothing(ipa), nil
	}
	return Translation{
		IOVA: ipa &^ (1<<l.size - 1), Len: 1 << l.size, Addr: guestmem.GPA(l.pa),
		Read: true, Write: l.perms&toWrite.need != 0,
	}, nil
}

// nothing returns a response of the smallest granule that grants no access.
func (s *shown) nothing(iova uint64) Translation {
	for _, g := range []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K} {
		if s.ids.HasGranule(g) {
			return Translation{IOVA: iova &^ (1<<g - 1), Len: 1 << g}
		}
	}
	return Translation{}
}

// forbid reports an event and returns its fault.
func (b *binding) forbid(r *refusal, why error) *Fault {
	b.host.report(r.event)
	return &Fault{StreamID: b.sid, Event: r.event, Recorded: true, Err: why}
}
