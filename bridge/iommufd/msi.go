package iommufd

// The device addresses that Linux on Arm reserves for MSIs of devices that are passed through.
// Stage 2 maps them to the doorbells of the host's ITS. The host writes these addresses to the
// device, and the guest does not know them. So a guest whose stage 1 translates for the device must
// map the range to itself: firmware.Identity and firmware.RMR ask the guest for that. No slot of
// guest memory may overlap the range.
const (
	MSIBase = 0x0800_0000
	MSISize = 0x0010_0000
)
