//go:build linux && (amd64 || arm64)

package vmm

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/kvm"
)

// kvmHost is the part of a machine that KVM implements. A reset of the machine replaces it, since
// KVM cannot reset a GICv3.
type kvmHost struct {
	vm     *kvm.VM
	vcpus  []*kvm.VCPU
	router router
	slots  memorySlots
}

func newKVMHost(ram ram, cpus int) (_ *kvmHost, err error) {
	vm, err := kvm.NewVM()
	if err != nil {
		return nil, err
	}
	h := &kvmHost{vm: vm, router: router{vm: vm}, slots: memorySlots{vm: vm}}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
		}
	}()
	if err := vm.SetMemory(ramSlot, RAMBase, ram); err != nil {
		return nil, err
	}
	for i := range cpus {
		vcpu, err := vm.NewVCPU(i)
		if err != nil {
			return nil, err
		}
		h.vcpus = append(h.vcpus, vcpu)
	}
	if err := vm.AddGICv3(kvm.GICv3{Dist: gicDistBase, Redist: gicRedistBase, SPIs: spis}); err != nil {
		return nil, err
	}
	return h, vm.AddITS(itsBase)
}

func (h *kvmHost) close() (err error) {
	for _, vcpu := range h.vcpus {
		err = errors.Join(err, vcpu.Close())
	}
	return errors.Join(err, h.vm.Close())
}
