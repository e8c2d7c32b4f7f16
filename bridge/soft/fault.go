package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ErrFault is matched by errors of DMA that the SMMU terminated with an abort.
var ErrFault = errors.New("terminated by the SMMU")

// Fault says which DMA failed, how far it came, and why.
//
// It matches ErrFault if the SMMU terminated it (a translation request has errors of
// its own), bridge.ErrClosed if the endpoint is not attached to a host, and otherwise
// what guest memory says of the address that the DMA translates to,
// guestmem.ErrUnmapped for one: an abort that the SMMU has no part in.
type Fault struct {
	Op       string // "read", "write", "translate" or "page request"
	StreamID smmuv3.StreamID
	IOVA     uint64 // where the transaction began that failed
	Done     int    // bytes that were moved before it
	// Event is what the SMMU has to say of it. It is zero if the stream aborts in
	// silence, and if the SMMU has no part in it.
	Event smmuv3.Event
	// Recorded says that the guest is told: the event was sent. It is not where
	// the guest's CD has R = 0.
	Recorded bool
	Err      error

	stalled *stalled // nil unless it waits for the guest
	// refetch is not nil if the transaction is not over: it first has the STE fetched again.
	refetch func(smmuv3.StreamID) bool
}

func (f *Fault) Error() string {
	why := f.Err.Error()
	if f.Event != (smmuv3.Event{}) {
		why += ": " + f.Event.Type().String()
	}
	return fmt.Sprintf("soft: %s at %#x, stream %v, after %d bytes: %s", f.Op, f.IOVA, f.StreamID, f.Done, why)
}

// at says which DMA it was.
func (f *Fault) at(iova uint64, done int, a *access) *Fault {
	f.Op, f.IOVA, f.Done = "read", iova, done
	if a.write {
		f.Op = "write"
	}
	return f
}

func (f *Fault) Unwrap() error { return f.Err }

// refusal is why a transaction does not get through.
type refusal struct {
	event  smmuv3.Event // zero for none
	silent bool         // the event is not recorded
	zero   bool         // the transaction seems to succeed: RAZ/WI
	stall  bool         // it is to wait for the guest, if it can
}

// configError is a record that holds the transaction's StreamID and
// SubstreamID: C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE, F_CD_FETCH, C_BAD_CD.
func (b *binding) configError(t smmuv3.EventType, a *access) *refusal {
	e := smmuv3.NewEvent(t, b.sid)
	if a.attrs.HasSubstream {
		e.SetSubstream(a.attrs.Substream)
	}
	return &refusal{event: e}
}

func (b *binding) configFetch(a *access, at uint64) *refusal {
	r := b.configError(smmuv3.FCDFetch, a)
	r.event.SetFetchAddr(at)
	return r
}

// badSubstream is C_BAD_SUBSTREAMID, which has a SubstreamID always (§7.3.9).
func (b *binding) badSubstream(s smmuv3.SubstreamID) *refusal {
	e := smmuv3.NewEvent(smmuv3.CBadSubstreamID, b.sid)
	e.SetSubstreamOnly(s)
	return &refusal{event: e}
}

// inputFault is a record of a fault that an input address met at stage 1: S2 is
// 0 and CLASS is IN, but TT for F_WALK_EABT (§7.3.12 to §7.3.16).
func (b *binding) inputFault(t smmuv3.EventType, iova uint64, a *access) *refusal {
	r := b.configError(t, a)
	e := &r.event
	e.SetPnU(a.attrs.Privileged)
	e.SetInD(a.attrs.Instruction && !a.write)
	e.SetRnW(!a.write)
	e.SetClass(smmuv3.ClassIN)
	e.SetInputAddr(iova)
	return r
}

// stage2Fault is what a walk of stage 2 met, at a descriptor, with an IPA. STE.S2R and
// S2S say what becomes of all but an external abort; what is terminated is aborted,
// as stage 2 has no A (§5.5).
func (b *binding) stage2Fault(t smmuv3.EventType, at, ipa uint64, why purpose, iova uint64, a *access) *refusal {
	r := b.inputFault(t, iova, a)
	e := &r.event
	e.SetS2(true)
	e.SetClass(why.class())
	if t == smmuv3.FWalkEABT {
		e.SetFetchAddr(at)
		return r
	}
	e.SetIPA(ipa)
	if t == smmuv3.FPermission && why.class() == smmuv3.ClassTT {
		e.SetTTRnW(why != forUpdate)
	}
	r.stall = b.s2.stall
	r.silent = !r.stall && !b.s2.record
	return r
}

// walkFault is what a walk of stage 1 met: the CD says what becomes of all but an external
// abort (§5.5).
func (b *binding) walkFault(t smmuv3.EventType, at, iova uint64, c *context, a *access) *refusal {
	r := b.inputFault(t, iova, a)
	if t == smmuv3.FWalkEABT {
		r.event.SetClass(smmuv3.ClassTT)
		r.event.SetFetchAddr(at)
		return r
	}
	if c.stall {
		// R is taken for 1, and termination without a stall is by abort (§3.12).
		r.stall = true
		return r
	}
	r.silent, r.zero = !c.record, !c.abort
	return r
}
