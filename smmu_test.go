package vsmmuv3_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

const (
	ramAt   = 0x4000_0000
	ramSize = 16 << 20
	page    = ramAt + 8<<20 // above the guest driver's structures
	iova    = 0xdead_0000
)

func noSPI(uint32, bool) error { return nil }

func newRAM(t *testing.T) *guestmem.Slots {
	ram := new(guestmem.Slots)
	require.NoError(t, ram.Add(guestmem.Slot{GPA: ramAt, Mem: make([]byte, ramSize)}))
	return ram
}

func config(mem guestmem.Memory) vsmmuv3.Config {
	return vsmmuv3.Config{Memory: mem, Interrupts: vsmmu.SPIs(74, noSPI)}
}

// newSMMU returns an SMMU that is closed after the test.
func newSMMU(t *testing.T, cfg vsmmuv3.Config) *vsmmuv3.SMMU {
	smmu, err := vsmmuv3.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, smmu.Close()) })
	return smmu
}

func newGuest(mem guestmem.Memory, smmu *vsmmuv3.SMMU) *vsmmutest.Guest {
	return vsmmutest.NewGuest(mem, guestmem.Range{GPA: ramAt, Len: 8 << 20}, smmu)
}

// TestEndpointFollowsTheGuest shows that the guest's tables translate an endpoint's DMA until the
// guest unmaps.
func TestEndpointFollowsTheGuest(t *testing.T) {
	ram := newRAM(t)
	smmu := newSMMU(t, config(ram))
	disk, err := smmu.Endpoint(0x10)
	require.NoError(t, err)
	g := newGuest(ram, smmu)
	require.NoError(t, g.Enable())
	require.NoError(t, g.MapStage1(0x10, iova, page, 0x1000))
	require.NoError(t, disk.WriteAt([]byte("block"), iova))
	got := make([]byte, 5)
	require.NoError(t, ram.ReadAt(got, page))
	assert.Equal(t, "block", string(got))
	require.NoError(t, g.Unmap(0x10, iova, 0x1000))
	assert.ErrorIs(t, disk.WriteAt([]byte("again"), iova), soft.ErrFault)
}

// TestEndpointRefusesAStreamID shows that Endpoint refuses a StreamID that is in use or out of
// range, and accepts a detached StreamID again.
func TestEndpointRefusesAStreamID(t *testing.T) {
	smmu := newSMMU(t, config(newRAM(t)))
	old, err := smmu.Endpoint(0x10)
	require.NoError(t, err)
	_, err = smmu.Endpoint(0x10)
	assert.ErrorIs(t, err, bridge.ErrInUse)
	assert.EqualError(t, err, "vsmmu: attach stream 0x10: StreamID in use")
	_, err = smmu.Endpoint(1 << 16)
	assert.EqualError(t, err, "vsmmu: attach stream 0x10000: invalid configuration: StreamID does not fit IDR1.SIDSIZE 16")
	assert.ErrorIs(t, err, vsmmu.ErrConfig)

	require.NoError(t, smmu.Detach(0x10))
	assert.ErrorIs(t, smmu.Detach(0x10), vsmmu.ErrNotAttached)
	assert.ErrorIs(t, old.ReadAt(make([]byte, 1), iova), soft.ErrNotAttached)
	fresh, err := smmu.Endpoint(0x10)
	require.NoError(t, err)
	assert.NotSame(t, old, fresh)
}

// TestSavedSMMUContinues shows that New with a saved state attaches and restores every stream, and
// that Endpoint returns each of them once.
func TestSavedSMMUContinues(t *testing.T) {
	ram := newRAM(t)
	cfg := config(ram)
	there, err := vsmmuv3.New(cfg)
	require.NoError(t, err)
	for _, sid := range []smmuv3.StreamID{0x20, 0x10} {
		_, err = there.Endpoint(sid)
		require.NoError(t, err)
	}
	g := newGuest(ram, there)
	require.NoError(t, g.Enable())
	require.NoError(t, g.MapStage1(0x10, iova, page, 0x1000))
	cfg.Saved, err = there.Save()
	require.NoError(t, err)
	require.NoError(t, there.Close())
	sids, err := vsmmu.SavedStreams(cfg.Saved)
	require.NoError(t, err)
	assert.Equal(t, []smmuv3.StreamID{0x10, 0x20}, sids)

	cfg.Policy = idr.Policy{smmuv3.SSIDSIZE: 3} // without effect
	here := newSMMU(t, cfg)
	assert.Equal(t, there.IDs(), here.IDs())
	disk, err := here.Endpoint(0x10)
	require.NoError(t, err)
	require.NoError(t, disk.WriteAt([]byte("moved"), iova))
	_, err = here.Endpoint(0x10)
	assert.ErrorIs(t, err, bridge.ErrInUse)
	_, err = here.Endpoint(0x30)
	assert.NoError(t, err, "a device that is plugged in later")

	// The driver continues with the restored device.
	g.SMMU = here
	require.NoError(t, g.Unmap(0x10, iova, 0x1000))
	assert.ErrorIs(t, disk.WriteAt([]byte("again"), iova), soft.ErrFault)
	require.NoError(t, here.Detach(0x20), "restored, and never used")
	_, err = here.Endpoint(0x20)
	assert.NoError(t, err)
}

// TestPolicyIsOffered shows that the host offers the features of the policy, and that a restored
// guest keeps them.
func TestPolicyIsOffered(t *testing.T) {
	for name, p := range map[string]idr.Policy{
		"nothing":           nil,
		"ATS":               {smmuv3.ATS: 1},
		"ATS and PRI":       {smmuv3.ATS: 1, smmuv3.PRI: 1},
		"stalls":            {smmuv3.StallModel: smmuv3.StallBoth},
		"stalls, 7 at most": {smmuv3.StallModel: smmuv3.StallBoth, smmuv3.StallMax: 7},
		"stage 2":           {smmuv3.S2P: 1},
		"stage 2 and ATS":   {smmuv3.S2P: 1, smmuv3.ATS: 1},
		"with NS1ATS":       {smmuv3.S2P: 1, smmuv3.ATS: 1, smmuv3.NS1ATS: 1},
		"stage 2 alone":     {smmuv3.S2P: 1, smmuv3.S1P: 0, smmuv3.ATS: 1, smmuv3.NS1ATS: 0},
		"52-bit addresses":  {smmuv3.OAS: 6, smmuv3.VAX: 1, smmuv3.DS: 1},
		"flags of tables":   {smmuv3.HTTU: 3},
		"less":              {smmuv3.SSIDSIZE: 0, smmuv3.HTTU: 0, smmuv3.MSI: 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(newRAM(t))
			cfg.Policy = p
			smmu := newSMMU(t, cfg)
			ids := smmu.IDs()
			for f, v := range p {
				assert.Equal(t, v, ids.Get(f), "%v", f)
			}
			_, err := smmu.Endpoint(3)
			require.NoError(t, err)
			cfg.Policy = nil
			cfg.Saved, err = smmu.Save()
			require.NoError(t, err)
			restored := newSMMU(t, cfg).IDs()
			assert.Equal(t, ids, restored)
		})
	}
	cfg := config(newRAM(t))
	cfg.Policy = idr.Policy{smmuv3.StallModel: smmuv3.StallBoth}
	disk, err := newSMMU(t, cfg).Endpoint(3)
	require.NoError(t, err)
	disk.AllowStalls(context.Background())
}

// plainMemory hides the optional methods of a memory.
type plainMemory struct{ guestmem.Memory }

// TestNewRefusesNonsense shows that New names the invalid field, matches the sentinel of the cause,
// and leaves no resources in use.
func TestNewRefusesNonsense(t *testing.T) {
	const invalid = "vsmmuv3: new SMMU: invalid configuration: "
	saved := func(c *vsmmuv3.Config) {
		smmu := newSMMU(t, *c)
		var err error
		c.Saved, err = smmu.Save()
		require.NoError(t, err)
	}
	for _, c := range []struct {
		text   string
		is     error
		change func(*vsmmuv3.Config)
	}{
		{invalid + "Config.Memory is nil", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { *c = vsmmuv3.Config{} }},
		{invalid + "Config.Memory is nil", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { saved(c); c.Memory = nil }},
		{invalid + "Config.Memory is a nil *guestmem.Slots", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Memory = (*guestmem.Slots)(nil) }},
		{invalid + "Config.Memory is a *guestmem.Tracked whose Sections are nil", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Memory = new(guestmem.Tracked) }},
		{"vsmmu: new device: invalid configuration: Config.Interrupts is nil", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Interrupts = nil }},
		{"vsmmu: new device: invalid configuration: Config.Interrupts is SPIs with a nil set", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Interrupts = vsmmu.SPIs(1, nil) }},
		{invalid + "Config.Device.IDs is set (New sets it from the fields of Config)", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Device.IDs = soft.DefaultIDs() }},
		{invalid + "TLBEntries is negative: -1", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { c.Host.TLBEntries = -1 }},
		{invalid + "ATCTimeout is negative: -1ns", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { c.Host.ATCTimeout = -1 }},
		{invalid + "IDR0.PRI = 1 requires ATS = 1 (§6.3.1)", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Policy = idr.Policy{smmuv3.PRI: 1} }},
		{invalid + "IDR0.HTTU requires memory that is a guestmem.Swapper", vsmmu.ErrConfig,
			func(c *vsmmuv3.Config) { c.Memory, c.Policy = plainMemory{c.Memory}, idr.Policy{smmuv3.HTTU: 2} }},
		{"idr: policy asks for SSIDSIZE 21", idr.ErrPolicy,
			func(c *vsmmuv3.Config) { c.Policy = idr.Policy{smmuv3.SSIDSIZE: 21} }},
		{"idr: policy asks for ATS 1, the host has 1: both stages with ATS, without NS1ATS", idr.ErrPolicy,
			func(c *vsmmuv3.Config) { c.Policy = idr.Policy{smmuv3.S2P: 1, smmuv3.ATS: 1, smmuv3.NS1ATS: 0} }},
		{invalid + "Config.Saved is empty but not nil", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { c.Saved = []byte{} }},
		{invalid + "Config.Memory is not a guestmem.Swapper, and the saved guest reads HTTU (use a guestmem.Slots" +
			" or a guestmem.Tracked)", vsmmu.ErrConfig, func(c *vsmmuv3.Config) { saved(c); c.Memory = plainMemory{c.Memory} }},
		{"vsmmuv3: new SMMU: Config.Saved: not a state of this device: 8 bytes without the header of a state", vsmmu.ErrState,
			func(c *vsmmuv3.Config) { c.Saved = []byte("nonsense") }},
	} {
		cfg := config(newRAM(t))
		c.change(&cfg)
		smmu, err := vsmmuv3.New(cfg)
		assert.Nil(t, smmu)
		assert.ErrorContains(t, err, c.text)
		assert.ErrorIs(t, err, c.is, c.text)
	}
}

// TestSavedGuestOfAChosenHostContinues shows that New restores a guest whose host had ID registers
// of its own, without these registers.
func TestSavedGuestOfAChosenHostContinues(t *testing.T) {
	cfg := config(newRAM(t))
	cfg.Host.IDs = soft.Stage2IDs()
	cfg.Host.IDs.Set(smmuv3.ATS, 1)
	cfg.Host.IDs.Set(smmuv3.NS1ATS, 1)
	cfg.Policy = idr.Policy{smmuv3.S2P: 1}
	there := newSMMU(t, cfg)
	require.True(t, there.IDs().Has(smmuv3.NS1ATS))
	saved, err := there.Save()
	require.NoError(t, err)
	cfg = config(cfg.Memory)
	cfg.Saved = saved
	assert.Equal(t, there.IDs(), newSMMU(t, cfg).IDs())
}

// TestCloseEndsTheParts shows that Close ends the device and its host, and that later calls match
// ErrClosed.
func TestCloseEndsTheParts(t *testing.T) {
	smmu, err := vsmmuv3.New(config(newRAM(t)))
	require.NoError(t, err)
	disk, err := smmu.Endpoint(1)
	require.NoError(t, err)
	require.NoError(t, smmu.Close())
	_, err = smmu.Endpoint(2)
	assert.ErrorIs(t, err, vsmmu.ErrClosed)
	assert.ErrorIs(t, smmu.Close(), vsmmu.ErrClosed)
	assert.ErrorIs(t, smmu.Host.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, disk.ReadAt(make([]byte, 1), 0), bridge.ErrClosed)

	smmu, err = vsmmuv3.New(config(newRAM(t)))
	require.NoError(t, err)
	require.NoError(t, smmu.Host.Close(), "the wrong order")
	_, err = smmu.Endpoint(2)
	assert.EqualError(t, err, "vsmmu: attach stream 0x2: host closed")
	assert.NoError(t, smmu.Close())

	smmu, err = vsmmuv3.New(config(newRAM(t)))
	require.NoError(t, err)
	require.NoError(t, smmu.Device.Close(), "of the device alone")
	assert.NoError(t, smmu.Close())
	assert.ErrorIs(t, smmu.Host.Close(), bridge.ErrClosed)
	assert.ErrorIs(t, smmu.Close(), vsmmu.ErrClosed)
}

// TestSMMUNotMadeByNew shows that the methods of a nil or zero SMMU fail.
func TestSMMUNotMadeByNew(t *testing.T) {
	for _, smmu := range []*vsmmuv3.SMMU{nil, {}} {
		_, err := smmu.Endpoint(1)
		assert.EqualError(t, err, "vsmmuv3: new endpoint: SMMU was not made by New")
		assert.EqualError(t, smmu.Detach(1), "vsmmuv3: detach: SMMU was not made by New")
		assert.EqualError(t, smmu.Close(), "vsmmuv3: close: SMMU was not made by New")
	}
}
