package vmm

// RAMBase is the guest-physical address of the machine's memory.
const RAMBase = 0x4000_0000

// Guest-physical addresses of the devices. Each UART and the SMMU have 64 KiB pages of their own,
// for kernels with that granule.
const (
	gicDistBase   = 0x0800_0000
	gicDistSize   = 64 << 10
	itsBase       = 0x0808_0000
	itsSize       = 128 << 10
	doorbell      = itsBase + 0x1_0040 // GITS_TRANSLATER (IHI 0069), the address of MSIs
	gicRedistBase = 0x080a_0000
	gicRedistSize = 128 << 10 // of each vCPU

	consoleBase = 0x0900_0000
	controlBase = 0x0901_0000
	uartSize    = 4 << 10

	fwcfgBase = 0x0902_0000
	rtcBase   = 0x0903_0000
	flashSize = 64 << 20 // of the firmware's code, from 0 on; its variables follow

	smmuBase = 0x0905_0000 // of the first SMMU; the others follow
	smmuSize = 128 << 10

	virtioBase = 0x0a00_0000
	virtioSize = 512 // of each slot

	pciMemBase   = 0x1000_0000 // for 32-bit base address registers
	pciMemSize   = 0x2eff_0000
	pciIOBase    = 0x3eff_0000 // for ports, which no function has: EDK2 refuses a bridge without
	pciIOSize    = 0x1_0000
	pciECAMBase  = 0x3f00_0000
	pciBuses     = 16
	pciMem64Base = 0x20_0000_0000
	pciMem64Size = 0x10_0000_0000
)

// Shared peripheral interrupts.
const (
	consoleSPI = 1
	controlSPI = 2
	rtcSPI     = 3

	smmuSPIs = 8 // of the first SMMU, one for each vsmmu.Line

	pciSPI   = 12 // INTA# of device 0; the other lines follow
	pciLines = 4

	virtioSPI = 16 // of slot 0; those of the other slots follow

	moreSMMUSPIs = 48 // of the second SMMU; those of the others follow

	spis = 64
)

// smmuDeviceIDs is the DeviceID of the first SMMU's own messages, above the requester IDs of all
// buses. Those of the others follow.
const smmuDeviceIDs = pciBuses << 8

// Limits of the memory map above.
const (
	maxCPUs  = 8
	maxDisks = 32
	maxMem   = 64 << 30 // a guest-physical address of 36 bits reaches no further
)
