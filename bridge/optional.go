package bridge

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// PageRequester is a Host whose endpoints make page requests (PRI, IHI 0070 Chapter 8). A host with
// IDR0.PRI in its Capabilities implements it.
type PageRequester interface {
	// PageRequests sets the sink for page requests, with the guest's StreamIDs. The last request of
	// a group follows all others of the group. PageRequests fails with ErrInUse if there is a sink.
	// PageRequests(nil) removes the sink. The sink never blocks. The sink may call Respond before
	// it returns.
	PageRequests(sink func(smmuv3.PageRequest)) error
	// Respond answers a page request group. A response to an unknown group has no effect.
	Respond(PageResponse) error
}

// PageResponse answers a page request group (CMD_PRI_RESP, IHI 0070 §4.5.2).
type PageResponse struct {
	StreamID    smmuv3.StreamID
	SSV         bool               // the group has a SubstreamID
	SubstreamID smmuv3.SubstreamID // 0 without SSV
	PRGIndex    uint16             // identifies the group, 0 to 511
	Response    smmuv3.PRGResponse
}

// String returns the response on one line.
func (r PageResponse) String() string {
	s := fmt.Sprintf("stream %v", r.StreamID)
	if r.SSV {
		s += fmt.Sprintf(" substream %#x", uint32(r.SubstreamID))
	}
	return s + fmt.Sprintf(" group %d: %v", r.PRGIndex, r.Response)
}

// Staller is a Host in which faulting transactions can stall until software resumes them (IHI 0070
// §3.12.2). A host whose Capabilities have an IDR0.STALL_MODEL other than terminate implements it.
//
// At most IDR5.STALL_MAX transactions are stalled at a time. The host reports each by an event with
// Stall set and a STAG that no other stalled transaction has. Invalidate and Bind do not wait for
// stalled transactions and do not change them (§4.3.8). Close of the stream or the host aborts
// them.
type Staller interface {
	// Resume retries or terminates a stalled transaction (CMD_RESUME). An unknown STAG has no
	// effect.
	Resume(sid smmuv3.StreamID, stag uint16, how Resumption) error
	// TerminateStalled aborts all stalled transactions of a stream (CMD_STALL_TERM).
	TerminateStalled(sid smmuv3.StreamID) error
}

// Resumption is how a stalled transaction continues.
type Resumption uint8

const (
	// Retry translates the transaction again, as if it had just arrived.
	Retry Resumption = iota
	// TerminateAbort aborts the transaction.
	TerminateAbort
	// TerminateRAZWI completes the transaction as a success: reads return zero, writes are ignored.
	// Hosts with IDR0.TERM_MODEL abort instead.
	TerminateRAZWI
)

func (r Resumption) String() string {
	if names := [...]string{"retry", "abort", "RAZ/WI"}; int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Resumption(%d)", uint8(r))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (r Resumption) Format(f fmt.State, verb rune) { verbs.Code(f, verb, r.String(), uint8(r)) }

// STERefetcher is a Host that can ask the device to fetch an STE again before it aborts a
// transaction. A failed STE fetch is not cached: the next transaction fetches again (IHI 0070
// §3.21.3). For any other host, the device fetches the STE again after an F_STE_FETCH event. The
// transaction that caused the event is still terminated.
type STERefetcher interface {
	// SetSTERefetch registers the function that asks the device. The device calls it after Events
	// and before the first Attach. The device calls SetSTERefetch(nil) when it releases the host.
	//
	// If the Cause of a transaction's stage is F_STE_FETCH, the host calls refetch, once for each
	// transaction. If refetch returns true, the stream may have another stage, and the host retries
	// the transaction. Otherwise the host aborts and reports the transaction.
	//
	// refetch may wait for a Bind, for a bounded time. The host calls it without any lock that
	// Bind, Invalidate or Close takes. During refetch, the transaction does not count as in flight.
	SetSTERefetch(refetch func(smmuv3.StreamID) bool)
}
