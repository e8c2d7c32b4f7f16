//go:build linux && (amd64 || arm64)

package kvm

import "unsafe"

// AddITS adds an Interrupt Translation Service with its registers at base, a multiple of 64 KiB.
// The VM must have its GICv3, and no vCPU may have run.
func (vm *VM) AddITS(base uint64) error {
	return vm.addDevice("ITS", deviceVGICITS, []attribute{
		{"registers", vgicGroupAddr, vgicAddrITS, unsafe.Pointer(&base)},
		{"init", vgicGroupCtrl, vgicCtrlInit, nil},
	})
}
