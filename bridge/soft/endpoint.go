package soft

import (
	"fmt"
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
	bound atomic.Pointer[binding] // nil unless attached
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
// Each part that is translated by itself, a page or a block, is a transaction
// of its own to the SMMU. Addresses go from the last one on to 0.
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
	a := access{attrs: p.attrs, need: unprivRead}
	switch {
	case p.attrs.Privileged && p.attrs.Instruction:
		a.need = privExecute
	case p.attrs.Instruction:
		a.need = unprivExecute
	case p.attrs.Privileged:
		a.need = privRead
	}
	return p.ep.dma(b, iova, &a)
}

// WriteAt is Endpoint.WriteAt with the port's attributes.
func (p Port) WriteAt(b []byte, iova uint64) error {
	a := access{attrs: p.attrs, need: unprivWrite, write: true}
	if p.attrs.Privileged {
		a.need = privWrite
	}
	return p.ep.dma(b, iova, &a)
}

// access is what the SMMU judges a transaction by, apart from its address.
type access struct {
	attrs Attrs
	need  permissions // the one that lets it pass
	write bool
}

func (e *Endpoint) dma(p []byte, iova uint64, a *access) error {
	for done := 0; done < len(p); {
		n, f := e.transact(p[done:], iova+uint64(done), a)
		if f != nil {
			f.Op, f.IOVA, f.Done = "read", iova+uint64(done), done
			if a.write {
				f.Op = "write"
			}
			return f
		}
		done += n
	}
	return nil
}

// transact does as much as is translated alike, which is at least a byte.
func (e *Endpoint) transact(p []byte, iova uint64, a *access) (int, *Fault) {
	b := e.bound.Load()
	if b == nil {
		return 0, &Fault{Err: bridge.ErrClosed}
	}
	h := b.host
	defer h.readers.enter().leave()
	// Only from here on do withdrawals wait for what is read.
	if b = e.bound.Load(); b == nil || b.host != h {
		return 0, &Fault{Err: bridge.ErrClosed}
	}

	t, r := b.translate(iova, a)
	if r != nil {
		return b.refuse(p, iova, r, a)
	}
	n := int(min(uint64(len(p)), t.len))
	var err error
	if a.write {
		err = h.mem.WriteAt(p[:n], guestmem.GPA(t.pa))
	} else {
		err = h.mem.ReadAt(p[:n], guestmem.GPA(t.pa))
	}
	if err != nil {
		return 0, &Fault{StreamID: b.sid, Err: fmt.Errorf("translated to %#x: %w", t.pa, err)}
	}
	return n, nil
}

// refuse records what is to be recorded, and ends the transaction. That is done
// before the transaction counts as over, so that no event comes after an
// invalidation that made it obsolete (§4.7.3).
func (b *binding) refuse(p []byte, iova uint64, r *refusal, a *access) (int, *Fault) {
	report := !r.silent && r.event != (smmuv3.Event{})
	if report && b.host.sink != nil {
		b.host.sink(r.event)
	}
	if !r.zero {
		return 0, &Fault{StreamID: b.sid, Event: r.event, Recorded: report, Err: ErrFault}
	}
	// The next page may be another matter, and no page is smaller.
	const page = 1 << smmuv3.Granule4K
	n := int(min(uint64(len(p)), page-iova%page))
	if !a.write {
		clear(p[:n])
	}
	return n, nil
}
