package bridge

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Disposition is what becomes of a stream's DMA before the host's own stage 2.
type Disposition uint8

const (
	// Abort terminates every transaction. It is what a stream does between
	// being attached and the guest's first word about it, and whenever the
	// guest's configuration cannot be used.
	Abort Disposition = iota
	// Bypass passes transactions on untranslated.
	Bypass
	// Translate has the guest's own stage 1 translate them.
	Translate
	// TranslateS2 has the guest's own stage 2 translate them, as guests want that
	// are hypervisors. Only hosts with IDR0.S2P are asked for this one and the next.
	TranslateS2
	// TranslateNested has the guest's own stage 1 translate them, nested on its own
	// stage 2.
	TranslateNested
)

func (d Disposition) String() string {
	return [...]string{"abort", "bypass", "translate", "translate by stage 2", "translate nested"}[d]
}

// Translates reports whether a stage of the guest's translates, and so what the host
// may hold of its translations matters.
func (d Disposition) Translates() bool { return d.Stage1() || d.Stage2() }

// Stage1 reports whether the guest's stage 1 translates.
func (d Disposition) Stage1() bool { return d == Translate || d == TranslateNested }

// Stage2 reports whether the guest's stage 2 translates.
func (d Disposition) Stage2() bool { return d == TranslateS2 || d == TranslateNested }

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

	// S2VMID tags the translations of a stage that translates; 0 where the SMMU has
	// no stage 2.
	S2VMID smmuv3.VMID
	// EATS is what the device may do with ATS, in a stage that translates.
	EATS smmuv3.EATS

	// What begins with S1 has a meaning only where stage 1 translates, S2 only where
	// stage 2 does; otherwise it is zero.

	// S1ContextPtr is where the CD, or the table of CDs, lies: an IPA of the guest's
	// own stage 2, if that translates.
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
	// S2 is the guest's stage 2.
	S2 smmuv3.Stage2
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
	text := s.Disposition.String()
	if s.Disposition.Stage1() {
		text += fmt.Sprintf(" s1fmt=%v s1dss=%v s1cdmax=%d cd=%v s1cir=%d s1cor=%d s1csh=%d s1stalld=%t",
			s.S1Fmt, s.S1DSS, s.S1CDMax, s.S1ContextPtr, s.S1CIR, s.S1COR, s.S1CSH, s.S1STALLD)
	}
	if s.Disposition.Stage2() {
		t := &s.S2
		text += fmt.Sprintf(" s2ttb=%#x s2t0sz=%d s2sl0=%d s2tg=%d s2ps=%d s2ir0=%d s2or0=%d s2sh0=%d",
			t.TTB, t.T0SZ, t.SL0, t.TG, t.PS, t.IR0, t.OR0, t.SH0)
		for _, flag := range []struct {
			name string
			set  bool
		}{
			{"s2aa64", t.AA64}, {"s2ds", t.DS}, {"s2endi", t.ENDI}, {"s2fwb", t.FWB}, {"s2ptw", t.PTW}, {"s2affd", t.AFFD},
			{"s2ha", t.HA}, {"s2hd", t.HD}, {"s2haft", t.HAFT}, {"s2s", t.S}, {"s2r", t.R},
		} {
			if flag.set {
				text += " " + flag.name
			}
		}
	}
	if s.Disposition.Stage2() || s.S2VMID != 0 {
		text += fmt.Sprintf(" s2vmid=%d", s.S2VMID)
	}
	return text + fmt.Sprintf(" eats=%v", s.EATS)
}

// STE is the Stream Table Entry of a stage that translates: the form in which the
// architecture itself writes it down. What does not fit into a field is cut off.
func (s GuestStage) STE() (e smmuv3.STE) {
	e.SetV(true)
	switch s.Disposition {
	case Translate:
		e.SetConfig(smmuv3.ConfigS1)
	case TranslateS2:
		e.SetConfig(smmuv3.ConfigS2)
	case TranslateNested:
		e.SetConfig(smmuv3.ConfigNested)
	}
	e.SetS1ContextPtr(uint64(s.S1ContextPtr))
	e.SetS1CDMax(s.S1CDMax)
	e.SetS1Fmt(s.S1Fmt)
	e.SetS1DSS(s.S1DSS)
	e.SetS1CIR(s.S1CIR)
	e.SetS1COR(s.S1COR)
	e.SetS1CSH(s.S1CSH)
	e.SetS1STALLD(s.S1STALLD)
	e.SetEATS(s.EATS)
	e.SetS2VMID(s.S2VMID)
	if s.Disposition.Stage2() {
		e.SetStage2(s.S2)
	}
	return e
}
