package iommufd

// The device addresses that Linux on Arm reserves for MSIs of passthrough devices. Stage 2 maps
// them to the doorbells of the host's ITS. The host writes these addresses to the device; the guest
// does not know them. If the guest's stage 1 translates for the device, it must map the range to
// itself. firmware.Identity and firmware.RMR describe that mapping to the guest. No slot of guest
// memory may overlap the range.
const (
	MSIBase = 0x0800_0000
	MSISize = 0x0010_0000
)
