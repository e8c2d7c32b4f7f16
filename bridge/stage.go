package bridge

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Disposition is what becomes of a stream's DMA before stage 2.
type Disposition uint8

const (
	// Abort terminates every transaction. It is what a stream does between
	// being attached and the guest's first word about it, and whenever the
	// guest's configuration cannot be used.
	Abort Disposition = iota
	// Bypass passes transactions to stage 2 untranslated.
	Bypass
	// Translate has the guest's own stage 1 translate them.
	Translate
)

func (d Disposition) String() string {
	return [...]string{"abort", "bypass", "translate"}[d]
}

// GuestStage is the guest's configuration of a stream, taken from its Stream
// Table Entry: what the thread that this interface comes from calls the guest
// stage configuration. Stages compare with ==, and equal stages need no call.
//
// No ASID is in it, since that belongs to the guest's Context Descriptor, and
// no device, since the Stream is the receiver.
type GuestStage struct {
	Disposition Disposition

	// Disabled says that the SMMU is disabled, so that GBPA and no STE chose the
	// disposition: nothing that befalls a transaction is then reported, and a
	// SubstreamID means nothing (IHI 0070 §6.3.9.6). A host whose hardware
	// cannot tell need not look at it.
	Disabled bool
	// Cause is the event that each aborted transaction is reported by
	// (C_BAD_STREAMID, F_STE_FETCH or C_BAD_STE), or 0 where the architecture
	// has it abort in silence. A host whose hardware aborts unseen need not
	// look at it.
	Cause smmuv3.EventType
	// FetchAddr is where the fetch failed, for a Cause of F_STE_FETCH.
	FetchAddr guestmem.GPA

	// The rest has a meaning only in a stage that translates, and is zero
	// otherwise.

	// S1ContextPtr is where the CD, or the table of CDs, lies.
	S1ContextPtr guestmem.GPA
	// S1CDMax is log2 of the number of CDs, 0 to 20. With 0 there is one CD,
	// and transactions have no SubstreamID.
	S1CDMax uint8
	// S1Fmt is the layout of the table; linear if S1CDMax is 0.
	S1Fmt smmuv3.S1Fmt
	// S1DSS is what becomes of transactions without a SubstreamID; Terminate
	// if S1CDMax is 0, where it means nothing.
	S1DSS smmuv3.S1DSS
	// S1CIR, S1COR and S1CSH are the inner and outer cacheability and the
	// shareability of accesses to the table, in the encodings of the STE.
	S1CIR, S1COR, S1CSH uint8
	// S1STALLD forbids that faults stall.
	S1STALLD bool
	// EATS is what the device may do with ATS.
	EATS smmuv3.EATS
}

// String is the stage on one line, with every field that means something.
func (s GuestStage) String() string {
	switch {
	case s.Disabled:
		return s.Disposition.String() + " (SMMU disabled)"
	case s.Disposition == Abort:
		if s.Cause != 0 {
			return fmt.Sprintf("abort with %v", s.Cause)
		}
		return "abort"
	case s.Disposition == Bypass:
		return "bypass"
	}
	return fmt.Sprintf("translate s1fmt=%v s1dss=%v s1cdmax=%d cd=%v s1cir=%d s1cor=%d s1csh=%d s1stalld=%t eats=%v",
		s.S1Fmt, s.S1DSS, s.S1CDMax, s.S1ContextPtr, s.S1CIR, s.S1COR, s.S1CSH, s.S1STALLD, s.EATS)
}
