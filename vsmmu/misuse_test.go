package vsmmu

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// TestNewRefusesNil shows that New names the field that is nil or holds a nil pointer.
func TestNewRefusesNil(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"Config.Memory is nil": func(c *Config) { c.Memory = nil },
		"Config.Memory is a *guestmem.Tracked whose Sections are nil": func(c *Config) { c.Memory = new(guestmem.Tracked) },
		"Config.Memory is a nil *guestmem.Slots":                      func(c *Config) { c.Memory = (*guestmem.Slots)(nil) },
		"Config.Interrupts is nil":                                    func(c *Config) { c.Interrupts = nil },
		"Config.Interrupts is a nil *vsmmu.irqs":                      func(c *Config) { c.Interrupts = (*irqs)(nil) },
		"Config.IDs are zero":                                         func(c *Config) { c.IDs = smmuv3.IDRegs{} },
	} {
		c := Config{IDs: rigIDs, Memory: new(guestmem.Fake), Interrupts: new(irqs)}
		change(&c)
		d, err := New(c)
		assert.Nil(t, d)
		assert.ErrorIs(t, err, ErrConfig)
		assert.ErrorContains(t, err, "vsmmu: new device: invalid configuration: "+name)
	}
}

// TestAttachRefusesNonsense shows that Attach names the invalid argument. A failed Attach claims no
// host.
func TestAttachRefusesNonsense(t *testing.T) {
	busy := record.New(bridge.Capabilities{IDs: rigIDs})
	for name, tc := range map[string]struct {
		sid  smmuv3.StreamID
		host bridge.Host
		ep   bridge.Endpoint
		is   error
		text string
	}{
		"StreamID out of range":   {1 << 16, busy, "disk", ErrConfig, "vsmmu: attach stream 0x10000: invalid configuration: StreamID does not fit IDR1.SIDSIZE 16"},
		"nil host":                {4, nil, "disk", ErrConfig, "vsmmu: attach stream 0x4: invalid configuration: host is nil"},
		"nil host and endpoint":   {4, nil, nil, ErrConfig, "vsmmu: attach stream 0x4: invalid configuration: host is nil"},
		"nil pointer as host":     {4, (*record.Host)(nil), "disk", ErrConfig, "vsmmu: attach stream 0x4: invalid configuration: host is a nil *record.Host"},
		"host without ==":         {4, incomparableHost{}, "disk", ErrConfig, "cannot be compared"},
		"nil endpoint":            {4, busy, nil, bridge.ErrEndpoint, "vsmmu: attach stream 0x4: not an endpoint of this host: nil (<nil>)"},
		"nil pointer as endpoint": {4, busy, (*soft.Endpoint)(nil), bridge.ErrEndpoint, "nil (*soft.Endpoint)"},
		"StreamID in use":         {3, busy, "disk", bridge.ErrInUse, "vsmmu: attach stream 0x3: StreamID in use"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			require.NoError(t, r.Attach(3, r.host, "first"))
			err := r.Attach(tc.sid, tc.host, tc.ep)
			assert.ErrorContains(t, err, tc.text)
			if tc.is != nil {
				assert.ErrorIs(t, err, tc.is)
			}
			require.NoError(t, busy.Events(func(smmuv3.Event) {}), "the host is not claimed")
			require.NoError(t, busy.Events(nil))
		})
	}
}

type incomparableHost struct {
	nullHost
	_ []int
}

// TestMethodsOfAClosedDeviceFail shows that the error names the method, and matches ErrClosed and
// bridge.ErrClosed.
func TestMethodsOfAClosedDeviceFail(t *testing.T) {
	r := newRig(t)
	state, err := r.Save()
	require.NoError(t, err)
	require.NoError(t, r.Close())
	_, saved := r.Save()
	for text, err := range map[string]error{
		"vsmmu: close: device closed":             r.Close(),
		"vsmmu: reset: device closed":             r.Reset(),
		"vsmmu: save: device closed":              saved,
		"vsmmu: restore: device closed":           r.Restore(state),
		"vsmmu: attach stream 0x4: device closed": r.Attach(4, r.host, "disk"),
		"vsmmu: detach stream 0x4: device closed": r.Detach(4),
	} {
		assert.EqualError(t, err, text)
		assert.ErrorIs(t, err, ErrClosed)
		assert.ErrorIs(t, err, bridge.ErrClosed)
	}
}

// TestDetachOfNothingFails shows that Detach of a StreamID that is not attached matches
// ErrNotAttached, in range or not.
func TestDetachOfNothingFails(t *testing.T) {
	r := newRig(t)
	assert.EqualError(t, r.Detach(4), "vsmmu: detach stream 0x4: not attached")
	assert.ErrorIs(t, r.Detach(0xffff_ffff), ErrNotAttached)
}

// TestRestoreNeedsTheResetState shows that Restore fails a second time, and after a guest's store,
// until Reset.
func TestRestoreNeedsTheResetState(t *testing.T) {
	fresh := newRig(t)
	state, err := fresh.Save()
	require.NoError(t, err)
	for name, tc := range map[string]struct {
		run  func(r *rig)
		says string
	}{
		"restored": {func(r *rig) { require.NoError(t, r.Restore(state)) }, "already restored"},
		"running":  {func(r *rig) { r.setup() }, "CR0 is 0x"},
		"stored":   {func(r *rig) { r.w32(0x2c, 2) }, "CR2 is 0x2"},
		"upper":    {func(r *rig) { r.w64(0x80, 1<<62) }, "STRTAB_BASE[63:32] is 0x40000000"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tc.run(r)
			before := r.registers()
			err := r.Restore(state)
			assert.ErrorIs(t, err, ErrNotReset)
			assert.ErrorContains(t, err, "vsmmu: restore: device is not in its reset state: "+tc.says)
			assert.ErrorContains(t, err, " (call Reset, or restore onto a new device)")
			assert.Equal(t, before, r.registers(), "nothing has been changed")
			require.NoError(t, r.Reset())
			assert.NoError(t, r.Restore(state))
		})
	}
	assert.ErrorIs(t, newRig(t).Restore(nil), ErrState)
	_, err = SavedIDs([]byte("nonsense"))
	assert.ErrorIs(t, err, ErrState)
	assert.ErrorContains(t, err, "vsmmu: saved IDs: not a state of this device: ")
}

// TestHostBelongsToOneDevice shows that Attach to a second device fails, and that the first device
// still gets the host's faults. After the first device is closed, the second may claim the host.
func TestHostBelongsToOneDevice(t *testing.T) {
	one, two := newRig(t, withPRI), newRig(t, withPRI)
	require.NoError(t, one.Attach(3, one.host, "disk"))
	err := two.Attach(4, one.host, "net")
	assert.ErrorIs(t, err, bridge.ErrInUse)
	_, attached := two.Device.Stage(4)
	assert.False(t, attached)
	one.host.Emit(fault(1))
	one.host.Request(smmuv3.PageRequest{3})
	assert.Equal(t, [2]uint64{1, 0}, [2]uint64{total(one.Stats().Events), total(two.Stats().Events)})
	assert.Equal(t, [2]uint64{1, 0}, [2]uint64{total(one.Stats().PageRequests), total(two.Stats().PageRequests)})

	require.NoError(t, two.Attach(4, two.host, "net"), "its own host")
	require.NoError(t, one.Detach(3))
	assert.ErrorIs(t, two.Attach(5, one.host, "disk"), bridge.ErrInUse, "a host without streams still belongs to the device")

	require.NoError(t, one.Close())
	require.NoError(t, two.Attach(5, one.host, "disk"))
	one.host.Emit(fault(2))
	one.host.Request(smmuv3.PageRequest{5})
	assert.EqualValues(t, 1, total(two.Stats().Events))
	assert.EqualValues(t, 1, total(two.Stats().PageRequests))
}

func total(counts Counts[Fate]) uint64 { return counts.Total() }

// TestFailedAttachReleasesTheHost shows that an Attach that fails after its claim releases the
// host.
func TestFailedAttachReleasesTheHost(t *testing.T) {
	for name, h := range map[string]*refusingHost{
		"SetGuestIDs":  {ids: errAgain},
		"PageRequests": {pages: errAgain},
		"Attach":       {attach: errAgain},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, withPRI)
			h.Host = newHost(r.IDs())
			assert.ErrorIs(t, r.Attach(3, h, "disk"), errAgain)
			assert.Empty(t, r.registered)
			two := newRig(t, withPRI)
			require.NoError(t, two.Attach(4, h.Host, "disk"), "another device may claim it")
			h.Host.Emit(fault(1))
			assert.Zero(t, total(r.Stats().Events))
			assert.EqualValues(t, 1, total(two.Stats().Events))
		})
	}
}

// refusingHost fails some of its methods.
type refusingHost struct {
	*record.Host
	ids, pages, attach error
}

func (h *refusingHost) SetGuestIDs(ids smmuv3.IDRegs) error {
	return errors.Join(h.ids, h.Host.SetGuestIDs(ids))
}

func (h *refusingHost) PageRequests(sink func(smmuv3.PageRequest)) error {
	if h.pages != nil {
		return h.pages
	}
	return h.Host.PageRequests(sink)
}

func (h *refusingHost) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	if h.attach != nil {
		return nil, h.attach
	}
	return h.Host.Attach(sid, ep)
}

// TestCloseAfterItsHostsSucceeds shows that Close returns no error if a host was closed first.
func TestCloseAfterItsHostsSucceeds(t *testing.T) {
	r := newRig(t)
	require.NoError(t, r.Attach(3, r.host, "disk"))
	require.NoError(t, r.Detach(3))
	require.NoError(t, r.host.Close())
	assert.NoError(t, r.Close())
}

// TestStringsOfAnyValue shows that String methods do not panic for any value.
func TestStringsOfAnyValue(t *testing.T) {
	assert.Equal(t, "Fate(6)", Fate(6).String())
	assert.Equal(t, "Fate(255)", Fate(255).String())
	assert.Equal(t, "Line(255)", Line(255).String())
}
