package soft

import (
	"cmp"
	"math"
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Endpoint is an emulated device as a source of DMA. It is attached to one host at a time, by
// Host.Attach or through vsmmu.Device.
//
// Its methods, and those of its Ports, may be called from any number of goroutines. The host's
// guest memory and event sink must not call them.
type Endpoint struct {
	bound   atomic.Pointer[binding]   // nil unless attached
	waiting atomic.Pointer[stallWait] // nil unless its transactions may stall
	ats     atomic.Pointer[atc]       // nil unless it has ATS
	late    atomic.Int32              // ATC invalidations that timed out and have not returned
	counts  counts
}

// NewEndpoint returns an endpoint that is not attached. Its DMA fails with ErrNotAttached.
func NewEndpoint() *Endpoint { return new(Endpoint) }

// Attrs are the attributes of a transaction besides its address. The zero value is the usual
// one: unprivileged data, without a SubstreamID.
type Attrs struct {
	Substream    smmuv3.SubstreamID // the PASID, if HasSubstream
	HasSubstream bool               // SSV
	Privileged   bool               // PnU
	Instruction  bool               // InD, for reads; writes are always data (§13.1.2)
}

// ReadAt reads len(p) bytes of guest memory at iova, as the SMMU translates it. On failure it
// returns a *Fault with the number of bytes read.
//
// The access is a transaction for each part that one page or block translates. An access that
// passes the last address continues at 0.
func (e *Endpoint) ReadAt(p []byte, iova uint64) error {
	return e.dma(p, iova, &access{need: unprivRead})
}

// WriteAt writes p to guest memory at iova. See ReadAt.
func (e *Endpoint) WriteAt(p []byte, iova uint64) error {
	return e.dma(p, iova, &access{need: unprivWrite, write: true})
}

// With returns a Port, which is the endpoint's DMA with other attributes.
func (e *Endpoint) With(a Attrs) Port { return Port{e, a} }

// Port is an endpoint's DMA with given attributes. It stays valid while the endpoint is detached
// and attached again.
type Port struct {
	ep    *Endpoint
	attrs Attrs
}

// ReadAt reads as Endpoint.ReadAt does, with the port's attributes.
func (p Port) ReadAt(b []byte, iova uint64) error {
	a := p.access(false)
	return p.ep.dma(b, iova, &a)
}

// WriteAt writes as Endpoint.WriteAt does, with the port's attributes.
func (p Port) WriteAt(b []byte, iova uint64) error {
	a := p.access(true)
	return p.ep.dma(b, iova, &a)
}

// access holds the properties of a transaction, besides its address, on which its outcome depends.
type access struct {
	attrs Attrs
	need  permissions // the permission that it requires
	write bool
	// refetched is set once the host has asked the device to fetch the STE again for the transaction.
	refetched bool
	// walk belongs to the walk for the transaction's current part.
	walk walkState
}

func (p Port) access(write bool) access {
	return access{attrs: p.attrs, need: p.attrs.need(write), write: write}
}

// need returns the permission that an access requires.
func (t Attrs) need(write bool) permissions {
	switch {
	case write && t.Privileged:
		return privWrite
	case write:
		return unprivWrite
	case t.Privileged && t.Instruction:
		return privExecute
	case t.Instruction:
		return unprivExecute
	case t.Privileged:
		return privRead
	}
	return unprivRead
}

// dma moves p. Most DMA is to one page that an earlier one reached.
func (e *Endpoint) dma(p []byte, iova uint64, a *access) error {
	if len(p) == 0 {
		return nil
	}
	b, section := e.begin()
	mem, count := b.microLookup(section, iova, a.who())
	if len(mem) >= len(p) {
		count.addOwn(1, move(p, mem, a.write))
		section.Leave()
		return nil
	}
	if f := e.dmaInParts(b, section, mem, p, iova, a); f != nil {
		return f
	}
	return nil
}

// dmaInParts moves p in parts. Each part has one translation and lies in one piece of memory, or is
// a run of such parts. The first part is in the given section, which dmaInParts leaves; mem is the
// memory that the micro-TLB has for it.
func (e *Endpoint) dmaInParts(
	b *binding, section guestmem.Section, mem, p []byte, iova uint64, a *access,
) *Fault {
	runs := len(p) > minRun
	for done := 0; done < len(p); {
		if b == nil {
			return e.failed(&Fault{Err: ErrNotAttached}).at(iova+uint64(done), done, a)
		}
		n, f := 0, (*Fault)(nil)
		if runs && done > 0 {
			n = b.moveRun(section, p[done:], iova+uint64(done), a)
			runs = n > 0
		}
		switch {
		case n > 0:
		case mem != nil:
			n = move(p[done:], mem, a.write)
			e.count(section, 1, n, a.write)
		default:
			n, f = b.transact(section, p[done:], iova+uint64(done), a)
		}
		section.Leave()
		if f != nil {
			switch f.wait() {
			case bridge.Retry:
				n = 0
			case bridge.TerminateRAZWI:
				n = razwi(p[done:], iova+uint64(done), a)
			default:
				return e.failed(f).at(iova+uint64(done), done, a)
			}
		}
		if done += n; n > 0 {
			a.refetched = false // the next part is another transaction
		}
		if done < len(p) {
			b, section = e.begin()
			mem, _ = b.microLookup(section, iova+uint64(done), a.who())
		}
	}
	return nil
}

// transact moves the part of p that has one translation and lies in one piece of memory. It moves
// at least one byte.
func (b *binding) transact(s guestmem.Section, p []byte, iova uint64, a *access) (int, *Fault) {
	t, r := b.translate(s, iova, a)
	if r != nil {
		n, f := b.refuse(p, iova, r, a)
		return b.counted(s, n, a.write, f)
	}
	at := guestmem.GPA(t.pa)
	if b.host.mapper == nil {
		n, f := b.moveUnmapped(p[:min(uint64(len(p)), t.len)], at, a.write)
		return b.counted(s, n, a.write, f)
	}
	// The next access may be to the rest of the page.
	n := min(uint64(max(len(p), toPageEnd(math.MaxInt, iova))), t.len)
	mem, err := b.host.mapper.Slice(at, int(n), a.write)
	if err != nil {
		n, f := b.outside(p[:min(uint64(len(p)), t.len)], at, a.write, err)
		return b.counted(s, n, a.write, f)
	}
	moved := move(p, mem, a.write)
	if count := b.microInsert(s, iova, a.who(), mem); count != nil {
		count.addOwn(1, moved)
		return moved, nil
	}
	return b.counted(s, moved, a.write, nil)
}

// refuse reports the event of a refused transaction, and terminates the transaction unless it
// stalls. Both happen while the transaction is in flight. No event thus follows the invalidation
// that makes it obsolete (§4.7.3).
func (b *binding) refuse(p []byte, iova uint64, r *refusal, a *access) (int, *Fault) {
	if ask := b.refetch(a); ask != nil {
		return 0, &Fault{StreamID: b.sid, refetch: ask}
	}
	s := b.stall(r)
	recorded := !r.silent && r.event != (smmuv3.Event{})
	if recorded {
		b.host.report(r.event)
	}
	if !r.zero {
		return 0, &Fault{StreamID: b.sid, Event: r.event, Recorded: recorded, Err: cmp.Or(r.err, ErrFault), stalled: s}
	}
	return razwi(p, iova, a), nil
}

// razwi completes a transaction as RAZ/WI: reads return zero, writes are ignored.
func razwi(p []byte, iova uint64, a *access) int {
	n := toPageEnd(len(p), iova)
	if !a.write {
		clear(p[:n])
	}
	return n
}

// toPageEnd returns how many of n bytes lie in the first byte's page of 4 KiB, the smallest page.
// The next page may have another outcome.
func toPageEnd(n int, iova uint64) int {
	const page = 1 << smmuv3.Granule4K
	return int(min(uint64(n), page-iova%page))
}
