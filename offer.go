package vsmmuv3

import (
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// stallMax is IDR5.STALL_MAX if a policy asks for stalls without a number. It is the largest that a
// device offers.
const stallMax = 128

// onRequest are the fields that a guest gets only if its VMM asks, besides the fields of stalls.
// soft.DefaultIDs omits them.
var onRequest = []smmuv3.IDField{
	smmuv3.ATS, smmuv3.PRI, smmuv3.HTTU, smmuv3.OAS, smmuv3.VAX, smmuv3.DS,
}

// offer returns the ID registers that the software host offers. It adds the features of the policy,
// or of the saved guest, to the default. soft.New and idr.Derive check the combination.
func offer(policy idr.Policy, saved smmuv3.IDRegs, mem guestmem.Memory) smmuv3.IDRegs {
	want := func(f smmuv3.IDField) (v uint32, ok bool) {
		if saved != (smmuv3.IDRegs{}) {
			return saved.Get(f), true
		}
		v, ok = policy[f]
		return v, ok
	}
	ids := soft.DefaultIDs()
	if v, _ := want(smmuv3.S2P); v != 0 {
		ids = soft.Stage2IDs()
	}
	if _, ok := mem.(guestmem.Swapper); !ok {
		ids.Set(smmuv3.HTTU, 0)
	}
	for _, f := range onRequest {
		if v, ok := want(f); ok && v > ids.Get(f) && v <= f.Max() {
			ids.Set(f, v)
		}
	}
	if ids.Has(smmuv3.ATS) && ids.Has(smmuv3.S2P) {
		ids.Set(smmuv3.NS1ATS, 1) // the host has no split-stage ATS
	}
	if v, ok := want(smmuv3.StallModel); ok && v == smmuv3.StallBoth {
		ids.Set(smmuv3.StallModel, v)
		ids.Set(smmuv3.StallMax, stallMax)
		if most, ok := want(smmuv3.StallMax); ok && most <= smmuv3.StallMax.Max() {
			ids.Set(smmuv3.StallMax, most)
		}
	}
	return ids
}
