package trap

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Regs is the part of the register file that streams depend on.
type Regs struct {
	Enabled   bool        // CR0.SMMUEN
	GBPA      smmuv3.GBPA // bypass or abort while SMMUEN is 0
	RecInvSID bool        // CR2.RECINVSID
	Table     smmuv3.StreamTable
}

// Decide returns the stage of a stream, from CR0, GBPA, CR2 and the STE. It depends only on its
// arguments. It ignores the entry while the SMMU is disabled.
func Decide(regs *Regs, e *Entry, ids *smmuv3.IDRegs) bridge.GuestStage {
	if !regs.Enabled {
		// §6.3.9.6: GBPA chooses, and no event is recorded.
		if regs.GBPA.Abort() {
			return bridge.GuestStage{Disposition: bridge.Abort, Disabled: true}
		}
		return bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}
	}
	switch {
	case e.Fault == smmuv3.CBadStreamID && !regs.RecInvSID:
		return bridge.GuestStage{} // §7.3.3: recorded only if CR2.RECINVSID is 1
	case e.Fault != 0:
		return bridge.GuestStage{Cause: e.Fault, FetchAddr: e.FetchAddr}
	case e.STE.Illegal(ids) != nil:
		return bridge.GuestStage{Cause: smmuv3.CBadSTE}
	}
	return stage(&e.STE, ids)
}

// dispositions has the Disposition by Config[1:0], for a stream that does not abort (§5.2).
var dispositions = [...]bridge.Disposition{
	0b00: bridge.Bypass, 0b01: bridge.Translate, 0b10: bridge.TranslateS2, 0b11: bridge.TranslateNested,
}

// stage converts a legal STE. In the result, ignored fields are zero, and reserved values are
// replaced by their effective values. Stages with the same effect are thus equal.
func stage(s *smmuv3.STE, ids *smmuv3.IDRegs) bridge.GuestStage {
	c := s.Config()
	if c.Abort() {
		return bridge.GuestStage{} // §5.2: without an event
	}
	disposition := dispositions[c&0b11]
	g := bridge.GuestStage{Disposition: disposition}
	if disposition == bridge.Bypass {
		return g
	}
	if disposition.Stage1() {
		stage1(&g, s, ids)
	}
	if disposition.Stage2() {
		g.S2 = s.Stage2().Effective(ids, disposition.Stage1())
		g.S2.SH0 = shareability(g.S2.SH0)
	}
	if ids.Has(smmuv3.S2P) {
		g.S2VMID = s.S2VMID() // §5.2: it also tags translations of stage 1 alone
	}
	if ids.Has(smmuv3.ATS) && s.EATS() == smmuv3.EATSFull {
		g.EATS = smmuv3.EATSFull // 0b11 behaves as 0b00 without IDR3.DPT
	}
	return g
}

// shareability returns the effective value of S1CSH or S2SH0: 0b01 is reserved and behaves as 0b00.
func shareability(v uint8) uint8 {
	if v == 0b01 {
		return 0b00
	}
	return v
}

// stage1 sets the fields of stage 1.
func stage1(g *bridge.GuestStage, s *smmuv3.STE, ids *smmuv3.IDRegs) {
	g.S1ContextPtr = guestmem.GPA(s.S1ContextPtr())
	g.S1CIR = s.S1CIR()
	g.S1COR = s.S1COR()
	g.S1CSH = shareability(s.S1CSH())
	g.S1STALLD = s.S1STALLD()
	// §5.2: S1CDMax is ignored without substreams. S1Fmt and S1DSS are ignored if S1CDMax is 0.
	if ids.Has(smmuv3.SSIDSIZE) && s.S1CDMax() != 0 {
		g.S1CDMax = s.S1CDMax()
		if f := s.S1Fmt(); f == smmuv3.S1Fmt4K || f == smmuv3.S1Fmt64K {
			g.S1Fmt = f // 0b11 is reserved and behaves as linear
		}
		if d := s.S1DSS(); d == smmuv3.S1DSSBypass || d == smmuv3.S1DSSSubstream0 {
			g.S1DSS = d // 0b11 is reserved and behaves as terminate
		}
	}
}
