package edu

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// maxGroups is the Outstanding Page Request Capacity (§10.5.2.4).
const maxGroups = 32

// group is a page request group that waits for its response.
type group struct {
	pasid    uint32
	hasPASID bool
	response chan smmuv3.PRGResponse // has room for it
}

// pages are the page requests. mu of the Function guards them.
type pages struct {
	waiting map[uint16]*group // by index
	next    uint16            // index of the group of the next DMA that asks for a page
	failed  bool              // PRIFailure
	strange bool              // PRIUnexpected
	log     []regs.Response
}

func (p *pages) reset() { *p = pages{waiting: map[uint16]*group{}} }

// show sets the status register of the PRI capability.
func (p *pages) show(s *space) {
	if s.priAt == 0 {
		return
	}
	at := s.priAt + pci.PRIStatus
	v := s.Load(at, 2) &^ (pci.PRIFailure | pci.PRIUnexpected | pci.PRIStopped)
	for _, f := range []struct {
		set bool
		bit uint32
	}{
		{p.failed, pci.PRIFailure},
		{p.strange, pci.PRIUnexpected},
		{!s.pri() && len(p.waiting) == 0, pci.PRIStopped},
	} {
		if f.set {
			v |= f.bit
		}
	}
	s.Put(at, 2, v)
}

// control applies a store to the control and status registers (§10.5.2.2, §10.5.2.3).
func (p *pages) control(s *space, off uint32, size int, value uint32) {
	if s.priAt == 0 {
		return
	}
	if v, ok := pci.Merge(0, s.priAt+pci.PRIStatus, 2, off, size, value); ok {
		p.failed = p.failed && v&pci.PRIFailure == 0
		p.strange = p.strange && v&pci.PRIUnexpected == 0
	}
	if v, ok := pci.Merge(0, s.priAt+pci.PRIControl, 2, off, size, value); ok && v&pci.PRIReset != 0 && !s.pri() {
		clear(p.waiting) // what waits for a response times out
	}
}

// request sends a page request, and returns its group: nil for a Stop Marker.
func (f *Function) request(l *life, a regs.Attrs, r smmuv3.PageRequest) (*group, error) {
	if err := f.gate.enter(l); err != nil {
		return nil, err
	}
	defer f.gate.leave()
	if err := f.enabled(a &^ regs.ByATS); err != nil {
		return nil, err
	}
	if a.Has(regs.HasPASID) {
		r.SetSubstream(smmuv3.SubstreamID(a.PASID()))
		r.SetX(a.Has(regs.Execute))
		r.SetPriv(a.Has(regs.Privileged))
	}
	g, err := f.expect(a, r)
	if err != nil {
		return nil, err
	}
	if err := f.endpoint.RequestPage(r); err != nil {
		f.forget(r.PRGIndex(), g)
		return nil, err
	}
	return g, nil
}

// expect returns the group of a page request, of which an earlier request may have been sent. A
// Stop Marker gets no response.
func (f *Function) expect(a regs.Attrs, r smmuv3.PageRequest) (*group, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !a.Has(regs.Force) && (!f.space.pri() || f.pages.failed) {
		return nil, fmt.Errorf("page requests: %w", errNotEnabled)
	}
	if r.StopMarker() {
		return nil, nil
	}
	if g := f.pages.waiting[r.PRGIndex()]; g != nil {
		if g.pasid != a.PASID() || g.hasPASID != a.Has(regs.HasPASID) {
			return nil, fmt.Errorf("page request group %d with another PASID: %w", r.PRGIndex(), errInvalid)
		}
		return g, nil
	}
	most := uint32(maxGroups)
	if !a.Has(regs.Force) {
		most = min(most, f.space.Load(f.space.priAt+pci.PRIAllocation, 4))
	}
	if uint32(len(f.pages.waiting)) >= most {
		return nil, fmt.Errorf("%d page request groups wait: %w", most, errPageRefused)
	}
	g := &group{a.PASID(), a.Has(regs.HasPASID), make(chan smmuv3.PRGResponse, 1)}
	f.pages.waiting[r.PRGIndex()] = g
	return g, nil
}

// forget ends the wait of a group.
func (f *Function) forget(index uint16, g *group) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if g != nil && f.pages.waiting[index] == g {
		delete(f.pages.waiting, index)
	}
}

// respond implements soft.ATS. A guest may respond to any group, at any time.
func (f *Function) respond(r bridge.PageResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values.responses++
	if len(f.pages.log) < regs.LogSize {
		f.pages.log = append(f.pages.log, regs.NewResponse(r.PRGIndex, uint8(r.Response), uint32(r.SubstreamID), r.SSV))
	}
	g := f.pages.waiting[r.PRGIndex]
	if g == nil || r.SSV && (!g.hasPASID || g.pasid != uint32(r.SubstreamID)) {
		f.pages.strange = true
		return
	}
	delete(f.pages.waiting, r.PRGIndex)
	f.pages.failed = f.pages.failed || r.Response == smmuv3.PRGFailure
	g.response <- r.Response
}

// askForPage sends a page request and waits for the response. It succeeds if the guest made the
// page present.
func (f *Function) askForPage(l *life, a regs.Attrs, iova uint64, write bool) error {
	f.mu.Lock()
	index := f.pages.next % (1 << 9)
	f.pages.next++
	f.mu.Unlock()
	access := smmuv3.PageAccess{Read: !write, Write: write}
	g, err := f.request(l, a, smmuv3.NewPageRequest(0, index, iova&^(pageSize-1), access, true))
	if err != nil {
		return err
	}
	late := time.NewTimer(f.cfg.PageTimeout)
	defer late.Stop()
	select {
	case r := <-g.response:
		if r != smmuv3.PRGSuccess {
			return fmt.Errorf("%w: %v", errPageRefused, r)
		}
		return nil
	case <-late.C:
		f.forget(index, g)
		return errNoResponse
	case <-l.Done():
		return errReset
	}
}
