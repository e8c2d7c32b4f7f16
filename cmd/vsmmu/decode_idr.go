package main

import (
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// idRegisters is the order in which the words of idr are given.
var idRegisters = []string{"IDR0", "IDR1", "IDR2", "IDR3", "IDR4", "IDR5", "IIDR", "AIDR"}

func idRegs(w []uint64) (r smmuv3.IDRegs) {
	for i := range r.IDR {
		r.IDR[i] = uint32(w[i])
	}
	r.IIDR, r.AIDR = uint32(w[6]), uint32(w[7])
	return r
}

// decodeIDR explains the registers that were given and judges their values. If all of IDR0 to IDR5 were
// given, it judges them together and adds what a guest of such a host does not read.
func decodeIDR(r *request) (d decoded) {
	regs := idRegs(r.words)
	given := func(f smmuv3.IDField) bool { return slices.Index(idRegisters, f.Register()) < r.given }
	for _, f := range smmuv3.IDFields() {
		if given(f) {
			d.fields = append(d.fields, idRow(f, regs.Get(f), f.Meaning(regs.Get(f))))
		}
	}
	whole := r.given >= len(regs.IDR)
	for _, rule := range idRules {
		if (whole || rule.single) && rule.broken(&regs) {
			d.illegal = rule.String()
			return d
		}
	}
	if !whole {
		return d
	}
	shown, err := idr.Derive(nil, bridge.Capabilities{IDs: regs})
	if err != nil {
		d.note = fmt.Sprintf("\nThis project cannot present such a host to a guest: %v.\n", err)
		return d
	}
	var differ []row
	for _, f := range shown.Fields {
		if v := regs.Get(f.Field); given(f.Field) && v != f.Guest {
			differ = append(differ, idRow(f.Field, f.Guest, f.Reason))
		}
	}
	if len(differ) > 0 {
		d.note = "\nA guest of this project reads by default:\n" + aligned(differ)
	}
	return d
}

func idRow(f smmuv3.IDField, v uint32, meaning string) row {
	hi, lo := f.Bits()
	return row{f.Register() + " " + smmuv3.Field{Hi: hi, Lo: lo}.Bits(), f.String(), fmt.Sprintf("%#x", v), meaning}
}

// idRule is a rule that the ID registers of every SMMU keep.
type idRule struct {
	smmuv3.Rule
	single bool // on one field, which is 0 if its register was not given
	broken func(*smmuv3.IDRegs) bool
}

// idRules are the architecture's rules on single fields, and those between fields that do not depend on
// the Secure state or the version.
var idRules = []idRule{
	valueRule("6.3.1", smmuv3.TTF, func(v uint32) bool { return v == 0 }),
	valueRule("6.3.1", smmuv3.TTENDIAN, func(v uint32) bool { return v == 1 }),
	valueRule("6.3.1", smmuv3.StallModel, func(v uint32) bool { return v == 3 }),
	valueRule("6.3.1", smmuv3.STLevel, func(v uint32) bool { return v > 1 }),
	valueRule("6.3.2", smmuv3.SIDSIZE, func(v uint32) bool { return v > 32 }),
	valueRule("6.3.2", smmuv3.SSIDSIZE, func(v uint32) bool { return v > 20 }),
	valueRule("6.3.2", smmuv3.EVENTQS, func(v uint32) bool { return v > 19 }),
	valueRule("6.3.2", smmuv3.CMDQS, func(v uint32) bool { return v > 19 }),
	valueRule("6.3.4", smmuv3.BBML, func(v uint32) bool { return v == 3 }),
	valueRule("6.3.6", smmuv3.VAX, func(v uint32) bool { return v == 3 }),
	valueRule("6.3.8", smmuv3.ArchMajor, func(v uint32) bool { return v != 0 }),

	needRule("6.3.1", smmuv3.PRI, smmuv3.ATS),
	needRule("6.3.1", smmuv3.ATSRECERR, smmuv3.ATS),
	needRule("6.3.1", smmuv3.NS1ATS, smmuv3.ATS, smmuv3.S1P, smmuv3.S2P),
	needRule("6.3.1", smmuv3.Hyp, smmuv3.S1P, smmuv3.S2P),
	needRule("6.3.1", smmuv3.VATOS, smmuv3.ATOS),
	needRule("6.3.2", smmuv3.ECMDQ, smmuv3.COHACC, smmuv3.MSI),
	needRule("6.3.4", smmuv3.HAD, smmuv3.S1P),
	needRule("6.3.4", smmuv3.PBHA, smmuv3.HAD),
	fieldsRule("6.3.6", "GRAN4K is 0, though TTF has AArch32", func(r *smmuv3.IDRegs) bool {
		return r.Get(smmuv3.TTF)&smmuv3.TTFAArch32 != 0 && !r.Has(smmuv3.GRAN4K)
	}),
	fieldsRule("6.3.6", "OAS is 52 bits without GRAN64K, DS or D128", func(r *smmuv3.IDRegs) bool {
		return r.Get(smmuv3.OAS) == 6 && !r.Has(smmuv3.GRAN64K) && !r.Has(smmuv3.DS) && !r.Has(smmuv3.D128)
	}),
	fieldsRule("6.3.6", "OAS is 56 bits without D128", func(r *smmuv3.IDRegs) bool {
		return r.Get(smmuv3.OAS) == 7 && !r.Has(smmuv3.D128)
	}),
	fieldsRule("6.3.6", "VAX is 56 bits without D128", func(r *smmuv3.IDRegs) bool {
		return r.Get(smmuv3.VAX) == 2 && !r.Has(smmuv3.D128)
	}),
}

// valueRule is the rule that some values of a field are reserved.
func valueRule(section string, f smmuv3.IDField, reserved func(uint32) bool) idRule {
	text := fmt.Sprintf("the value of %s.%v is reserved", f.Register(), f)
	return idRule{
		smmuv3.Rule{Section: section, Text: text}, true,
		func(r *smmuv3.IDRegs) bool { return reserved(r.Get(f)) },
	}
}

// needRule is the rule that a field is 0 without other fields.
func needRule(section string, f smmuv3.IDField, needs ...smmuv3.IDField) idRule {
	text := fmt.Sprintf("%s.%v is set without", f.Register(), f)
	for i, n := range needs {
		if i > 0 {
			text += " and"
		}
		text += fmt.Sprintf(" %v", n)
	}
	return fieldsRule(section, text, func(r *smmuv3.IDRegs) bool {
		return r.Has(f) && slices.ContainsFunc(needs, func(n smmuv3.IDField) bool { return !r.Has(n) })
	})
}

// fieldsRule is a rule between fields.
func fieldsRule(section, text string, broken func(*smmuv3.IDRegs) bool) idRule {
	return idRule{smmuv3.Rule{Section: section, Text: text}, false, broken}
}
