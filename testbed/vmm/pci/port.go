package pci

import "encoding/binary"

// port is the configuration space of a root port: a type 1 header (§7.5.1.3) and a PCI Express
// capability (§7.5.3). It forwards all accesses in the windows of the host bridge, and ignores the
// windows that software programs.
type port struct{ Space }

// expressOff is the offset of the PCI Express capability of a root port.
const expressOff = headerSize

// The link status register (§7.5.3.8), and its Data Link Layer Link Active bit.
const (
	regLinkStatus = expressOff + 0x12
	linkActive    = 1 << 13
)

// newPort returns the port of a function, which may be absent.
func newPort(f Function) *port {
	p := &port{}
	le := binary.LittleEndian
	// The IDs are those of QEMU's generic root port, which needs no driver of its own.
	le.PutUint16(p.config[RegVendorID:], 0x1b36)
	le.PutUint16(p.config[RegVendorID+2:], 0x000c)
	le.PutUint16(p.config[RegStatus:], statusCapabilities)
	p.config[RegClass+1], p.config[RegClass+2] = 0x04, 0x06 // PCI-to-PCI bridge
	p.config[RegHeaderType] = 1
	// The windows are closed: each base is above its limit. Prefetchable memory has 64-bit
	// addresses.
	le.PutUint16(p.config[regMemBase:], 0xfff0)
	le.PutUint16(p.config[regPrefBase:], 0xfff1)
	le.PutUint16(p.config[regPrefBase+2:], 0x0001)
	p.config[RegCapPtr] = expressOff

	express := p.config[expressOff:]
	express[0] = CapExpress
	le.PutUint16(express[0x02:], 4<<4|2)       // capability version 2, root port
	le.PutUint32(express[0x04:], 1<<15)        // role-based error reporting
	le.PutUint32(express[0x0c:], 1<<20|1<<4|1) // link: active reporting, x1, 2.5 GT/s
	le.PutUint32(express[0x2c:], 1<<1)         // supported speeds: 2.5 GT/s
	for _, w := range []struct {
		reg  uint32
		mask uint32
		size int
	}{
		{RegCommand, CommandMemory | CommandMaster | CommandINTxDisable, 2},
		{RegCacheLine, 0xff, 1},
		{regPrimary, 0xffffff, 3},
		{regMemBase, 0xfff0_fff0, 4},
		{regPrefBase, 0xfff0_fff0, 4},
		{regPrefUpper, 0xffff_ffff, 4},
		{regPrefUpper + 4, 0xffff_ffff, 4},
		{RegIntLine, 0xff, 1},
		{regBridgeControl, 0x03 | secondaryReset, 2}, // and parity, SERR
		{expressOff + 0x08, 0x70ef, 2},
		{expressOff + 0x10, 0x0fd3, 2}, // Retrain Link reads as 0 (PCI Express §7.5.3.7)
	} {
		p.Allow(w.reg, w.size, w.mask)
	}
	p.link(f)
	return p
}

// link sets the link status: active unless f is absent.
func (p *port) link(f Function) {
	status := uint32(linkActive | 1<<4 | 1) // width x1, 2.5 GT/s
	if f == (absent{}) {
		status = 0
	}
	p.Put(regLinkStatus, 2, status)
}

// resetting reports whether software holds the bus behind the port in reset.
func (p *port) resetting() bool { return p.config[regBridgeControl]&secondaryReset != 0 }

// bus returns the number of the bus behind the port, or 0 if software assigned none.
func (p *port) bus() uint8 { return p.config[regSecondary] }
