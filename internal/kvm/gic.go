//go:build linux && (amd64 || arm64)

package kvm

import "unsafe"

// GICv3 says where the interrupt controller's registers stand, and how many interrupts it has.
type GICv3 struct {
	Dist   uint64 // distributor, 64 KiB
	Redist uint64 // redistributors, 128 KiB for each vCPU, in their order
	SPIs   uint32 // shared peripheral interrupts, a multiple of 32, at most 960
}

// AddGICv3 gives the VM its interrupt controller. All vCPUs must exist, and none may have run.
func (vm *VM) AddGICv3(gic GICv3) error {
	device := newDevice{typ: deviceVGICv3}
	if _, err := vm.callPtr("KVM_CREATE_DEVICE(vGICv3)", createDevice, unsafe.Pointer(&device)); err != nil {
		return err
	}
	// The VM keeps the device; the descriptor serves to configure it only.
	fd := newHandle(int(device.fd))
	defer fd.close()

	const privateIRQs = 32
	irqs := privateIRQs + gic.SPIs
	for _, attr := range []struct {
		name        string
		group, attr uint32
		value       unsafe.Pointer
	}{
		{"distributor", vgicGroupAddr, vgicAddrDist, unsafe.Pointer(&gic.Dist)},
		{"redistributors", vgicGroupAddr, vgicAddrRedist, unsafe.Pointer(&gic.Redist)},
		{"number of interrupts", vgicGroupNrIRQs, 0, unsafe.Pointer(&irqs)},
		{"init", vgicGroupCtrl, vgicCtrlInit, nil},
	} {
		arg := deviceAttr{group: attr.group, attr: uint64(attr.attr), addr: attr.value}
		if _, err := fd.callPtr("KVM_SET_DEVICE_ATTR(vGICv3 "+attr.name+")", setDeviceAttr, unsafe.Pointer(&arg)); err != nil {
			return err
		}
	}
	return nil
}
