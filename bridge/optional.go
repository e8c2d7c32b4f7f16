package bridge

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// PageRequester is a Host whose endpoints make page requests (PRI, IHI 0070
// Chapter 8). A host that has IDR0.PRI in its Capabilities is one.
type PageRequester interface {
	// PageRequests says where requests go, as Events does for faults: with the
	// guest's StreamIDs, each group's last request after its others. The sink
	// never blocks, and may answer with Respond before it returns.
	PageRequests(sink func(smmuv3.PageRequest)) error
	// Respond answers a group of page requests. An answer to no group has no effect.
	Respond(PageResponse) error
}

// PageResponse answers a page request group (CMD_PRI_RESP, IHI 0070 §4.5.2).
type PageResponse struct {
	StreamID    smmuv3.StreamID
	SSV         bool               // SubstreamID is valid
	SubstreamID smmuv3.SubstreamID // the group's, if SSV
	PRGIndex    uint16             // the group, 0 to 511
	Response    smmuv3.PRGResponse
}

// Staller is a Host in which transactions that fault may stall until software
// resumes them (IHI 0070 §3.12.2). A host whose Capabilities have an
// IDR0.STALL_MODEL other than terminate is one. It bounds the number of
// transactions that are stalled, and tells each by an event with Stall set
// and a STAG that no other stalled transaction has. Withdrawals do not wait for
// those, nor do they change them (§4.3.8); Close, of the stream or the host, ends
// them with an abort.
type Staller interface {
	// Resume has a stalled transaction tried again, or ends it (CMD_RESUME). A
	// STAG that is none of the stream's has no effect.
	Resume(sid smmuv3.StreamID, stag uint16, how Resumption) error
	// TerminateStalled ends every stalled transaction of a stream with an abort
	// (CMD_STALL_TERM).
	TerminateStalled(sid smmuv3.StreamID) error
}

// Resumption is what becomes of a stalled transaction.
type Resumption uint8

const (
	// Retry has it looked up again as if it had just arrived.
	Retry Resumption = iota
	// TerminateAbort ends it with an abort.
	TerminateAbort
	// TerminateRAZWI ends it as if it had succeeded: reads return zero, writes
	// are ignored. Hosts with IDR0.TERM_MODEL abort instead.
	TerminateRAZWI
)

func (r Resumption) String() string {
	if names := [...]string{"retry", "abort", "RAZ/WI"}; int(r) < len(names) {
		return names[r]
	}
	return fmt.Sprintf("Resumption(%d)", uint8(r))
}

// STERefetcher is a Host that can ask the device to fetch an STE again before it aborts a
// transaction. A failed STE fetch is not cached: the next transaction fetches again (IHI 0070
// §3.21.3). For any other host the device fetches the STE again after an F_STE_FETCH event, so the
// transaction that reports the event is still terminated.
type STERefetcher interface {
	// SetSTERefetch registers the function that asks. It is called after Events and before the first
	// Attach, and with nil when the device releases the host.
	//
	// The host calls refetch when a transaction meets a stage whose Cause is F_STE_FETCH, once for
	// each transaction. If refetch returns true, the stream may have another stage: the host looks
	// the transaction up again. Otherwise it aborts and reports the transaction.
	//
	// refetch may wait for a Bind, for a bounded time. Its caller holds no lock that Bind, Invalidate
	// or Close take, and the transaction does not count as in-flight meanwhile.
	SetSTERefetch(refetch func(smmuv3.StreamID) bool)
}
