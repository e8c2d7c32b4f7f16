//go:build linux && (amd64 || arm64)

package iommufd

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// eventDepth is how many events the kernel keeps until they are read. More than that come only of a device gone wild, and
// losing those is what the limit is for.
const eventDepth = 1024

// nest is what all devices of a host share. It is made with the first of them and stays until the host is closed: what the
// guest has been shown must hold for a device that comes after the last has left.
type nest struct {
	ids     smmuv3.IDRegs
	stalls  bool // a faulting transaction could stall
	repeats bool // invalidations are issued twice
	regs    [6]uint32
	// commands are those that may be sent.
	commands *commandSet

	parent id // stage 2
	viommu id
	abort  id
	bypass id
	queue  id
	events queue // by its descriptor, with which the kernel keeps it until that is closed
}

// newNest makes everything, or leaves nothing.
func newNest(k *kernel, device, ioas id, hw hardware, ats bool) (*nest, error) {
	ids, err := hw.idRegs(ats)
	if err != nil {
		return nil, err
	}
	n := &nest{ids: ids, stalls: hw.stalls(), repeats: hw.repeats(), regs: hw.regs.IDR, commands: newCommandSet(&ids)}
	if err := n.make(k, device, ioas); err != nil {
		return nil, errors.Join(err, n.destroy(k))
	}
	return n, nil
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

// destroy takes down what there is, users before what they use. An error does not stop it, and what could not be destroyed
// keeps its id.
func (n *nest) destroy(k *kernel) error {
	var errs []error
	if n.events != nil {
		errs = append(errs, n.events.Close())
	}
	for _, object := range []*id{&n.bypass, &n.abort, &n.queue, &n.viommu, &n.parent} {
		errs = append(errs, k.destroy(object))
	}
	return errors.Join(errs...)
}
