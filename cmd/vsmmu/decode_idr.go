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

// decodeIDR explains the registers that were given and judges their values. If all of IDR0 to IDR5
// were given, it also judges the combination, and lists the fields whose values differ for a guest
// of such a host.
func decodeIDR(r *request) (d decoded) {
	regs := idRegs(r.words)
	given := func(f smmuv3.IDField) bool { return r.given[slices.Index(idRegisters, f.Register())] }
	for _, f := range smmuv3.IDFields() {
		if given(f) {
			d.Fields = append(d.Fields, idRow(f, regs.Get(f), f.Meaning(regs.Get(f))))
		}
	}
	whole := !slices.Contains(r.given[:len(regs.IDR)], false)
	rule := regs.IllegalKnown(given)
	if !whole {
		rule = illegalField(&regs, given)
	}
	if rule != nil {
		d.Illegal = rule.String()
	}
	if rule != nil || !whole {
		return d
	}
	shown, err := idr.Derive(nil, bridge.Capabilities{IDs: regs})
	if err != nil {
		d.Notes = []string{fmt.Sprintf("This project cannot present such a host to a guest: %v.", err)}
		return d
	}
	for _, f := range shown.Fields {
		if v := regs.Get(f.Field); given(f.Field) && v != f.Guest {
			d.Guest = append(d.Guest, idRow(f.Field, f.Guest, f.Reason))
		}
	}
	return d
}

func idRow(f smmuv3.IDField, v uint32, meaning string) row {
	hi, lo := f.Bits()
	return row{f.String(), f.Register(), smmuv3.Field{Hi: hi, Lo: lo}.Bits(), fmt.Sprintf("%#x", v), meaning}
}

// illegalField returns the rule that makes the value of a single field illegal, or nil.
func illegalField(regs *smmuv3.IDRegs, given func(smmuv3.IDField) bool) *smmuv3.Rule {
	for _, f := range smmuv3.IDFields() {
		only := func(g smmuv3.IDField) bool { return g == f && given(f) }
		if rule := regs.IllegalKnown(only); rule != nil {
			return rule
		}
	}
	return nil
}
