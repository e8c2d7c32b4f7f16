package iommufd

// Where Linux, on Arm, has the doorbells of the host's own ITS for devices that are passed through: a device's messages are
// written to this range of its DMA addresses, below which stage 2 has the doorbells. The host gives the device these addresses,
// and the guest does not get to see them; so the guest's stage 1, if it translates for the device, must map the range to
// itself. That is what firmware.Identity and firmware.RMR ask a guest for. No slot of the guest's memory may meet the range.
const (
	MSIBase = 0x0800_0000
	MSISize = 0x0010_0000
)
