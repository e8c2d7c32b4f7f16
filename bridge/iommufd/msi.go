package iommufd

// The range of DMA addresses to which devices that are passed through write their messages, on Linux on Arm: stage 2
// maps it to the doorbells of the host's own ITS. The host gives the device these addresses, and the guest never sees
// them; so the guest's stage 1, if it translates for the device, must map the range to itself. That is what
// firmware.Identity and firmware.RMR ask a guest for. No slot of the guest's memory may meet the range.
const (
	MSIBase = 0x0800_0000
	MSISize = 0x0010_0000
)
