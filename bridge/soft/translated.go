package soft

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ReadTranslated reads len(p) bytes at an address from a Translation. It uses neither the
// guest's tables nor a SubstreamID (IDR3.PASIDTT is 0). If the stream's stage does not allow ATS,
// the access aborts, independent of CR0.ATSCHK.
func (e *Endpoint) ReadTranslated(p []byte, addr guestmem.GPA) error {
	return e.translated(p, addr, false)
}

// WriteTranslated writes p to an address from a Translation. See ReadTranslated.
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
				if n, f = b.direct(p[done:], at, write); f == nil {
					e.count(section, 1, n, write)
				}
			} else if ask := b.refetch(&a); ask != nil {
				section.Leave()
				ask(b.sid)
				continue
			}
			section.Leave()
			done += n
			a.refetched = false // the next part is another transaction
		}
		if f != nil {
			return e.failed(f).at(uint64(at), done, &a)
		}
	}
	return nil
}

// permitTranslated checks a translated transaction (§3.9.1.3).
func (b *binding) permitTranslated(addr uint64, a *access) *Fault {
	g := &b.stage
	switch {
	case g.Disposition == bridge.Abort && !g.Disabled:
		return b.fault(ErrFault)
	case !g.Disposition.Translates() || g.EATS != smmuv3.EATSFull:
		r := b.configError(smmuv3.FTranslForbidden, a)
		r.event.SetRnW(!a.write)
		r.event.SetInputAddr(addr)
		return b.forbid(r, ErrFault)
	case addr > b.shown.outputMask: // §3.9.1.1
		return b.fault(ErrFault)
	}
	return nil
}

// direct moves the part of p that lies in one piece of memory, at a translated address.
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
