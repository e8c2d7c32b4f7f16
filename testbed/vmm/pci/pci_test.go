package pci

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestMergeChangesTheBytesOfTheStore(t *testing.T) {
	for _, tt := range []struct {
		name       string
		reg, width uint32
		off        uint32
		size       int
		want       uint32
		ok         bool
	}{
		{"the register itself", 0x04, 2, 0x04, 2, 0x2211, true},
		{"its low byte", 0x04, 2, 0x04, 1, 0xaa11, true},
		{"its high byte", 0x04, 2, 0x05, 1, 0x11aa, true},
		{"in the lower half of a store", 0x04, 2, 0x04, 4, 0x2211, true},
		{"in the upper half of a store", 0x06, 2, 0x04, 4, 0x4433, true},
		{"before it", 0x04, 2, 0x00, 4, 0xaaaa, false},
		{"after it", 0x04, 2, 0x06, 2, 0xaaaa, false},
		{"all of 4 bytes", 0x10, 4, 0x10, 4, 0x44332211, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := uint32(0xaaaa)
			got, ok := Merge(old, tt.reg, tt.width, tt.off, tt.size, 0x44332211)
			assert.Equal(t, tt.want, got)
			assert.Equal(t, tt.ok, ok)
		})
	}
}

func TestBAROf32BitsKeepsItsSizeAndFlags(t *testing.T) {
	var b BARs
	assert.True(t, b.Define(0, 0x4000, 0))
	b.Store(0, 0xffff_ffff)
	assert.Equal(t, uint32(0xffff_c000), b.Load(0), "all ones give the size")
	b.Store(0, 0x1234_5678)
	assert.Equal(t, uint32(0x1234_4000), b.Load(0))
	assert.Equal(t, uint64(0x1234_4000), b.Base(0))
	b.Store(1, 0xffff_ffff)
	assert.Zero(t, b.Load(1), "no such register")
	b.Reset()
	assert.Zero(t, b.Base(0))

	assert.True(t, b.Define(1, 0x1000, 0xfff8))
	assert.Equal(t, uint32(0x8), b.Load(1), "only the flags of the device count")
}

func TestBAROf64BitsTakesTwoRegisters(t *testing.T) {
	var b BARs
	assert.True(t, b.Define(2, 8<<30, BAR64|BARPrefetchable))
	assert.True(t, b.Wide(2))
	b.Store(2, 0xffff_ffff)
	b.Store(3, 0xffff_ffff)
	assert.Equal(t, uint32(0xc), b.Load(2), "8 GiB, 64 bits, prefetchable")
	assert.Equal(t, uint32(0xffff_fffe), b.Load(3))
	b.Store(3, 0x25)
	assert.Equal(t, uint64(0x24_0000_0000), b.Base(2))
}

func TestDefineRefusesInvalidBARs(t *testing.T) {
	for _, tt := range []struct {
		name  string
		i     int
		size  uint64
		flags uint32
	}{
		{"nothing", 0, 0, 0},
		{"less than 16 bytes", 0, 8, 0},
		{"no power of two", 0, 0x3000, 0},
		{"4 GiB in 32 bits", 0, 4 << 30, 0},
		{"64 bits in the last register", 5, 0x1000, BAR64},
		{"ports", 0, 0x100, BARIO},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b BARs
			assert.False(t, b.Define(tt.i, tt.size, tt.flags))
		})
	}
	var b BARs
	assert.True(t, b.Define(3, 16, 0), "the least size")
	assert.True(t, b.Define(4, 2<<30, 0), "the greatest size of 32 bits")
	assert.True(t, b.Define(0, 0x1000, BAR64))
	assert.False(t, b.Define(1, 0x1000, 0), "the upper half of a 64-bit register")
}

func TestCapabilityListEndsAtABadLink(t *testing.T) {
	list := func(start byte, items ...[3]byte) *[256]byte {
		var c [256]byte
		c[RegStatus], c[RegCapPtr] = statusCapabilities, start
		for _, i := range items { // at, ID, next
			c[i[0]], c[i[0]+1] = i[1], i[2]
		}
		return &c
	}
	for _, tt := range []struct {
		name   string
		config *[256]byte
		want   []Capability
	}{
		{"a list", list(0x40, [3]byte{0x40, 0x11, 0x80}, [3]byte{0x80, 0x10, 0}), []Capability{{0x11, 0x40}, {0x10, 0x80}}},
		{"reserved bits of pointers", list(0x43, [3]byte{0x40, 0x11, 0x82}, [3]byte{0x80, 0x10, 1}), []Capability{{0x11, 0x40}, {0x10, 0x80}}},
		{"a link to itself", list(0x40, [3]byte{0x40, 0x11, 0x40}), []Capability{{0x11, 0x40}}},
		{"a loop", list(0x40, [3]byte{0x40, 0x11, 0x50}, [3]byte{0x50, 0x10, 0x40}), []Capability{{0x11, 0x40}, {0x10, 0x50}}},
		{"a link into the header", list(0x40, [3]byte{0x40, 0x11, 0x10}), []Capability{{0x11, 0x40}}},
		{"at the end of the space", list(0xfc, [3]byte{0xfc, 0x11, 0}), []Capability{{0x11, 0xfc}}},
		{"none", list(0), nil},
		{"none by the status register", new([256]byte), nil},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, Capabilities(tt.config)) })
	}
}

func TestExtendedCapabilitiesAreAList(t *testing.T) {
	var s Space
	s.AddPASID(0x100, PASID{Bits: 6})
	s.AddATS(0x110)
	s.AddACS(0x140)
	assert.EqualValues(t, 0x1101_001b, s.Load(0x100, 4))
	assert.EqualValues(t, 0x0600, s.Load(0x104, 2))
	assert.EqualValues(t, 0x1401_000f, s.Load(0x110, 4))
	assert.EqualValues(t, 0x0001_000d, s.Load(0x140, 4))
}

func TestMSIXVectorIsLiveIfNothingMasksIt(t *testing.T) {
	m := NewMSIX(3)
	assert.Equal(t, uint16(2), m.Control(), "size minus 1")
	assert.EqualValues(t, 48, m.Size())
	assert.EqualValues(t, 1, m.Load(12, 4), "masked at reset")

	assert.Equal(t, 1, m.Store(16, 8, 0x1122_3344_5566_7788))
	assert.Equal(t, 1, m.Store(24, 4, 0xabcd))
	assert.Equal(t, 1, m.Store(28, 4, 0))
	assert.EqualValues(t, 0x5566_7788, m.Load(16, 4))
	assert.EqualValues(t, 0x1122_3344, m.Load(20, 4))
	assert.EqualValues(t, 0xabcd, m.Data(1))
	assert.EqualValues(t, 0x1122_3344_5566_7788, m.Addr(1))

	for _, tt := range []struct {
		name    string
		control uint16
		live    bool
	}{
		{"disabled", 0, false},
		{"enabled", MSIXEnable, true},
		{"function mask", MSIXEnable | MSIXFunctionMask, false},
	} {
		m.SetControl(tt.control | 0x1fff)
		assert.Equal(t, tt.control|2, m.Control()&^MSIXFunctionMask|tt.control&MSIXFunctionMask, tt.name)
		m.SetControl(tt.control)
		assert.Equal(t, tt.live, m.Live(1), tt.name)
		assert.False(t, m.Live(0), "vector mask")
	}
	m.Reset()
	assert.False(t, m.Enabled())
	assert.Zero(t, m.Data(1))
}

// Other accesses than of 4 and 8 aligned bytes have no effect (§7.7.2).
func TestMSIXTableIgnoresOtherAccesses(t *testing.T) {
	m := NewMSIX(1)
	for _, a := range []struct {
		off  uint64
		size int
	}{{0, 1}, {0, 2}, {2, 4}, {4, 8}, {12, 8}, {16, 4}, {1 << 63, 8}} {
		assert.Equal(t, -1, m.Store(a.off, a.size, 0), "%v", a)
		assert.Zero(t, m.Load(a.off, a.size), "%v", a)
	}
	assert.EqualValues(t, 1, m.Load(12, 4))
}

func TestPortHeader(t *testing.T) {
	p := newPort(&function{})
	assert.Equal(t, uint32(0x000c_1b36), p.Load(0, 4))
	assert.Equal(t, uint32(0x0604), p.Load(0x0a, 2), "PCI-to-PCI bridge")
	assert.Equal(t, uint32(1), p.Load(RegHeaderType, 1))
	assert.Equal(t, []Capability{{CapExpress, 0x40}}, Capabilities((*[256]byte)(p.config[:])))
	assert.EqualValues(t, 4, binary.LittleEndian.Uint16(p.config[0x42:])>>4&0xf, "root port")
	assert.Greater(t, p.Load(regMemBase, 2), p.Load(regMemBase+2, 2), "the window is closed")

	p.Store(regPrimary, 4, 0xff_03_02_00)
	assert.EqualValues(t, 2, p.bus())
	assert.Equal(t, uint32(0x00_03_02_00), p.Load(regPrimary, 4), "no latency timer")
	p.Store(0, 4, 0xffff_ffff)
	p.Store(0x40, 4, 0xffff_ffff)
	assert.Equal(t, uint32(0x000c_1b36), p.Load(0, 4), "read-only")
	assert.EqualValues(t, CapExpress, p.Load(0x40, 1))
	p.Store(0x100, 4, 1)
	assert.Zero(t, p.Load(0x100, 4), "no extended capabilities")
}

// All registers of a root port as raw words (§7.5.1.3, §7.5.3).
func TestPortRegisters(t *testing.T) {
	for _, tt := range []struct {
		name       string
		reg        uint32
		reset, all uint32 // in the reset state, and after a store of all ones
	}{
		{"command, status", 0x04, 0x0010_0000, 0x0010_0406},
		{"class, revision", 0x08, 0x0604_0000, 0x0604_0000},
		{"cache line size, header type", 0x0c, 0x0001_0000, 0x0001_00ff},
		{"BAR 0", 0x10, 0, 0},
		{"bus numbers", 0x18, 0, 0x00ff_ffff},
		{"I/O window: there is none", 0x1c, 0, 0},
		{"memory window: closed", 0x20, 0x0000_fff0, 0xfff0_fff0},
		{"prefetchable window: closed, 64 bits", 0x24, 0x0001_fff1, 0xfff1_fff1},
		{"its upper base", 0x28, 0, 0xffff_ffff},
		{"its upper limit", 0x2c, 0, 0xffff_ffff},
		{"capabilities", 0x34, 0x40, 0x40},
		{"expansion ROM", 0x38, 0, 0},
		{"bridge control, interrupt line", 0x3c, 0, 0x0043_00ff},
		{"PCI Express: version 2, root port", 0x40, 0x0042_0010, 0x0042_0010},
		{"device capabilities: role-based error reporting", 0x44, 0x8000, 0x8000},
		{"device control", 0x48, 0, 0x70ef},
		{"link capabilities: tells if it is active; x1, 2.5 GT/s", 0x4c, 0x0010_0011, 0x0010_0011},
		{"link control, in which Retrain Link reads as 0; link status: x1, 2.5 GT/s, active", 0x50, 0x2011_0000, 0x2011_0fd3},
		{"slot capabilities", 0x54, 0, 0},
		{"supported speeds: 2.5 GT/s", 0x6c, 2, 2},
		{"link control 2", 0x70, 0, 0},
	} {
		p := newPort(&function{})
		assert.Equal(t, tt.reset, p.Load(tt.reg, 4), tt.name)
		p.Store(tt.reg, 4, 0xffff_ffff)
		assert.Equal(t, tt.all, p.Load(tt.reg, 4), tt.name)
	}
}

func TestAddCapabilityAppendsToTheList(t *testing.T) {
	var s Space
	s.AddCapability(0x11, 0x40, []byte{0xaa, 0xbb})
	s.AddCapability(0x09, 0x80, []byte{0xcc})
	for reg, want := range map[uint32]uint32{0x04: 0x0010_0000, 0x34: 0x40, 0x40: 0xbbaa_8011, 0x80: 0x00cc_0009} {
		assert.Equal(t, want, s.Load(reg, 4), "%#x", reg)
	}
}
