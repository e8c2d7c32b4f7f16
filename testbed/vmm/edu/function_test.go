package edu

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// QEMU's edu is a conventional function with one MSI.
func TestConfigurationSpaceOfQEMUsEdu(t *testing.T) {
	r := newRig(t, Features{})
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
	}{
		{"vendor and device", 0x00, 4, 0x11e8_1234},
		{"class 00ff, revision", 0x08, 4, 0x00ff_0010},
		{"header type", 0x0e, 1, 0},
		{"subsystem", 0x2c, 4, 0x1100_1af4},
		{"interrupt pin: INTA#", 0x3d, 1, 1},
		{"first capability", 0x34, 1, 0x40},
		{"MSI, and no other", 0x40, 2, 0x0005},
		{"64-bit address, one message, no mask", 0x42, 2, 0x0080},
		{"no extended capability", 0x100, 4, 0},
	} {
		assert.Equal(t, tt.want, r.config(tt.off, tt.size), tt.name)
	}
}

// walk returns the lists of capabilities of a configuration space.
func walk(r *rig) (list []uint64, extended []uint64) {
	for at := r.config(0x34, 1); at != 0; at = r.config(at+1, 1) {
		list = append(list, r.config(at, 1))
	}
	for at := uint64(0x100); at != 0; at = r.config(at, 4) >> 20 {
		if h := r.config(at, 4); h != 0 {
			extended = append(extended, h&0xffff)
		}
	}
	return list, extended
}

func TestCapabilitiesAreThoseOfTheFeatures(t *testing.T) {
	for _, tt := range []struct {
		name           string
		features       Features
		list, extended []uint64
	}{
		{"none", Features{}, []uint64{0x05}, nil},
		{"MSI-X", Features{MSIX: true}, []uint64{0x05, 0x11}, nil},
		{"FLR", Features{FLR: true}, []uint64{0x05, 0x10}, nil},
		{"PASID", Features{PASIDBits: 1}, []uint64{0x05, 0x10}, []uint64{0x1b}},
		{"ATS", Features{ATS: true}, []uint64{0x05, 0x10}, []uint64{0x0f}},
		{"ATS and PRI", Features{ATS: true, PRI: true}, []uint64{0x05, 0x10}, []uint64{0x0f, 0x13}},
		{"ACS", Features{ACS: true}, []uint64{0x05, 0x10}, []uint64{0x0d}},
		{"all", all, []uint64{0x05, 0x10, 0x11}, []uint64{0x1b, 0x0f, 0x13, 0x0d}},
		{"stalls", Features{Stalls: true}, []uint64{0x05}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, extended := walk(newRig(t, tt.features))
			assert.Equal(t, tt.list, list)
			assert.Equal(t, tt.extended, extended)
		})
	}
}

// Registers of capabilities, as the PCI Express Base Specification has them (§7.5.3, §7.7, §7.8.8,
// §10.5).
func TestRegistersOfCapabilities(t *testing.T) {
	r := newRig(t, all)
	for _, tt := range []struct {
		name string
		off  uint64
		size int
		want uint64
		bits uint64 // that software can set
	}{
		{"PCI Express: version 2, integrated endpoint", 0x52, 2, 0x0092, 0},
		{"device capabilities: FLR, role-based errors", 0x54, 4, 0x1000_8000, 0},
		{"device capabilities 2: one prefix", 0x74, 4, 0x0060_0000, 0},
		{"MSI-X: 2 vectors", 0x92, 2, 0x0001, 0xc000},
		{"MSI-X table in register 1", 0x94, 4, 0x0001, 0},
		{"pending bits", 0x98, 4, 0x1001, 0},
		{"PASID: 20 bits, privileged, execute", 0x104, 2, 0x1406, 0},
		{"PASID control", 0x106, 2, 0, 0x0007},
		{"ATS: 32 invalidations, page-aligned", 0x114, 2, 0x0020, 0},
		{"ATS control", 0x116, 2, 0, 0x801f},
		{"PRI control", 0x124, 2, 0, 0x0001},
		{"PRI capacity", 0x128, 4, 32, 0},
		{"PRI allocation", 0x12c, 4, 0, 0xffff_ffff},
		{"ACS: nothing to control", 0x134, 4, 0, 0},
	} {
		assert.Equal(t, tt.want, r.config(tt.off, tt.size), tt.name)
		r.setConfig(tt.off, tt.size, 0xffff_ffff)
		assert.Equal(t, tt.want|tt.bits, r.config(tt.off, tt.size), "%s: all ones", tt.name)
		r.setConfig(tt.off, tt.size, 0)
		assert.Equal(t, tt.want, r.config(tt.off, tt.size), "%s: all zeros", tt.name)
	}
	assert.EqualValues(t, 0x8100, r.config(0x126, 2), "PRI: stopped; responses have PASIDs")
	r.setConfig(0x124, 2, 1)
	assert.EqualValues(t, 0x8000, r.config(0x126, 2), "PRI: enabled")
}

func TestNewRefusesFeaturesThatContradict(t *testing.T) {
	_, err := New(Config{Features: Features{PASIDBits: 21}})
	assert.EqualError(t, err, "edu: new function: PASIDBits 21: more than 20")
	_, err = New(Config{Features: Features{PRI: true}})
	assert.EqualError(t, err, "edu: new function: PRI without ATS")
}

func TestRegistersOfQEMUsEdu(t *testing.T) {
	r := newRig(t, Features{})
	load := func(off uint64) uint64 { return r.window.Load(off, 4) }
	store := func(off, v uint64) { r.window.Store(off, 4, v) }

	assert.EqualValues(t, 0x0100_00ed, load(0x00))
	store(0x04, 0x1234_5678)
	assert.EqualValues(t, 0xedcb_a987, load(0x04))
	for n, want := range map[uint64]uint64{0: 1, 1: 1, 5: 120, 12: 479001600, 13: 0x7328_cc00, 34: 0, 0xffff_ffff: 0} {
		store(0x08, n)
		assert.Equal(t, want, load(0x08), "%d!", n)
	}
	assert.Zero(t, load(0x20), "computing")
	assert.EqualValues(t, 0xffff_ffff, load(0x0c), "no such register")
	assert.EqualValues(t, ^uint64(0), r.window.Load(0x00, 8), "8 bytes")
	assert.EqualValues(t, 0xffff, r.window.Load(0x00, 2), "2 bytes")

	store(0x80, 0x1111_2222)
	assert.EqualValues(t, 0x1111_2222, r.load(0x80), "4 bytes of a register of 8")
	r.store(0x80, 0x1_0000_0002)
	assert.EqualValues(t, 2, load(0x80))
}

// A driver distinguishes the function from QEMU's edu, where unknown registers read as all ones.
func TestFeatureRegister(t *testing.T) {
	_, ok := regs.ParseFeatures(^uint64(0))
	assert.False(t, ok, "QEMU's edu")
	for _, tt := range []struct {
		features Features
		want     uint64
	}{
		{Features{}, 0x6564_7531_0000_0000},
		{Features{PASIDBits: 1}, 0x6564_7531_0000_0001},
		{all, 0x6564_7531_0000_0017},
		{Features{Stalls: true}, 0x6564_7531_0000_0008},
	} {
		v := newRig(t, tt.features).load(0x1000)
		assert.Equal(t, tt.want, v)
		_, ok := regs.ParseFeatures(v)
		assert.True(t, ok)
	}
}

func TestDMAIsTranslated(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.setWord(dataAt+0x10, 0x0807_0605_0403_0201)
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(false, iova+0x10, 8))
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(true, iova+0x20, 8))
	assert.Equal(t, pattern, r.word(dataAt+0x20))
	assert.Equal(t, "\x00\x00\x00\x00\x00\x00\x00\x00", r.word(dataAt+0x30))
}

func TestDMAOutsideTheBufferMovesNothing(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	for _, tt := range []struct {
		name        string
		from, count uint64
		want        regs.Outcome
	}{
		{"all of it", 0x4_0000, 4096, regs.NewOutcome(regs.OK, 4096)},
		{"nothing", 0x4_1000, 0, regs.NewOutcome(regs.OK, 0)},
		{"past its end", 0x4_0001, 4096, regs.NewOutcome(regs.Invalid, 0)},
		{"below", 0x3_ffff, 1, regs.NewOutcome(regs.Invalid, 0)},
		{"more than 64 bits", 0x4_0000, ^uint64(0), regs.NewOutcome(regs.Invalid, 0)},
		{"far above", ^uint64(0), 1, regs.NewOutcome(regs.Invalid, 0)},
	} {
		r.store(0x80, tt.from)
		r.store(0x88, iova)
		r.store(0x90, tt.count)
		r.store(0x98, 3)
		assert.Equal(t, tt.want, r.end(), tt.name)
	}
}

// A DMA is a transaction for each page. One that faults ends no other.
func TestDMAContinuesAfterAFault(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.fill()
	assert.Equal(t, regs.NewOutcome(regs.Aborted, 8), r.dma(true, iova-8, 16))
	e, err := r.WaitEvent()
	require.NoError(t, err)
	assert.Equal(t, smmuv3.FTranslation, e.Type())
	assert.EqualValues(t, iova-8, e.InputAddr())
	assert.EqualValues(t, sid, e.StreamID())
	assert.False(t, e.RnW())
}

// Only a write of 4 bytes is a message.
func TestChunkLimitsATransaction(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(doorbell &^ 0xfff)
	r.fill()
	assert.Equal(t, regs.NewOutcome(regs.NoMemory, 0), r.dma(true, iova+0x40, 8))
	r.store(0x1028, 4)
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(true, iova+0x40, 8))
	assert.Equal(t, []string{"0x4030201 to 0x8090040 from 0x10", "0x8070605 to 0x8090044 from 0x10"}, r.sent())
}

// QEMU's edu ignores stores to the DMA registers until a DMA ends, and a command without its start
// bit.
func TestRegistersOfADMAAreLockedUntilItEnds(t *testing.T) {
	r := newRig(t, Features{})
	r.mapPage(dataAt)
	r.store(0x98, 2)
	assert.Zero(t, r.load(0x98), "no start bit")
	require.NoError(t, r.f.Pause(t.Context()))
	r.begin(true, iova, 8)
	r.store(0x88, 0)
	r.store(0x98, 1)
	r.store(0x1010, 1)
	assert.EqualValues(t, 3, r.load(0x98))
	assert.EqualValues(t, iova, r.load(0x88))
	assert.Zero(t, r.load(0x1010))
	r.f.Resume()
	assert.Equal(t, regs.OK, r.end().Code())
	assert.EqualValues(t, 2, r.load(0x98), "the start bit is clear")
}

func TestNoDMAWithoutBusMasterEnable(t *testing.T) {
	r := newRig(t, all)
	r.mapPage(dataAt)
	r.setConfig(0x04, 2, 2)
	r.store(0x1010, 1<<5) // Force
	assert.Equal(t, regs.NewOutcome(regs.NotEnabled, 0), r.dma(true, iova, 8))
	r.setConfig(0x04, 2, 6)
	assert.Equal(t, regs.NewOutcome(regs.OK, 8), r.dma(true, iova, 8))
}

func TestNoRegistersWithoutMemoryEnable(t *testing.T) {
	r := newRig(t, all)
	assert.EqualValues(t, 0x0100_00ed, r.window.Load(0, 4))
	assert.EqualValues(t, 1, r.window.Load(0x20_000c, 4), "vector 0 is masked")
	r.setConfig(0x04, 2, 4)
	assert.EqualValues(t, 0xffff_ffff, r.window.Load(0, 4))
	assert.EqualValues(t, 0xffff_ffff, r.window.Load(0x20_000c, 4))
	r.setConfig(0x10, 4, barAt+1<<20)
	r.setConfig(0x04, 2, 6)
	assert.EqualValues(t, 0x0100_00ed, r.window.Load(1<<20, 4))
}
