package soft

import (
	"math"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Endpoint is a device that the VMM emulates, as the origin of DMA. It can be
// attached to one host at a time, by Host.Attach or by way of vsmmu.Device.
//
// Its methods, and those of Ports, may be called from any number of goroutines.
// They must not be called from within the guest memory or the event sink of
// the host.
type Endpoint struct {
	bound    atomic.Pointer[binding]  // nil unless attached
	patience atomic.Pointer[patience] // nil unless its transactions may stall
	ats      atomic.Pointer[atc]      // nil unless it has ATS
}

// NewEndpoint makes an endpoint that is attached nowhere: its DMA fails.
func NewEndpoint() *Endpoint { return new(Endpoint) }

// Attrs are what a transaction says of itself apart from its address. The zero
// value is the usual: unprivileged data, without a SubstreamID.
type Attrs struct {
	Substream    smmuv3.SubstreamID // the PASID, if HasSubstream
	HasSubstream bool               // SSV
	Privileged   bool               // PnU
	Instruction  bool               // InD, for reads; writes are always data (§13.1.2)
}

// ReadAt reads len(p) bytes of guest memory from iova on, as translated for the
// stream. It fails with a *Fault that says how many bytes have been read.
//
// To the SMMU, each part that is translated by itself, a page or a block, is a
// transaction of its own. An access that passes the last address goes on at 0.
func (e *Endpoint) ReadAt(p []byte, iova uint64) error {
	return e.dma(p, iova, &access{need: unprivRead})
}

// WriteAt writes p to guest memory from iova on. See ReadAt.
func (e *Endpoint) WriteAt(p []byte, iova uint64) error {
	return e.dma(p, iova, &access{need: unprivWrite, write: true})
}

// With returns the endpoint's DMA with other attributes.
func (e *Endpoint) With(a Attrs) Port { return Port{e, a} }

// Port is an endpoint's DMA with certain attributes. It stays what it is while
// the endpoint is detached and attached again.
type Port struct {
	ep    *Endpoint
	attrs Attrs
}

// ReadAt is Endpoint.ReadAt with the port's attributes.
func (p Port) ReadAt(b []byte, iova uint64) error {
	a := p.access(false)
	return p.ep.dma(b, iova, &a)
}

// WriteAt is Endpoint.WriteAt with the port's attributes.
func (p Port) WriteAt(b []byte, iova uint64) error {
	a := p.access(true)
	return p.ep.dma(b, iova, &a)
}

// access is what the SMMU judges a transaction by, apart from its address.
type access struct {
	attrs Attrs
	need  permissions // the one that lets it pass
	write bool
	// refetched is the binding for which the device has been asked to fetch the STE again.
	refetched *binding
}

// access is one of the port's.
func (p Port) access(write bool) access {
	a := access{attrs: p.attrs, write: write}
	switch priv, instr := p.attrs.Privileged, p.attrs.Instruction; {
	case write && priv:
		a.need = privWrite
	case write:
		a.need = unprivWrite
	case priv && instr:
		a.need = privExecute
	case instr:
		a.need = unprivExecute
	case priv:
		a.need = privRead
	default:
		a.need = unprivRead
	}
	return a
}

// dma moves p part by part: what is translated alike and lies in one piece.
func (e *Endpoint) dma(p []byte, iova uint64, a *access) error {
	who := a.who()
	for done := 0; done < len(p); {
		b, section := e.begin()
		if b == nil {
			return (&Fault{Err: bridge.ErrClosed}).at(iova+uint64(done), done, a)
		}
		var n int
		var f *Fault
		if mem := b.recall(section, iova+uint64(done), who); mem != nil {
			n = move(p[done:], mem, a.write)
		} else {
			n, f = b.transact(section, p[done:], iova+uint64(done), a)
		}
		section.Leave()
		if f != nil {
			switch f.wait() {
			case bridge.Retry:
				continue
			case bridge.TerminateRAZWI:
				n = razwi(p[done:], iova+uint64(done), a)
			default:
				return f.at(iova+uint64(done), done, a)
			}
		}
		done += n
	}
	return nil
}

// begin begins a transaction: in a section, that withdrawals wait for, with the
// binding that stands. It is nil if the endpoint is not attached.
func (e *Endpoint) begin() (*binding, guestmem.Section) {
	for {
		b := e.bound.Load()
		if b == nil {
			return nil, guestmem.Section{}
		}
		s := b.host.sections.Enter()
		// Before it was entered, b may have been withdrawn, and waited for in vain.
		if e.bound.Load() == b {
			return b, s
		}
		s.Leave()
	}
}

// transact does as much as is translated alike and lies in one piece, which is
// at least a byte.
func (b *binding) transact(s guestmem.Section, p []byte, iova uint64, a *access) (int, *Fault) {
	t, r := b.translate(iova, a)
	if r != nil {
		return b.refuse(p, iova, r, a)
	}
	at := guestmem.GPA(t.pa)
	if b.host.mapper == nil {
		return b.moveUnmapped(p[:min(uint64(len(p)), t.len)], at, a.write)
	}
	// The next access may be to the rest of the page.
	n := min(uint64(max(len(p), toPageEnd(math.MaxInt, iova))), t.len)
	mem, err := b.host.mapper.Slice(at, int(n), a.write)
	if err != nil {
		return b.outside(p[:min(uint64(len(p)), t.len)], at, a.write, err)
	}
	b.remember(s, iova, a.who(), mem)
	return move(p, mem, a.write), nil
}

// refuse records what is to be recorded, and ends the transaction, if it does not
// stall. That is done before the transaction counts as over, so that no event
// comes after an invalidation that made it obsolete (§4.7.3).
func (b *binding) refuse(p []byte, iova uint64, r *refusal, a *access) (int, *Fault) {
	if ask := b.refetch(a); ask != nil {
		return 0, &Fault{StreamID: b.sid, refetch: ask}
	}
	s := b.stall(r)
	report := !r.silent && r.event != (smmuv3.Event{})
	if report && b.host.sink != nil {
		b.host.sink(r.event)
	}
	if !r.zero {
		return 0, &Fault{StreamID: b.sid, Event: r.event, Recorded: report, Err: ErrFault, stalled: s}
	}
	return razwi(p, iova, a), nil
}

// razwi makes a transaction seem to succeed: reads return zero, writes are
// ignored.
func razwi(p []byte, iova uint64, a *access) int {
	n := toPageEnd(len(p), iova)
	if !a.write {
		clear(p[:n])
	}
	return n
}

// toPageEnd is how many of n bytes lie in the page of the first: the next one
// may be another matter, and no page is smaller.
func toPageEnd(n int, iova uint64) int {
	const page = 1 << smmuv3.Granule4K
	return int(min(uint64(n), page-iova%page))
}
