package edu

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// patience is the time that a store waits for the end of the job that it starts. A driver that
// polls then usually needs one load. patience is short, since the driver may have to run before a
// stalled DMA ends.
const patience = 3 * time.Millisecond

// start starts a DMA or a command. At its end it calls done with mu held; done may be nil. The
// caller holds mu.
func (f *Function) start(run func(*life) regs.Outcome, done func()) (rest func()) {
	f.values.busy = true
	f.values.result = 0
	l, ended := f.life, make(chan struct{})
	l.running.Go(func() {
		defer close(ended)
		outcome := run(l)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.values.busy, f.values.command = false, 0
		f.values.dmaCmd &^= regs.DMAStart
		f.values.result = outcome
		if done != nil {
			done()
		}
	})
	return func() {
		late := time.NewTimer(patience)
		defer late.Stop()
		select {
		case <-ended:
		case <-late.C:
		}
	}
}

// Errors of a transaction, besides those of its endpoint.
var (
	errNotEnabled  = errors.New("not enabled")
	errNotGranted  = errors.New("the translation does not grant the access")
	errPageRefused = errors.New("page request refused")
	errNoResponse  = errors.New("no response to a page request")
	errInvalid     = errors.New("invalid arguments")
)

// outcomes are the codes of errors. The first match counts.
var outcomes = []struct {
	is   error
	code regs.Code
}{
	{errReset, regs.Reset},
	{errNotEnabled, regs.NotEnabled},
	{errNotGranted, regs.NotGranted},
	{errPageRefused, regs.PageRefused},
	{errNoResponse, regs.NoResponse},
	{errInvalid, regs.Invalid},
	{soft.ErrNotAttached, regs.Detached},
	{bridge.ErrATCTimeout, regs.Isolated},
	{soft.ErrUnsupportedRequest, regs.Unsupported},
	{errors.ErrUnsupported, regs.Unsupported},
	{soft.ErrCompleterAbort, regs.CompleterAbort},
	{soft.ErrFault, regs.Aborted},
	{guestmem.ErrUnmapped, regs.NoMemory},
}

func outcome(err error, bytes int) regs.Outcome {
	if err == nil {
		return regs.NewOutcome(regs.OK, bytes)
	}
	for _, o := range outcomes {
		if errors.Is(err, o.is) {
			return regs.NewOutcome(o.code, bytes)
		}
	}
	return regs.NewOutcome(regs.Failed, bytes)
}

// transact makes a transaction with the given attributes, if the configuration space enables them.
func (f *Function) transact(l *life, a regs.Attrs, access func(soft.Port) error) error {
	if err := f.gate.enter(l); err != nil {
		return err
	}
	defer f.gate.leave()
	if err := f.enabled(a); err != nil {
		return err
	}
	return access(f.endpoint.With(soft.Attrs{
		Substream:    smmuv3.SubstreamID(a.PASID()),
		HasSubstream: a.Has(regs.HasPASID),
		Privileged:   a.Has(regs.Privileged),
		Instruction:  a.Has(regs.Execute),
	}))
}

// enabled returns an error if the configuration space forbids a transaction with these attributes.
func (f *Function) enabled(a regs.Attrs) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.space.master() {
		return fmt.Errorf("bus mastering: %w", errNotEnabled)
	}
	if a.Has(regs.Force) {
		return nil
	}
	for _, need := range []struct {
		attr regs.Attrs
		ok   bool
	}{
		{regs.HasPASID, f.space.pasid(0)},
		{regs.Execute, a.Has(regs.HasPASID) && f.space.pasid(pci.PASIDExecute)},
		{regs.Privileged, a.Has(regs.HasPASID) && f.space.pasid(pci.PASIDPrivileged)},
		{regs.ByATS, f.space.ats()},
	} {
		if a.Has(need.attr) && !need.ok {
			return fmt.Errorf("attributes %#x: %w", uint64(a), errNotEnabled)
		}
	}
	return nil
}
