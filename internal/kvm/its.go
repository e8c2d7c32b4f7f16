//go:build linux && (amd64 || arm64)

package kvm

import "unsafe"

// ITSSize is the size of an ITS's registers, and ITSDoorbell the offset in them of GITS_TRANSLATER, which MSIs are written to
// (IHI 0069 §12.18).
const (
	ITSSize     = 128 << 10
	ITSDoorbell = 0x10040
)

// AddITS gives the VM an Interrupt Translation Service with its registers at base, a multiple of 64 KiB. The VM must have its
// GICv3, and no vCPU may have run.
func (vm *VM) AddITS(base uint64) error {
	return vm.addDevice("ITS", deviceVGICITS, []attribute{
		{"registers", vgicGroupAddr, vgicAddrITS, unsafe.Pointer(&base)},
		{"init", vgicGroupCtrl, vgicCtrlInit, nil},
	})
}
