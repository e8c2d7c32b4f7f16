package pci

// ConfigSize is the size of a configuration space.
const ConfigSize = 4096

// Registers of both types of header, of type 0, and of type 1 (§7.5.1).
const (
	RegVendorID   = 0x00
	RegCommand    = 0x04
	RegStatus     = 0x06
	RegRevision   = 0x08
	RegClass      = 0x09
	RegCacheLine  = 0x0c
	RegLatency    = 0x0d
	RegHeaderType = 0x0e
	RegBAR0       = 0x10
	RegCapPtr     = 0x34
	RegIntLine    = 0x3c
	RegIntPin     = 0x3d

	RegSubsystem = 0x2c
	RegROM       = 0x30

	regPrimary     = 0x18
	regSecondary   = 0x19
	regSubordinate = 0x1a
	regMemBase     = 0x20
	regPrefBase    = 0x24
	regPrefUpper   = 0x28

	regBridgeControl = 0x3e
)

// multifunction is a bit of the header type: the device has more functions.
const multifunction = 1 << 7

// secondaryReset is a bit of the bridge control register.
const secondaryReset = 1 << 6

// Bits of the command and status registers.
const (
	CommandMemory      = 1 << 1
	CommandMaster      = 1 << 2
	CommandINTxDisable = 1 << 10

	StatusInterrupt    = 1 << 3 // an INTx is pending
	statusCapabilities = 1 << 4
)

// headerSize is the lowest offset of a capability.
const headerSize = 0x40

// Merge returns the value of a register of width bytes at reg after a store of size bytes at off,
// which may cover a part of the register. ok is false if the store and the register do not overlap.
func Merge(old uint32, reg, width, off uint32, size int, value uint32) (merged uint32, ok bool) {
	merged = old
	for i := range uint32(size) {
		if at := off + i; at >= reg && at < reg+width {
			shift := 8 * (at - reg)
			merged = merged&^(0xff<<shift) | (value>>(8*i)&0xff)<<shift
			ok = true
		}
	}
	return merged, ok
}

// bytes32 returns size bytes of b from off, little-endian.
func bytes32(b []byte, off uint32, size int) (v uint32) {
	for i := range uint32(size) {
		v |= uint32(b[off+i]) << (8 * i)
	}
	return v
}
