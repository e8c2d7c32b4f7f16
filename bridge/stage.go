package bridge

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Disposition is how a stream handles DMA before the host's own stage 2.
type Disposition uint8

const (
	// Abort terminates every transaction. A stream aborts from Attach to its first Bind, and while
	// the guest's configuration cannot be used.
	Abort Disposition = iota
	// Bypass forwards transactions untranslated.
	Bypass
	// Translate translates by the guest's stage 1.
	Translate
	// TranslateS2 translates by the guest's own stage 2, for guests that are hypervisors. The
	// device binds TranslateS2 and TranslateNested only on hosts with IDR0.S2P.
	TranslateS2
	// TranslateNested translates by the guest's stage 1, nested on the guest's own stage 2.
	TranslateNested
)

func (d Disposition) String() string {
	names := [...]string{"abort", "bypass", "translate", "translate by stage 2", "translate nested"}
	if int(d) < len(names) {
		return names[d]
	}
	return fmt.Sprintf("Disposition(%d)", uint8(d))
}

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (d Disposition) Format(f fmt.State, verb rune) { verbs.Code(f, verb, d.String(), uint8(d)) }

// Translates reports whether a stage of the guest translates. If so, the host may cache
// translations.
func (d Disposition) Translates() bool { return d.Stage1() || d.Stage2() }

// Stage1 reports whether the guest's stage 1 translates.
func (d Disposition) Stage1() bool { return d == Translate || d == TranslateNested }

// Stage2 reports whether the guest's own stage 2 translates.
func (d Disposition) Stage2() bool { return d == TranslateS2 || d == TranslateNested }

// GuestStage is the guest's configuration of a stream, taken from its Stream Table Entry. It is the
// guest stage configuration of the bind_guest_stage thread. Stages compare with ==. A Bind of an
// equal stage is not needed.
//
// A GuestStage has no ASID: the ASID is in the guest's Context Descriptor. It has no device: the
// device is the Stream.
type GuestStage struct {
	Disposition Disposition

	// Disabled means that the SMMU is disabled: GBPA determines the Disposition, not an STE. The
	// host then reports no fault and ignores SubstreamIDs (IHI 0070 §6.3.9.6). A host may ignore
	// Disabled if its hardware cannot distinguish this.
	Disabled bool
	// Cause is the event that the host reports for each aborted transaction: C_BAD_STREAMID,
	// F_STE_FETCH, C_BAD_STE, or 0 for none. A host whose hardware aborts without a report may
	// ignore it.
	Cause smmuv3.EventType
	// FetchAddr is the address of the failed fetch, if Cause is F_STE_FETCH.
	FetchAddr guestmem.GPA

	// S2VMID tags the translations of a stage that translates. It is 0 if the SMMU has no stage 2.
	S2VMID smmuv3.VMID
	// EATS is the device's use of ATS in a stage that translates.
	EATS smmuv3.EATS

	// Fields with the prefix S1 are zero unless stage 1 translates.

	// S1ContextPtr is the address of the CD, or of the CD table. It is an IPA if the guest's own
	// stage 2 translates.
	S1ContextPtr guestmem.GPA
	// S1CDMax is log2 of the number of CDs, 0 to 20. With 0 there is one CD, and transactions have
	// no SubstreamID.
	S1CDMax uint8
	// S1Fmt is the layout of the CD table. It is linear if S1CDMax is 0.
	S1Fmt smmuv3.S1Fmt
	// S1DSS is how the stream handles transactions without a SubstreamID. It is Terminate if
	// S1CDMax is 0: the field is then IGNORED.
	S1DSS smmuv3.S1DSS
	// S1CIR, S1COR and S1CSH are the inner and outer cacheability and the shareability of accesses
	// to the CD table, in the encodings of the STE.
	S1CIR, S1COR, S1CSH uint8
	// S1STALLD prevents faults from stalling.
	S1STALLD bool
	// S2 is the guest's own stage 2. It is zero unless stage 2 translates.
	S2 smmuv3.Stage2
}

// String returns the stage on one line, with every field that its Disposition uses.
func (s GuestStage) String() string {
	text := s.Disposition.String()
	switch {
	case s.Disabled:
		return text + " (SMMU disabled)"
	case s.Disposition == Abort && s.Cause == smmuv3.FSTEFetch:
		return fmt.Sprintf("%s with %v at %v", text, s.Cause, s.FetchAddr)
	case s.Disposition == Abort && s.Cause != 0:
		return fmt.Sprintf("%s with %v", text, s.Cause)
	case !s.Disposition.Translates():
		return text
	}
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
			{"s2aa64", t.AA64}, {"s2ds", t.DS}, {"s2endi", t.ENDI}, {"s2fwb", t.FWB}, {"s2ptw", t.PTW},
			{"s2affd", t.AFFD}, {"s2ha", t.HA}, {"s2hd", t.HD}, {"s2haft", t.HAFT}, {"s2s", t.S}, {"s2r", t.R},
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

// STE returns the Stream Table Entry of a stage that translates. Values are truncated to their
// fields.
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
