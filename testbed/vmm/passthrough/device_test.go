//go:build linux && (amd64 || arm64)

package passthrough

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/vfio"
)

var errBroken = errors.New("broken")

func TestGuestSeesConfigurationSpace(t *testing.T) {
	r := newRig(t, newPhysical())
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
	}{
		{"IDs", 0x00, 4, 0x0010_1b36},
		{"status", 0x06, 2, 0x0010},
		{"header type: not one of several functions", 0x0e, 1, 0x00},
		{"BAR 0", 0x10, 4, 0x0000_0004},
		{"BAR 5", 0x24, 4, 0},
		{"no expansion ROM", 0x30, 4, 0},
		{"capabilities begin with MSI-X, behind power management", 0x34, 1, 0x50},
		{"interrupt line: the guest's own", 0x3c, 1, 0},
		{"interrupt pin: INTA#", 0x3d, 1, 1},
		{"power management", 0x40, 4, 0},
		{"MSI-X, then PCI Express, past MSI", 0x50, 4, 0x0002_8011},
		{"MSI-X table", 0x54, 4, 2 * page},
		{"MSI", 0x60, 4, 0},
		{"PCI Express", 0x80, 4, 0x0002_c010},
		{"vendor-specific, the last", 0xc0, 4, 0xaa08_0009},
		{"its end", 0xc8, 4, 0},
		{"extended capabilities", 0x100, 4, 0},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, r.load(tt.off, tt.size)) })
	}
}

func TestGuestWritesConfigurationSpace(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want []string // to the device
	}{
		{"command", 0x04, 2, []string{"0x4: 11 22"}},
		{"command and status at once", 0x04, 4, []string{"0x4: 11 22 33 44"}},
		{"IDs", 0x00, 4, nil},
		{"cache line, latency; not the header type", 0x0c, 4, []string{"0xc: 11", "0xd: 22"}},
		{"BAR 0", 0x10, 4, nil},
		{"expansion ROM", 0x30, 4, nil},
		{"interrupt line and pin", 0x3c, 4, nil},
		{"power state", 0x44, 2, nil},
		{"MSI-X control", 0x52, 2, nil},
		{"MSI control", 0x62, 2, nil},
		{"device control", 0x88, 2, []string{"0x88: 11 22"}},
		{"extended capabilities", 0x100, 4, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, newPhysical())
			r.store(tt.off, tt.size, 0x4433_2211)
			assert.Equal(t, tt.want, r.writes)
		})
	}
	r := newRig(t, newPhysical())
	r.store(0x3c, 1, 0x2a)
	assert.EqualValues(t, 0x2a, r.load(0x3c, 1), "the interrupt line is the guest's")
}

// The size of one capability must not expose another: power states of a hidden capability would
// make the guest's next access to the device's memory end the machine.
func TestCapabilityEndsWhereAnotherBegins(t *testing.T) {
	for _, tt := range []struct {
		name       string
		edit       func(config *[256]byte)
		last, past uint64 // words of the capability, and behind it
	}{
		{"PCI Express, version 1", func(c *[256]byte) {
			copy(c[0x80:], []byte{0x10, 0xc0, 0x01, 0x00})
		}, 0x90, 0x94},
		{"PCI Express with a neighbour", func(c *[256]byte) {
			copy(c[0x80:], []byte{0x10, 0xa0, 0x02, 0x00})
			copy(c[0xa0:], []byte{0x01, 0xc0})
		}, 0x9c, 0xa4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhysical()
			tt.edit(&p.config)
			r := newRig(t, p)
			r.store(tt.last, 2, 0x0302)
			assert.Len(t, r.writes, 1, "a write to the capability is forwarded")
			r.store(tt.past, 2, 0x0302)
			assert.Len(t, r.writes, 1, "a write after it is not")
			assert.EqualValues(t, 0xc0, r.load(0x81, 1), "the list skips the hidden capability")
			assert.Zero(t, r.load(0xa0, 1), "the hidden capability reads as 0")
		})
	}
}

// A device may have its MSI-X capability, of three words (§7.7.2), at the last word of the space.
func TestMSIXCapabilityEndsInTheFirst256Bytes(t *testing.T) {
	for _, tt := range []struct {
		at  byte
		fit bool
	}{{0xf4, true}, {0xf8, false}, {0xfc, false}} {
		t.Run(fmt.Sprintf("%#x", tt.at), func(t *testing.T) {
			p := newPhysical()
			p.config[0x34] = tt.at
			copy(p.config[tt.at:], []byte{pci.CapMSIX, 0, 0x02, 0x00})
			if tt.fit {
				copy(p.config[tt.at+4:], p.config[0x54:0x5c])
				r := newRig(t, p)
				assert.EqualValues(t, tt.at, r.load(pci.RegCapPtr, 1))
				assert.EqualValues(t, 3*page, r.load(uint64(tt.at)+8, 4))
				return
			}
			_, err := New(Config{Physical: p, Machine: newMachine(), Stream: noStream})
			assert.ErrorIs(t, err, ErrDevice)
			assert.Zero(t, p.mapped)
		})
	}
}

// A Root Complex Integrated Endpoint has no link, and no port in front of it.
func TestIntegratedEndpointBehindAPortHasALink(t *testing.T) {
	const flags, linkCapabilities, linkControl = 0x82, 0x8c, 0x90
	for _, tt := range []struct {
		name       string
		behindPort bool
		flags      uint8
		want       [3]uint64 // flags, link capabilities, link control and status
	}{
		{"on the root bus", false, 0x92, [3]uint64{0x0092, 0, 0}},
		{"behind a port", true, 0x92, [3]uint64{0x0002, 0x11, 0x0011_0000}},
		{"an endpoint behind a port", true, 0x02, [3]uint64{0x0002, 0, 0}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhysical()
			p.behindPort, p.config[flags] = tt.behindPort, tt.flags
			r := newRig(t, p)
			got := [3]uint64{r.load(flags, 2), r.load(linkCapabilities, 4), r.load(linkControl, 4)}
			assert.Equal(t, tt.want, got)
		})
	}
}

// The guest accesses whole pages without the MSI-X table and pending bits directly.
func TestMemoryFollowsTheBAR(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, 0xffff_ffff)
	assert.EqualValues(t, uint32(-(4*page))|4, r.load(0x10, 4))
	r.store(0x10, 4, windowBase+0x10_0000)
	assert.Empty(t, r.machine.memory, "not enabled")

	r.store(0x04, 2, pci.CommandMemory)
	assert.Equal(t, map[uint64]int{windowBase + 0x10_0000: int(2 * page)}, r.machine.memory)

	r.store(0x10, 4, windowBase+0x20_0000)
	assert.Equal(t, map[uint64]int{windowBase + 0x20_0000: int(2 * page)}, r.machine.memory, "moved")

	for _, outside := range []uint64{0x4000_0000, 0, 0xffff_0000} {
		r.store(0x10, 4, outside)
		assert.Empty(t, r.machine.memory, "%#x is none of the host bridge's", outside)
	}
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, 0)
	assert.Empty(t, r.machine.memory, "disabled")
}

// An access to mapped memory of a device that does not answer raises SIGBUS.
func TestMemoryIsUnmappedBeforeTheDeviceStopsToAnswer(t *testing.T) {
	p := newPhysical()
	r := newRig(t, p)
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	seen := -1
	watch := &watcher{physical: p, on: func() { seen = len(r.machine.memory) }}
	r.device.phys = watch
	r.store(0x04, 2, 0)
	assert.Zero(t, seen, "mappings at the write of the command register")
	r.store(0x04, 2, pci.CommandMemory)
	require.NotEmpty(t, r.machine.memory)
	seen = -1
	r.store(0x88, 2, 1<<15)
	assert.Zero(t, seen, "mappings at the reset")
}

// watcher calls on before each write to the configuration space.
type watcher struct {
	*physical
	on func()
}

func (w *watcher) WriteRegion(region int, p []byte, off uint64) error {
	if region == vfio.ConfigSpace {
		w.on()
	}
	return w.physical.WriteRegion(region, p, off)
}

// If the guest kept access to addresses that the host unmaps, it could access the host's next
// mapping there.
func TestMemoryThatTheGuestKeepsStaysMapped(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	before := map[uint64]int{windowBase: int(2 * page)}
	require.Equal(t, before, r.machine.memory)

	r.machine.stuck = errBroken
	r.store(0x10, 4, windowBase+0x10_0000)
	assert.Equal(t, before, r.machine.memory)
	assert.ErrorIs(t, r.device.Close(), errBroken)
	assert.Equal(t, 1, r.physical.mapped)

	r.machine.stuck = nil
	assert.NoError(t, r.device.Close(), "Close can be called again")
	assert.Zero(t, r.physical.mapped)
	assert.Empty(t, r.machine.memory)
}

func TestVMMExecutesAccessesToUnmappedMemory(t *testing.T) {
	r := newRig(t, newPhysical())
	assert.EqualValues(t, 0xffff_ffff, r.window.Load(0, 4), "memory is not enabled")
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)

	r.window.Store(0x10, 4, 0x1122_3344)
	assert.EqualValues(t, 0x1122_3344, r.window.Load(0x10, 4))
	assert.EqualValues(t, 0x1122_3344, r.physical.memory[key(0, 0x10)])

	// The table is the VMM's: no access to it reaches the device.
	table := 2 * page
	r.window.Store(table+16, 8, 0xfee0_0000)
	assert.EqualValues(t, 0xfee0_0000, r.window.Load(table+16, 4))
	r.window.Store(table+46, 4, 0xffff_ffff)
	assert.Zero(t, r.window.Load(table+46, 4), "across its end")
	r.window.Store(3*page, 8, 0xffff)
	assert.Zero(t, r.window.Load(3*page, 8), "pending bits")
	assert.Len(t, r.physical.memory, 1)

	r.physical.fail["ReadRegion"] = errBroken
	assert.EqualValues(t, 0xffff, r.window.Load(0x10, 2), "a device that does not answer")
	assert.EqualValues(t, 0xffff_ffff, r.load(0, 4), "a device that does not answer")
}

// vectorOf writes an entry of the MSI-X table.
func (r *rig) vectorOf(i uint64, data uint64, mask uint64) {
	at := 2*page + 16*i
	r.window.Store(at, 8, 0xdead_beef_0000)
	r.window.Store(at+8, 4, data)
	r.window.Store(at+12, 4, mask)
}

func TestMSIXVectorsAreConnectedWhileLive(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory|pci.CommandINTxDisable)
	r.vectorOf(1, 0x55, 0)
	assert.Empty(t, r.mode, "not enabled")

	r.store(0x52, 2, pci.MSIXEnable|pci.MSIXFunctionMask)
	assert.Equal(t, "MSI-X", r.mode)
	assert.Len(t, r.fds, 3)
	assert.Empty(t, r.vectors, "function mask")
	r.store(0x52, 2, pci.MSIXEnable)
	assert.EqualValues(t, pci.MSIXEnable|2, r.load(0x52, 2))
	assert.Equal(t, [][2]uint32{{8, 0x55}}, r.connected())

	r.vectorOf(2, 0x66, 0)
	assert.Equal(t, [][2]uint32{{8, 0x55}, {8, 0x66}}, r.connected())
	r.window.Store(2*page+16+8, 4, 0x77)
	assert.Equal(t, [][2]uint32{{8, 0x66}, {8, 0x77}}, r.connected(), "new data of a connected vector")

	// A signal of a masked vector is pending, and the pending bits show it.
	r.vectorOf(1, 0x77, 1)
	assert.Equal(t, [][2]uint32{{8, 0x66}}, r.connected())
	signal(t, r.fds[1])
	signal(t, r.fds[2])
	assert.EqualValues(t, 0b010, r.window.Load(3*page, 8))
	r.vectorOf(1, 0x77, 0)
	assert.Zero(t, r.window.Load(3*page, 8), "connected, and no longer pending")

	r.store(0x52, 2, 0)
	assert.Empty(t, r.vectors)
	assert.Empty(t, r.mode)
}

func TestINTxIsConnectedUnlessDisabled(t *testing.T) {
	r := newRig(t, newPhysical())
	assert.Empty(t, r.mode, "until the guest configures the device")
	r.store(0x04, 2, pci.CommandMaster)
	assert.Equal(t, "INTx", r.mode)
	require.Len(t, r.line, 2)
	assert.Equal(t, []int32{int32(r.line[0]), int32(r.line[1])}, r.fds)

	r.store(0x04, 2, pci.CommandMaster|pci.CommandINTxDisable)
	assert.Empty(t, r.mode)
	assert.Empty(t, r.line)
	r.store(0x04, 2, pci.CommandMaster)
	r.store(0x52, 2, pci.MSIXEnable)
	assert.Equal(t, "MSI-X", r.mode, "MSI-X excludes INTx")
	assert.Empty(t, r.line)
	r.store(0x52, 2, 0)
	assert.Equal(t, "INTx", r.mode)
}

func TestFunctionLevelResetClearsTheConfiguration(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x3c, 1, 9)
	r.store(0x04, 2, pci.CommandMemory|pci.CommandMaster)
	r.store(0x52, 2, pci.MSIXEnable)
	r.vectorOf(0, 1, 0)
	require.NotEmpty(t, r.vectors)
	before := r.resets

	r.store(0x88, 2, 1<<15)
	assert.Equal(t, before+1, r.resets)
	assert.Empty(t, r.machine.memory)
	assert.Empty(t, r.vectors)
	assert.EqualValues(t, 4, r.load(0x10, 4), "BAR 0")
	assert.Zero(t, r.load(0x04, 2), "command")
	assert.EqualValues(t, 2, r.load(0x52, 2), "MSI-X control")
	assert.Zero(t, r.load(0x3c, 1), "interrupt line")
	assert.Equal(t, []string{"00:01.0 true"}, r.streams, "the requester ID is unchanged")
}

func TestFunctionLevelResetLeavesINTx(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x04, 2, pci.CommandINTxDisable)
	require.Empty(t, r.mode)
	r.store(0x88, 2, 1<<15)
	assert.Equal(t, "INTx", r.mode, "the reset value of the command register")
}

func TestResetUnmapsMemoryAndDisconnectsInterrupts(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	r.store(0x52, 2, pci.MSIXEnable)
	r.vectorOf(0, 1, 0)
	require.Equal(t, "MSI-X", r.mode)
	before := r.resets

	r.device.Reset()
	assert.Equal(t, before+1, r.resets)
	assert.Empty(t, r.mode)
	assert.Empty(t, r.vectors)
	assert.Empty(t, r.machine.memory)
	r.store(0x10, 4, windowBase)
	assert.Empty(t, r.machine.memory, "memory is no longer enabled")
}

// The guest maps neither the table nor the pending bits, in either order.
func TestPendingBitsBeforeTheTable(t *testing.T) {
	p := newPhysical()
	binary.LittleEndian.PutUint32(p.config[0x54:], uint32(3*page))
	binary.LittleEndian.PutUint32(p.config[0x58:], uint32(page))
	r := newRig(t, p)
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	assert.Equal(t, map[uint64]int{windowBase: int(page), windowBase + 2*page: int(page)}, r.machine.memory)
}

// The requester ID is the DeviceID of the ITS and the StreamID of the SMMU.
func TestNewRequesterIDReachesTheITSAndTheSMMU(t *testing.T) {
	r := newRig(t, newPhysical())
	r.store(0x10, 4, windowBase)
	r.store(0x04, 2, pci.CommandMemory)
	r.store(0x52, 2, pci.MSIXEnable)
	r.vectorOf(0, 1, 0)
	r.device.SetRequester(0, false)
	r.device.SetRequester(0x100, true)
	assert.Equal(t, []string{"00:01.0 true", "00:00.0 false", "01:00.0 true"}, r.streams)
	assert.Equal(t, [][2]uint32{{0x100, 1}}, r.connected())
}

func TestNewRefusesUnfitDevices(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*physical)
		is   error
		says string
	}{
		{"no way to reset it", func(p *physical) { p.noReset = true }, ErrDevice, "reset"},
		{"a reset that fails", func(p *physical) { p.fail["Reset"] = errBroken }, errBroken, ""},
		{"a bridge", func(p *physical) { p.config[0x0e] = 1 }, ErrDevice, "type 1"},
		{"a BAR of no power of two", func(p *physical) { p.sizes[0] = 3 * page }, ErrDevice, "BAR 0"},
		{"a table past the BAR", func(p *physical) { binary.LittleEndian.PutUint32(p.config[0x54:], uint32(4*page)) }, ErrDevice, "table"},
		{"a table in no BAR", func(p *physical) { p.config[0x54] |= 2 }, ErrDevice, "table"},
		{"a table in BAR 7", func(p *physical) { p.config[0x54] |= 7 }, ErrDevice, "table"},
		{"pending bits past the BAR", func(p *physical) { binary.LittleEndian.PutUint32(p.config[0x58:], uint32(4*page)) }, ErrDevice, "table"},
		{"fewer vectors than its table", func(p *physical) { p.irqs[vfio.MSIX] = 2 }, ErrDevice, "2 of its 3"},
		{"a region that cannot be mapped", func(p *physical) { p.fail["Map"] = errBroken }, errBroken, ""},
		{"a device that does not answer", func(p *physical) { p.fail["ReadRegion"] = errBroken }, errBroken, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPhysical()
			tt.edit(p)
			_, err := New(Config{Physical: p, Machine: newMachine(), Stream: noStream})
			assert.ErrorIs(t, err, tt.is)
			assert.ErrorContains(t, err, tt.says)
			assert.Zero(t, p.mapped)
		})
	}
}

// After a failure, the device has no interrupts, and the guest continues.
func TestFailedEnableLeavesNoInterrupts(t *testing.T) {
	enable := func(r *rig) {
		r.store(0x10, 4, windowBase)
		r.store(0x04, 2, pci.CommandMemory)
		r.vectorOf(0, 1, 0)
		r.store(0x52, 2, pci.MSIXEnable)
	}
	for _, tt := range []struct {
		name string
		edit func(*rig)
		mode string
	}{
		{"MSI-X", func(r *rig) { r.physical.fail["MSI-X"] = errBroken }, ""},
		{"INTx", func(r *rig) { r.physical.fail["INTx"] = errBroken }, "MSI-X"},
		{"configuration space", func(r *rig) { r.physical.fail["WriteRegion"] = errBroken }, "MSI-X"},
		{"the machine", func(r *rig) { r.machine.fail = errBroken }, "MSI-X"},
		{"the SMMU", func(r *rig) { r.refuse = errBroken }, "MSI-X"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, newPhysical())
			tt.edit(r)
			enable(r)
			assert.Equal(t, tt.mode, r.mode)
			r.device.SetRequester(0x10, true)
			r.window.Load(0, 4)
			r.device.Reset()
		})
	}
}

func TestWithoutRemovesThePagesOfSpans(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spans []span
		want  []span
	}{
		{"nothing", nil, []span{{0, 0x4000}}},
		{"a page in the middle", []span{{0x2010, 0x20}}, []span{{0, 0x2000}, {0x3000, 0x1000}}},
		{"two in one page", []span{{0x2010, 0x20}, {0x2800, 8}}, []span{{0, 0x2000}, {0x3000, 0x1000}}},
		{"over a boundary", []span{{0x1ff0, 0x20}}, []span{{0, 0x1000}, {0x3000, 0x1000}}},
		{"the first", []span{{0, 1}}, []span{{0x1000, 0x3000}}},
		{"the last", []span{{0x3fff, 1}}, []span{{0, 0x3000}}},
		{"all", []span{{0, 0x4000}}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) { assert.Equal(t, tt.want, without(0x4000, 0x1000, tt.spans)) })
	}
}

// noStream is a Config.Stream without an SMMU.
func noStream(pci.RequesterID, bool) error { return nil }

func TestNilArgumentsAreErrors(t *testing.T) {
	good := Config{Physical: newPhysical(), Machine: newMachine(), Stream: noStream}
	for _, tt := range []struct {
		name string
		edit func(*Config)
	}{
		{"Physical", func(c *Config) { c.Physical = nil }},
		{"Physical", func(c *Config) { c.Physical = (*physical)(nil) }},
		{"Machine", func(c *Config) { c.Machine = nil }},
		{"Stream", func(c *Config) { c.Stream = nil }},
	} {
		cfg := good
		tt.edit(&cfg)
		_, err := New(cfg)
		assert.EqualError(t, err, "passthrough: new device: no "+tt.name)
	}
}
