package soft

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// domains are the parts of the TLB that streams use. There is one for each VMID and kind of input
// address, so invalidating a VMID takes at most three stores. Each stream uses at most two. The
// host's lock guards them.
type domains struct {
	tlb     *tlb // nil until a stream translates
	entries int
	clock   *atomic.Uint64
	mask    smmuv3.VMID // bits of VMIDs that the SMMU has

	zero   domainSet // of VMID 0, the only one without stage 2
	others map[smmuv3.VMID]*domainSet
	inUse  []*domain
}

// domainSet holds the domains of a VMID, by kind. An entry is nil if no stream uses it.
type domainSet [kinds]*domain

// The kinds of domains: VAs that stage 1 translates alone, VAs that stage 1 translates nested
// on stage 2, and IPAs. Software must not use one VMID for both kinds of VAs (§3.17). The host
// keeps them apart if it does.
const (
	ofStage1 = iota
	ofNested
	ofStage2

	kinds = iota
)

// kindOf is the kind of a stage that translates.
var kindOf = [...]int{bridge.Translate: ofStage1, bridge.TranslateS2: ofStage2, bridge.TranslateNested: ofNested}

var noDomains domainSet

// of returns the domains of a VMID. The caller must not change them. of ignores VMID bits that the
// SMMU does not have, which is one of the permitted choices (§4.4).
func (t *domains) of(vmid smmuv3.VMID) *domainSet {
	vmid &= t.mask
	if vmid == 0 {
		return &t.zero
	}
	if s := t.others[vmid]; s != nil {
		return s
	}
	return &noDomains
}

// acquire returns a domain and counts one more user.
func (t *domains) acquire(vmid smmuv3.VMID, kind int) *domain {
	vmid &= t.mask
	s := &t.zero
	if vmid != 0 {
		if s = t.others[vmid]; s == nil {
			s = new(domainSet)
			if t.others == nil {
				t.others = make(map[smmuv3.VMID]*domainSet)
			}
			t.others[vmid] = s
		}
	}
	d := s[kind]
	if d == nil {
		if t.tlb == nil {
			t.tlb = newTLB(t.entries)
		}
		d = newDomain(t.tlb, vmid, kind)
		d.invalidateAll(t.clock.Add(2)) // entries of an earlier domain with this tag
		d.index = len(t.inUse)
		s[kind], t.inUse = d, append(t.inUse, d)
	}
	d.users++
	return d
}

// release removes one user of a domain, which may be nil. The last release frees the domain.
func (t *domains) release(d *domain) {
	if d == nil {
		return
	}
	if d.users--; d.users > 0 {
		return
	}
	last := len(t.inUse) - 1
	t.inUse[d.index] = t.inUse[last]
	t.inUse[d.index].index = d.index
	t.inUse[last] = nil
	t.inUse = t.inUse[:last]
	vmid, kind := smmuv3.VMID(d.tag), d.tag>>16
	s := t.of(vmid)
	s[kind] = nil
	if vmid != 0 && *s == (domainSet{}) {
		delete(t.others, vmid)
	}
	if last == 0 {
		t.others, t.inUse = nil, nil // their storage does not shrink
	}
}
