package soft

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// tlbs are the TLBs that streams use, one for each VMID and kind, so that to
// invalidate a VMID is to invalidate three of them at most, whatever they hold.
// There are no more than two for each stream, and the one that an SMMU without stage
// 2 has is always there. They belong to the host's lock; a TLB itself to nobody.
type tlbs struct {
	entries int
	clock   *atomic.Uint64
	byVMID  [][kinds]*tlb // a power of two of them
	inUse   []*tlb
	spare   []*tlb // that had been in use
}

// The kinds of TLBs: of VAs that stage 1 translates, alone or nested on stage 2, and
// of IPAs. Software must not give one VMID to both sorts of VAs (§3.17); if it does,
// they are kept apart all the same.
const (
	ofStage1 = iota
	ofNested
	ofStage2

	kinds = iota
)

// kindOf is the kind of a stage that translates.
var kindOf = [...]int{bridge.Translate: ofStage1, bridge.TranslateS2: ofStage2, bridge.TranslateNested: ofNested}

func (t *tlbs) init(entries int, ids *smmuv3.IDRegs, clock *atomic.Uint64) {
	vmids := 1
	switch {
	case ids.Has(smmuv3.S2P) && ids.Has(smmuv3.VMID16):
		vmids = 1 << 16
	case ids.Has(smmuv3.S2P):
		vmids = 1 << 8
	}
	t.entries, t.clock, t.byVMID = entries, clock, make([][kinds]*tlb, vmids)
	t.acquire(0, ofStage1)
}

// of are the TLBs of a VMID; nil where no stream has one. Bits that the SMMU does not
// have are ignored, which where they are set is one of the choices (§4.4).
func (t *tlbs) of(vmid smmuv3.VMID) *[kinds]*tlb { return &t.byVMID[int(vmid)&(len(t.byVMID)-1)] }

// acquire returns a TLB for one more user.
func (t *tlbs) acquire(vmid smmuv3.VMID, kind int) *tlb {
	place := &t.of(vmid)[kind]
	if *place == nil {
		*place = t.fresh()
		(*place).place = place
		t.inUse = append(t.inUse, *place)
	}
	(*place).users++
	return *place
}

// fresh is a TLB that holds nothing.
func (t *tlbs) fresh() *tlb {
	last := len(t.spare) - 1
	if last < 0 {
		return newTLB(t.entries)
	}
	u := t.spare[last]
	t.spare = t.spare[:last]
	u.invalidateAll(t.clock.Add(1))
	return u
}

// release takes a TLB, or nil, back from one of its users.
func (t *tlbs) release(u *tlb) {
	if u == nil {
		return
	}
	if u.users--; u.users > 0 {
		return
	}
	*u.place = nil
	for i := range t.inUse {
		if t.inUse[i] == u {
			last := len(t.inUse) - 1
			t.inUse[i], t.inUse = t.inUse[last], t.inUse[:last]
			break
		}
	}
	t.spare = append(t.spare, u)
}
