//go:build linux && (amd64 || arm64)

package ownsmmu

import (
	"context"
	"errors"
	"io"
	"slices"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// vm is the virtual machine with its SMMU and edu functions.
type vm struct {
	*vmm.Machine
	smmu  *movable.SMMU
	mover *mover
	notes *notes
	ids   IDs
	edus  []*edu.Function

	parts []io.Closer // in the order of their creation
}

// places are the places of the edu functions on the root bus. The functions of one device share an IOMMU
// group, since they have no ACS. Only the last has function-level reset: a host's kernel that opens
// or closes such a function resets it, and waits 100 ms.
var places = []vmm.Edu{
	{Device: 2}, {Device: 3}, {Device: 4}, {Device: 4, Function: 1},
	{Device: 5, Features: edu.Features{FLR: true}},
}

func newVM(cfg vmm.Config, job machine.OwnJob) (_ *vm, err error) {
	v := &vm{notes: newNotes()}
	defer func() {
		if err != nil {
			err = errors.Join(err, v.close())
		}
	}()
	if v.ids, err = Derive(job.IDs); err != nil {
		return nil, err
	}
	ids := v.ids.Guest
	features := edu.Features{
		PASIDBits: uint8(ids.Get(smmuv3.SSIDSIZE)), ATS: ids.Has(smmuv3.ATS), PRI: ids.Has(smmuv3.PRI),
		FLR: true, Stalls: ids.Get(smmuv3.StallModel) == smmuv3.StallBoth,
	}
	cfg.Stalls = features.Stalls
	if v.Machine, err = vmm.New(cfg); err != nil {
		return nil, err
	}
	v.parts = append(v.parts, v.Machine)
	memory := new(guestmem.Slots)
	if err := memory.Add(guestmem.Slot{GPA: vmm.RAMBase, Mem: v.Memory()}); err != nil {
		return nil, err
	}
	hosts := soft.Config{Memory: memory, MSI: v.SignalEndpointMSI, IDs: v.ids.Host}
	host, err := soft.New(hosts)
	if err != nil {
		return nil, err
	}
	v.mover = newMover()
	if v.smmu, err = movable.New(movable.Config{
		Device: vsmmu.Config{
			IDs: ids, Memory: memory, Interrupts: v.SMMUInterrupts(0), AbortAtReset: true,
			Trace: v.notes.trace(v.mover.ask),
		},
		Host: hosts, Stop: v.stopDMA,
	}, host); err != nil {
		return nil, err
	}
	v.mover.smmu = v.smmu
	v.parts = append(v.parts, v.smmu)
	if err := v.AddSMMU(v.mover, ids); err != nil {
		return nil, err
	}
	if err := v.AddRootPort(); err != nil { // a function that is not bound to vfio-pci
		return nil, err
	}
	for _, place := range places {
		flr := place.FLR
		place.Features = features
		place.FLR = flr
		f, err := v.AddEdu(place)
		if err != nil {
			return nil, err
		}
		v.edus = append(v.edus, f)
		if err := v.smmu.Attach(place.StreamID(), f.Endpoint()); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// stopTimeout is the time in which in-flight DMA ends, unless it is stalled.
const stopTimeout = 200 * time.Millisecond

// stopDMA stops the DMA of all functions.
func (v *vm) stopDMA() (resume func(), err error) {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var stopped []*edu.Function
	resume = func() {
		for _, f := range stopped {
			f.Resume()
		}
	}
	for _, f := range v.edus {
		if err := f.Pause(ctx); err != nil {
			resume()
			return nil, err
		}
		stopped = append(stopped, f)
	}
	return resume, nil
}

func (v *vm) report() *machine.Own {
	own := &machine.Own{IDs: machine.SMMUOf(v.ids.Guest)}
	v.notes.fill(own)
	v.mover.fill(own)
	return own
}

// close closes the parts in reverse. The SMMU comes before the machine that it uses.
func (v *vm) close() (err error) {
	for _, part := range slices.Backward(v.parts) {
		err = errors.Join(err, part.Close())
	}
	return err
}
