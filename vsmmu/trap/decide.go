package trap

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Regs is the part of the register file that streams depend on.
type Regs struct {
	Enabled   bool        // CR0.SMMUEN
	GBPA      smmuv3.GBPA // what becomes of transactions while it is 0
	RecInvSID bool        // CR2.RECINVSID
	Table     smmuv3.StreamTable
}

// Decide says what a stream has to do: the one step from (CR0, GBPA, CR2, STE)
// to a guest stage. It depends on its arguments and on nothing else. While the
// SMMU is disabled the entry is not looked at.
func Decide(regs *Regs, e *Entry, ids *smmuv3.IDRegs) bridge.GuestStage {
	if !regs.Enabled {
		// §6.3.9.6: GBPA chooses, and nothing is reported.
		if regs.GBPA.Abort() {
			return bridge.GuestStage{Disposition: bridge.Abort, Disabled: true}
		}
		return bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}
	}
	switch {
	case e.Fault == smmuv3.CBadStreamID && !regs.RecInvSID:
		return bridge.GuestStage{} // §7.3.3: recorded only if CR2.RECINVSID
	case e.Fault != 0:
		return bridge.GuestStage{Cause: e.Fault, FetchAddr: e.FetchAddr}
	case e.STE.Illegal(ids) != nil:
		return bridge.GuestStage{Cause: smmuv3.CBadSTE}
	}
	return stage(&e.STE, ids)
}

// dispositions are what the values of Config[1:0] have a stream do that does not
// abort (§5.2).
var dispositions = [...]bridge.Disposition{
	0b00: bridge.Bypass, 0b01: bridge.Translate, 0b10: bridge.TranslateS2, 0b11: bridge.TranslateNested,
}

// stage converts a legal STE. Fields that the architecture ignores are zero in
// the result, so that stages which mean the same are equal.
func stage(s *smmuv3.STE, ids *smmuv3.IDRegs) bridge.GuestStage {
	c := s.Config()
	if c.Abort() {
		return bridge.GuestStage{} // §5.2: in silence
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
	}
	if ids.Has(smmuv3.S2P) {
		g.S2VMID = s.S2VMID() // §5.2: stage 1 alone is tagged, too
	}
	if ids.Has(smmuv3.ATS) && s.EATS() == smmuv3.EATSFull {
		g.EATS = smmuv3.EATSFull // the reserved value behaves as none
	}
	return g
}

// stage1 fills in what an STE says of stage 1.
func stage1(g *bridge.GuestStage, s *smmuv3.STE, ids *smmuv3.IDRegs) {
	g.S1ContextPtr = guestmem.GPA(s.S1ContextPtr())
	g.S1CIR = s.S1CIR()
	g.S1COR = s.S1COR()
	g.S1CSH = s.S1CSH()
	g.S1STALLD = s.S1STALLD()
	// §5.2: without substreams S1CDMax means nothing, and without a table
	// neither do its format and S1DSS.
	if ids.Has(smmuv3.SSIDSIZE) && s.S1CDMax() != 0 {
		g.S1CDMax = s.S1CDMax()
		if f := s.S1Fmt(); f == smmuv3.S1Fmt4K || f == smmuv3.S1Fmt64K {
			g.S1Fmt = f // the reserved value behaves as linear
		}
		if d := s.S1DSS(); d == smmuv3.S1DSSBypass || d == smmuv3.S1DSSSubstream0 {
			g.S1DSS = d // the reserved value behaves as terminate
		}
	}
}
