//go:build linux && (amd64 || arm64)

package kvm

import "unsafe"

// GICv3 describes the interrupt controller: the addresses of its registers, and its interrupts.
type GICv3 struct {
	Dist   uint64 // distributor, 64 KiB
	Redist uint64 // redistributors, 128 KiB for each vCPU, in vCPU order
	SPIs   uint32 // shared peripheral interrupts, a multiple of 32, at most 960
}

// AddGICv3 adds the interrupt controller. All vCPUs must exist, and none may have run.
func (vm *VM) AddGICv3(gic GICv3) error {
	const privateIRQs = 32
	irqs := privateIRQs + gic.SPIs
	return vm.addDevice("vGICv3", deviceVGICv3, []attribute{
		{"distributor", vgicGroupAddr, vgicAddrDist, unsafe.Pointer(&gic.Dist)},
		{"redistributors", vgicGroupAddr, vgicAddrRedist, unsafe.Pointer(&gic.Redist)},
		{"number of interrupts", vgicGroupNrIRQs, 0, unsafe.Pointer(&irqs)},
		{"init", vgicGroupCtrl, vgicCtrlInit, nil},
	})
}
