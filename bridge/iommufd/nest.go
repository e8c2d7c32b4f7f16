//go:build linux && (amd64 || arm64)

package iommufd

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// eventDepth is the number of events that the kernel keeps until they are read. A device that
// faults faster loses events.
const eventDepth = 1024

// nest holds the kernel objects that all devices of a host share. The first device creates them,
// and they exist until the host is closed. Each later device must have the features that the guest's
// ID registers show, even after all earlier devices are removed.
type nest struct {
	ids     smmuv3.IDRegs // Capabilities
	stalls  bool          // the hardware can stall
	repeats bool          // TLBI and CFGI commands are sent twice
	regs    [6]uint32     // IDR0 to IDR5 of the hardware

	guest    smmuv3.IDRegs // the ID registers that the guest reads; ids if unknown
	commands *commandSet   // of guest

	parent id // stage 2
	viommu id
	abort  id
	bypass id
	queue  id
	events queue // holds the vEVENTQ object until it is closed
}

// newNest creates the shared objects. After an error no object is left, except in h.leftovers.
func (h *Host) newNest(device id, hw hardware) error {
	ids, err := hw.idRegs(h.ats)
	if err != nil {
		return err
	}
	n := &nest{ids: ids, stalls: hw.stalls(), repeats: hw.repeats(), regs: hw.regs.IDR}
	if err := n.show(h.guest); err != nil {
		return err
	}
	if err := n.make(&h.k, device, h.ioas); err != nil {
		for _, object := range n.objects() {
			h.discard(*object)
		}
		return err
	}
	h.nest = n
	return nil
}

func (n *nest) make(k *kernel, device, ioas id) (err error) {
	if n.parent, err = k.allocParent(device, ioas); err != nil {
		return err
	}
	if n.viommu, err = k.allocVIOMMU(device, n.parent); err != nil {
		return err
	}
	if n.abort, err = k.allocNested(device, n.viommu, steAbort); err != nil {
		return err
	}
	if n.bypass, err = k.allocNested(device, n.viommu, steBypass); err != nil {
		return err
	}
	queue, fd, err := k.allocVEventQ(n.viommu, eventDepth)
	if err != nil {
		return err
	}
	n.queue = queue
	n.events, err = k.sys.queue(fd)
	return failed(opQueue, err)
}

// objects returns the kernel objects in the order in which they are destroyed: each one before the
// objects that it uses.
func (n *nest) objects() []*id {
	return []*id{&n.bypass, &n.abort, &n.queue, &n.viommu, &n.parent}
}

// show records the ID registers that the guest reads; nil means the Capabilities. It fails if
// commands or STEs depend on a feature that the registers show and the host does not offer.
func (n *nest) show(guest *smmuv3.IDRegs) error {
	if guest == nil {
		guest = &n.ids
	}
	for _, f := range []smmuv3.IDField{smmuv3.ATS, smmuv3.ASID16, smmuv3.CD2L, smmuv3.SSIDSIZE, smmuv3.RIL, smmuv3.DS} {
		if shown, has := guest.Get(f), n.ids.Get(f); shown > has {
			return fmt.Errorf("%w: the guest reads %v = %d but the host offers %d", ErrUnsupported, f, shown, has)
		}
	}
	n.guest = *guest
	n.commands = newCommandSet(guest)
	return nil
}
