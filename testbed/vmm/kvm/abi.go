//go:build linux && (amd64 || arm64)

package kvm

import (
	"structs"
	"unsafe"
)

// Requests (include/uapi/linux/kvm.h): 0xAE and the number, with the size and direction of a
// structure argument.
const (
	getAPIVersion      = 0xae00
	createVM           = 0xae01
	checkExtension     = 0xae03
	getVCPUMmapSize    = 0xae04
	createVCPU         = 0xae41
	setUserMemory      = 0x4020ae46
	irqLine            = 0x4008ae61
	setGSIRouting      = 0x4008ae6a
	setIRQFD           = 0x4020ae76
	run                = 0xae80
	signalMSI          = 0x4020aea5
	getOneReg          = 0x4010aeab
	setOneReg          = 0x4010aeac
	armVCPUInit        = 0x4020aeae
	armPreferredTarget = 0x8020aeaf
	createDevice       = 0xc00caee0
	setDeviceAttr      = 0x4018aee1
)

const (
	apiVersion = 12

	capUserMemory    = 3
	capIRQRouting    = 25
	capIRQFD         = 32
	capIRQFDResample = 82
	capDeviceCtrl    = 89
	capARMPSCI02     = 102
	capMSIDeviceID   = 131
	capImmediateExit = 136
	capARMVMIPASize  = 165
)

// Reasons for which KVM_RUN returns.
const (
	exitMMIO        = 6
	exitSystemEvent = 24
)

// exitNames holds KVM's names of the exits that are errors.
var exitNames = map[uint32]string{
	0:  "KVM_EXIT_UNKNOWN",
	4:  "KVM_EXIT_DEBUG",
	8:  "KVM_EXIT_SHUTDOWN",
	9:  "KVM_EXIT_FAIL_ENTRY",
	17: "KVM_EXIT_INTERNAL_ERROR",
	28: "KVM_EXIT_ARM_NISV",
}

// From arch/arm64/include/uapi/asm/kvm.h.
const (
	deviceVGICv3  = 7
	deviceVGICITS = 8

	vgicGroupAddr   = 0
	vgicGroupNrIRQs = 3
	vgicGroupCtrl   = 4

	vgicAddrDist   = 2
	vgicAddrRedist = 3
	vgicAddrITS    = 4
	vgicCtrlInit   = 0

	irqTypeSPI = 1 << 24

	msiValidDeviceID = 1 << 0

	irqfdDeassign = 1 << 0
	irqfdResample = 1 << 1

	routeIRQChip = 1
	routeMSI     = 2

	featurePowerOff = 1 << 0
	featurePSCI02   = 1 << 2

	regX0 = 0x6030_0000_0010_0000
	regLR = 0x6030_0000_0010_003c
	regPC = 0x6030_0000_0010_0040
)

// userMemory is struct kvm_userspace_memory_region.
type userMemory struct {
	_     structs.HostLayout
	slot  uint32
	flags uint32
	gpa   uint64
	size  uint64
	host  unsafe.Pointer
}

// irqLevel is struct kvm_irq_level.
type irqLevel struct {
	_     structs.HostLayout
	irq   uint32
	level uint32
}

// msi is struct kvm_msi.
type msi struct {
	_        structs.HostLayout
	addrLow  uint32
	addrHigh uint32
	data     uint32
	flags    uint32
	device   uint32
	_        [12]byte
}

// irqfd is struct kvm_irqfd.
type irqfd struct {
	_        structs.HostLayout
	fd       uint32
	gsi      uint32
	flags    uint32
	resample uint32
	_        [16]byte
}

// route is struct kvm_irq_routing_entry. Its union has the two members that arm64 uses.
type route struct {
	_     structs.HostLayout
	gsi   uint32
	typ   uint32
	flags uint32
	_     uint32
	chip  [2]uint32 // irqchip.irqchip and pin, or msi.address_lo and address_hi
	msi   [2]uint32 // msi.data and devid
	_     [16]byte
}

// routing is struct kvm_irq_routing with its largest number of entries here. nr of them are in use.
type routing struct {
	_       structs.HostLayout
	nr      uint32
	flags   uint32
	entries [maxRoutes]route
}

// oneReg is struct kvm_one_reg.
type oneReg struct {
	_    structs.HostLayout
	id   uint64
	addr unsafe.Pointer
}

// vcpuInit is struct kvm_vcpu_init.
type vcpuInit struct {
	_        structs.HostLayout
	target   uint32
	features [7]uint32
}

// newDevice is struct kvm_create_device.
type newDevice struct {
	_     structs.HostLayout
	typ   uint32
	fd    uint32
	flags uint32
}

// deviceAttr is struct kvm_device_attr.
type deviceAttr struct {
	_     structs.HostLayout
	flags uint32
	group uint32
	attr  uint64
	addr  unsafe.Pointer
}

// runPage is the start of struct kvm_run, a page that the VMM shares with KVM. exit is its union.
type runPage struct {
	_ structs.HostLayout
	// request holds request_interrupt_window and immediate_exit, in one word that can be stored
	// atomically.
	request    uint32
	_          uint32
	exitReason uint32
	_          [20]byte
	exit       [256]byte
}

// immediateExit is runPage.request with immediate_exit, its second byte, set.
const immediateExit = 1 << 8

// mmioExit is the union of struct kvm_run for KVM_EXIT_MMIO.
type mmioExit struct {
	_       structs.HostLayout
	addr    uint64
	data    [8]byte
	len     uint32
	isWrite uint8
}

// systemEventExit is the union of struct kvm_run for KVM_EXIT_SYSTEM_EVENT.
type systemEventExit struct {
	_   structs.HostLayout
	typ uint32
}
