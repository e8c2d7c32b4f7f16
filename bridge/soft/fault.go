package soft

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Errors that a Fault matches.
var (
	// ErrFault means that the SMMU terminated the DMA with an abort.
	ErrFault = errors.New("terminated by the SMMU")
	// ErrNotAttached means that the endpoint is not attached to a host. It also matches
	// bridge.ErrClosed.
	ErrNotAttached error = notAttached{}
)

// Causes of an abort without an event. They match ErrFault.
var (
	errStageAborts = fmt.Errorf("%w, without an event: the stage of the stream aborts"+
		" (does the guest's firmware describe this StreamID?)", ErrFault)
	errGBPAAborts   = fmt.Errorf("%w, without an event: the SMMU is disabled, and GBPA aborts", ErrFault)
	errDisabledSize = fmt.Errorf("%w, without an event: the SMMU is disabled, and the address exceeds IDR5.OAS",
		ErrFault)
)

type notAttached struct{}

func (notAttached) Error() string        { return "endpoint not attached" }
func (notAttached) Is(target error) bool { return target == bridge.ErrClosed }

// Fault is the error of a DMA. It holds the failed access, the number of bytes moved, and the
// cause.
//
// It matches ErrFault if the SMMU terminated the DMA, and ErrNotAttached if the endpoint is not
// attached. Translation requests have their own errors. Otherwise the translation succeeded but the
// access to memory failed. Fault then matches the error of guest memory, such as
// guestmem.ErrUnmapped.
type Fault struct {
	Op       string          // "read", "write", "translate" or "page request"
	StreamID smmuv3.StreamID // undefined if the endpoint is not attached
	IOVA     uint64          // start of the transaction that failed
	Done     int             // bytes moved before it
	// Event is the SMMU's event. It is zero if the stream aborts without an event, or if the SMMU
	// did not cause the fault.
	Event smmuv3.Event
	// Recorded is true if the host reported the event to the guest. It is false if the guest's CD
	// has R = 0.
	Recorded bool
	Err      error

	stalled *stalled // nil unless the transaction waits for the guest
	// refetch is not nil if the device must fetch the STE again before the transaction ends.
	refetch func(smmuv3.StreamID) bool
}

func (f *Fault) Error() string {
	stream := fmt.Sprintf(" stream %v,", f.StreamID)
	if errors.Is(f.Err, ErrNotAttached) {
		stream = ""
	}
	why := "no cause"
	if f.Err != nil {
		why = f.Err.Error()
	}
	if f.Event != (smmuv3.Event{}) {
		why += ": " + f.Event.Type().String()
	}
	return fmt.Sprintf("soft: %s at %#x,%s after %d bytes: %s", f.Op, f.IOVA, stream, f.Done, why)
}

// Unwrap returns Err.
func (f *Fault) Unwrap() error { return f.Err }

// at sets the operation, the address and the number of bytes moved.
func (f *Fault) at(iova uint64, done int, a *access) *Fault {
	f.Op, f.IOVA, f.Done = "read", iova, done
	if a.write {
		f.Op = "write"
	}
	return f
}

// fault returns a Fault of the stream.
func (b *binding) fault(err error) *Fault { return &Fault{StreamID: b.sid, Err: err} }

// fault returns a Fault of an endpoint. If the endpoint is not attached, the cause is
// ErrNotAttached.
func (e *Endpoint) fault(err error) *Fault {
	if e != nil {
		if b := e.bound.Load(); b != nil {
			return b.fault(err)
		}
	}
	return &Fault{Err: ErrNotAttached}
}

// refusal is the outcome of a transaction that does not reach memory.
type refusal struct {
	event  smmuv3.Event // zero for none
	err    error        // the cause if there is no event; nil means ErrFault
	silent bool         // the event is not recorded
	zero   bool         // RAZ/WI: the transaction appears to succeed
	stall  bool         // the transaction waits for the guest, if it can
}

// configError returns a refusal whose event holds the StreamID and SubstreamID of the
// transaction: C_BAD_STREAMID, F_STE_FETCH, C_BAD_STE, F_CD_FETCH or C_BAD_CD.
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

// badSubstream returns C_BAD_SUBSTREAMID, which always holds a SubstreamID (§7.3.9).
func (b *binding) badSubstream(s smmuv3.SubstreamID) *refusal {
	e := smmuv3.NewEvent(smmuv3.CBadSubstreamID, b.sid)
	e.SetSubstreamOnly(s)
	return &refusal{event: e}
}

// inputFault returns the fault of an input address at stage 1. S2 is 0 and CLASS is IN. For
// F_WALK_EABT, the caller sets CLASS to TT (§7.3.12 to §7.3.16).
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

// stage2Fault returns the fault of a walk of stage 2, at a descriptor, for an IPA. STE.S2R and S2S
// apply except to an external abort. A terminated transaction aborts, since stage 2 has no A field
// (§5.5).
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

// walkFault returns the fault of a walk of stage 1. The CD's A, R and S apply except to an external
// abort (§5.5).
func (b *binding) walkFault(t smmuv3.EventType, at, iova uint64, c *contextDesc, a *access) *refusal {
	r := b.inputFault(t, iova, a)
	if t == smmuv3.FWalkEABT {
		r.event.SetClass(smmuv3.ClassTT)
		r.event.SetFetchAddr(at)
		return r
	}
	if c.stall {
		// R counts as 1. A termination without a stall is an abort (§3.12).
		r.stall = true
		return r
	}
	r.silent, r.zero = !c.record, !c.abort
	return r
}
