package soft

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ATS is what an endpoint that caches translations, as PCIe functions with an ATC
// do, carries out for the SMMU (§3.9.1).
type ATS struct {
	// Invalidate drops the translations that are in a range, and returns when no
	// translated access uses one any more: the guest's CMD_SYNC waits for that. A
	// translation that was asked for before and arrives after is not to be used either:
	// the easiest way is to take a lock here, and to hold it from asking for a
	// translation until it is kept. It must not call the host, nor wait for DMA that
	// may stall, for the release of a Mapping, or for RequestPage. If it takes longer
	// than Config.ATCTimeout the endpoint is cut off from ATS (§3.9.1.4), until
	// EnableATS is called again. It may be nil for a device that keeps no translation.
	Invalidate func(ATCRange)
	// Respond takes the answer to a group of page requests. It may be called from
	// within RequestPage, and must not block. The guest may answer what has been
	// answered, or never was asked. It may be nil.
	Respond func(bridge.PageResponse)
}

// atc is an endpoint's ATS from one EnableATS to the next.
type atc struct {
	ATS
	isolated atomic.Bool // an invalidation has timed out
}

// EnableATS says that the device has an ATC, which is empty: before it is attached,
// and after each reset of the device. What it asks for succeeds on a host with
// IDR0.ATS, in streams whose guest allows it by STE.EATS.
func (e *Endpoint) EnableATS(a ATS) { e.ats.Store(&atc{ATS: a}) }

// How a translation request ends that has no success (§3.9.1.2).
var (
	ErrUnsupportedRequest = errors.New("unsupported request")
	ErrCompleterAbort     = errors.New("completer abort")
)

// Translation is the answer to a translation request: what the endpoint may do with
// a range of addresses, and where that lies. It holds for the SubstreamID and the
// privilege of the request, until Invalidate says otherwise.
type Translation struct {
	IOVA, Len uint64       // a power of two, and IOVA a multiple of it
	Addr      guestmem.GPA // of the first byte
	// If neither Read nor Write is granted, Addr means nothing, and nothing is to be
	// kept: the next answer may be another.
	Read, Write, Execute bool
}

// Translate asks for the translation of an address, to be used by ReadTranslated and
// WriteTranslated. write asks for the permission to write as well, which marks the
// page dirty; it is not granted where the tables have none. It fails with a *Fault
// that matches ErrUnsupportedRequest where the guest has not allowed ATS, and
// ErrCompleterAbort where its configuration is wrong.
func (e *Endpoint) Translate(iova uint64, write bool) (Translation, error) {
	return e.With(Attrs{}).Translate(iova, write)
}

// Translate is Endpoint.Translate with the port's attributes: Instruction asks for the
// permission to execute, and like Privileged counts only with a SubstreamID (§13.7).
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
			return Translation{}, f
		}
		return t, nil
	}
}

// beginATS is begin, for those who may use ATS.
func (e *Endpoint) beginATS() (*binding, guestmem.Section, *Fault) {
	b, section := e.begin()
	if b == nil {
		return nil, section, &Fault{Err: bridge.ErrClosed}
	}
	a := e.ats.Load()
	switch {
	case a == nil || !b.host.ids.Has(smmuv3.ATS):
		section.Leave()
		return nil, section, &Fault{StreamID: b.sid, Err: fmt.Errorf("ATS: %w", errors.ErrUnsupported)}
	case a.isolated.Load():
		section.Leave()
		return nil, section, &Fault{StreamID: b.sid, Err: fmt.Errorf("%w: an ATC invalidation timed out", ErrFault)}
	}
	return b, section, nil
}

// request answers a translation request. Of faults only F_BAD_ATS_TREQ is recorded,
// as CR2.REC_CFG_ATS is not there (§3.9.1.2).
func (b *binding) request(iova uint64, attrs Attrs, write bool) (Translation, *Fault) {
	fail := func(err error) (Translation, *Fault) {
		return Translation{}, &Fault{StreamID: b.sid, Err: err}
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
	case g.Disposition != bridge.Translate || g.EATS != smmuv3.EATSFull:
		r := b.configError(smmuv3.FBadATSTReq, &read)
		r.event.SetInputAddr(iova &^ (1<<smmuv3.Granule4K - 1))
		return Translation{}, b.forbid(r, ErrUnsupportedRequest)
	}

	index, use := substream(g, attrs)
	switch {
	case use == useBypass && iova <= b.host.outputMask: // §13.6.4
		return Translation{Len: b.host.outputMask + 1, Read: true, Write: true}, nil
	case use == useBypass:
		return b.host.nothing(iova), nil
	case use != useContext:
		return fail(ErrCompleterAbort)
	}
	c, r := b.context(index, iova, &read)
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

// grantable is what the tables let pass (§13.7.1), or the refusal that is no lack of
// permissions.
func (b *binding) grantable(c *context, iova uint64, port Port, write bool) (t Translation, r *refusal) {
	toRead, toWrite := port.access(false), port.access(true)
	var l leaf
	if write {
		l, r = b.walk(c, iova, &toWrite)
	}
	if !write || r != nil && r.event.Type() == smmuv3.FPermission {
		l, r = b.walk(c, iova, &toRead) // what can be read is granted at least
	}
	switch {
	case r == nil:
	case r.event.Type() == smmuv3.FWalkEABT:
		return Translation{}, r
	default:
		return b.host.nothing(iova), nil
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

// nothing is the answer that grants nothing: of the smallest translation unit.
func (h *Host) nothing(iova uint64) Translation {
	for _, g := range []smmuv3.Granule{smmuv3.Granule4K, smmuv3.Granule16K, smmuv3.Granule64K} {
		if h.ids.HasGranule(g) {
			return Translation{IOVA: iova &^ (1<<g - 1), Len: 1 << g}
		}
	}
	return Translation{}
}

// forbid records an event, and is the fault of what it is about.
func (b *binding) forbid(r *refusal, why error) *Fault {
	if b.host.sink != nil {
		b.host.sink(r.event)
	}
	return &Fault{StreamID: b.sid, Event: r.event, Recorded: true, Err: why}
}

// ReadTranslated reads len(p) bytes from where a translation says. Neither the guest's
// tables nor a SubstreamID (IDR3.PASIDTT is 0) have a part in it any more, but the
// stream's stage has: where that does not allow ATS the access is aborted, whatever the
// guest has in CR0.ATSCHK, since to check costs software nothing.
func (e *Endpoint) ReadTranslated(p []byte, addr guestmem.GPA) error {
	return e.translated(p, addr, false)
}

// WriteTranslated writes p to where a translation says. See ReadTranslated.
func (e *Endpoint) WriteTranslated(p []byte, addr guestmem.GPA) error {
	return e.translated(p, addr, true)
}

func (e *Endpoint) translated(p []byte, addr guestmem.GPA, write bool) error {
	a := access{write: write}
	for done := 0; done < len(p); {
		at := addr + guestmem.GPA(done)
		b, section, f := e.beginATS()
		if f == nil {
			var n int
			if f = b.permitTranslated(uint64(at), &a); f == nil {
				n, f = b.direct(p[done:], at, write)
			} else if ask := b.refetch(&a); ask != nil {
				section.Leave()
				ask(b.sid)
				continue
			}
			section.Leave()
			done += n
		}
		if f != nil {
			return f.at(uint64(at), done, &a)
		}
	}
	return nil
}

// permitTranslated checks a translated transaction (§3.9.1.3).
func (b *binding) permitTranslated(addr uint64, a *access) *Fault {
	g := &b.stage
	switch {
	case g.Disposition == bridge.Abort && !g.Disabled:
		return &Fault{StreamID: b.sid, Err: ErrFault}
	case g.Disposition != bridge.Translate || g.EATS != smmuv3.EATSFull:
		r := b.configError(smmuv3.FTranslForbidden, a)
		r.event.SetRnW(!a.write)
		r.event.SetInputAddr(addr)
		return b.forbid(r, ErrFault)
	case addr > b.host.outputMask: // §3.9.1.1
		return &Fault{StreamID: b.sid, Err: ErrFault}
	}
	return nil
}

// direct moves what lies in one piece, at an address that is translated already.
func (b *binding) direct(p []byte, at guestmem.GPA, write bool) (int, *Fault) {
	if b.host.mapper == nil {
		return b.moveUnmapped(p, at, write)
	}
	mem, err := b.host.mapper.Slice(at, len(p), write)
	if err != nil {
		return b.outside(p, at, write, err)
	}
	return move(p, mem, write), nil
}
