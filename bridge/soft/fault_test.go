package soft_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// operations are all operations that can return a Fault.
func operations() map[string]func(*soft.Endpoint) error {
	p := make([]byte, 8)
	port := func(e *soft.Endpoint) soft.Port { return e.With(soft.Attrs{Privileged: true}) }
	mapped := func(_ soft.Mapping, err error) error { return err }
	return map[string]func(*soft.Endpoint) error{
		"ReadAt":                  func(e *soft.Endpoint) error { return e.ReadAt(p, 0x1000) },
		"WriteAt":                 func(e *soft.Endpoint) error { return e.WriteAt(p, 0x1000) },
		"Port.ReadAt":             func(e *soft.Endpoint) error { return port(e).ReadAt(p, 0x1000) },
		"Port.WriteAt":            func(e *soft.Endpoint) error { return port(e).WriteAt(p, 0x1000) },
		"ReadVec":                 func(e *soft.Endpoint) error { return e.ReadVec([]soft.Vec{{IOVA: 0x1000, Buf: p}}) },
		"Port.WriteVec":           func(e *soft.Endpoint) error { return port(e).WriteVec([]soft.Vec{{IOVA: 0x1000, Buf: p}}) },
		"Load":                    func(e *soft.Endpoint) error { _, err := e.Load(0x1000, 4); return err },
		"Load of a bad size":      func(e *soft.Endpoint) error { _, err := e.Load(0x1000, 3); return err },
		"Load of size 0":          func(e *soft.Endpoint) error { _, err := e.Load(0x1000, 0); return err },
		"Load of a negative size": func(e *soft.Endpoint) error { _, err := e.Load(0x1000, -4); return err },
		"Load, misaligned":        func(e *soft.Endpoint) error { _, err := e.Load(0x1001, 4); return err },
		"Store":                   func(e *soft.Endpoint) error { return e.Store(0x1000, 8, 1) },
		"Store, misaligned":       func(e *soft.Endpoint) error { return e.Store(0x1004, 8, 1) },
		"Port.Store of size 16":   func(e *soft.Endpoint) error { return port(e).Store(0x1000, 16, 1) },
		"Map":                     func(e *soft.Endpoint) error { return mapped(e.Map(0x1000, 8, false, nil)) },
		"Map of a negative size":  func(e *soft.Endpoint) error { return mapped(e.Map(0x1000, -1, false, nil)) },
		"Map, too long":           func(e *soft.Endpoint) error { return mapped(e.Map(0x1000, soft.MaxMap+1, true, nil)) },
		"Translate":               func(e *soft.Endpoint) error { _, err := e.Translate(0x1000, false); return err },
		"ReadTranslated":          func(e *soft.Endpoint) error { return e.ReadTranslated(p, 0x1000) },
		"WriteTranslated":         func(e *soft.Endpoint) error { return e.WriteTranslated(p, 0x1000) },
		"RequestPage":             func(e *soft.Endpoint) error { return e.RequestPage(smmuv3.PageRequest{}) },
	}
}

// A Fault of an attached endpoint names its StreamID, for every operation that fails.
func TestFaultNamesTheStream(t *testing.T) {
	for _, memory := range []guestmem.Memory{new(guestmem.Fake), new(guestmem.Slots)} {
		for _, ids := range []smmuv3.IDRegs{soft.DefaultIDs(), withATS()} {
			for _, stage := range []bridge.GuestStage{
				{}, {Disposition: bridge.Abort, Cause: smmuv3.CBadSTE}, {Disposition: bridge.Bypass}, oneCD,
			} {
				for _, ats := range []bool{false, true} {
					for name, operate := range operations() {
						host, err := soft.New(soft.Config{Memory: memory, IDs: ids})
						require.NoError(t, err)
						ep := soft.NewEndpoint()
						if ats {
							ep.EnableATS(soft.ATS{})
						}
						s, err := host.Attach(0x10, ep)
						require.NoError(t, err)
						require.NoError(t, s.Bind(stage))
						err = operate(ep)
						var f *soft.Fault
						if err != nil && assert.ErrorAs(t, err, &f, name) {
							assert.EqualValues(t, 0x10, f.StreamID, name)
							assert.NotEmpty(t, f.Op, name)
							assert.ErrorContains(t, err, "stream 0x10", name)
						}
						require.NoError(t, host.Close())
					}
				}
			}
		}
	}
}

// A Fault of an endpoint that is not attached names no stream, not even 0x0, which is a valid
// StreamID.
func TestFaultOfAnUnattachedEndpointNamesNoStream(t *testing.T) {
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake), IDs: withATS()})
	require.NoError(t, err)
	closed := soft.NewEndpoint()
	s, err := host.Attach(0x10, closed)
	require.NoError(t, err)
	require.NoError(t, s.Close())
	hostClosed := soft.NewEndpoint()
	_, err = host.Attach(0x11, hostClosed)
	require.NoError(t, err)
	require.NoError(t, host.Close())
	refused := soft.NewEndpoint()
	_, err = host.Attach(0x12, refused)
	require.ErrorIs(t, err, bridge.ErrClosed)

	for state, ep := range map[string]*soft.Endpoint{
		"new": soft.NewEndpoint(), "zero": {}, "nil": nil, "stream closed": closed, "host closed": hostClosed, "refused": refused,
	} {
		for name, operate := range operations() {
			err := operate(ep)
			assert.ErrorIs(t, err, soft.ErrNotAttached, "%s %s", state, name)
			assert.ErrorIs(t, err, bridge.ErrClosed, "%s %s", state, name)
			assert.ErrorContains(t, err, "endpoint not attached", "%s %s", state, name)
			assert.NotContains(t, err.Error(), "stream", "%s %s", state, name)
			assert.NotContains(t, err.Error(), "closed", "%s %s", state, name)
		}
	}
	assert.EqualError(t, soft.NewEndpoint().ReadAt(make([]byte, 4), 0x4000_0000),
		"soft: read at 0x40000000, after 0 bytes: endpoint not attached")
	assert.ErrorIs(t, soft.Port{}.WriteAt(make([]byte, 1), 0), soft.ErrNotAttached)
}

// The error of soft.New names the invalid field of a configuration.
func TestNewRefusesInvalidConfigurations(t *testing.T) {
	mem := new(guestmem.Fake)
	ids := func(change ...func(*smmuv3.IDRegs)) smmuv3.IDRegs {
		r := soft.DefaultIDs()
		for _, c := range change {
			c(&r)
		}
		return r
	}
	set := func(f smmuv3.IDField, v uint32) func(*smmuv3.IDRegs) {
		return func(r *smmuv3.IDRegs) { r.Set(f, v) }
	}
	for _, c := range []struct {
		name string
		cfg  soft.Config
		want string
	}{
		{"no memory", soft.Config{}, "soft: new host: Config.Memory is nil"},
		{"nil *Slots", soft.Config{Memory: (*guestmem.Slots)(nil)}, "Config.Memory is a nil *guestmem.Slots"},
		{"nil *Fake", soft.Config{Memory: (*guestmem.Fake)(nil)}, "Config.Memory is a nil *guestmem.Fake"},
		{"TLBEntries -1", soft.Config{Memory: mem, TLBEntries: -1}, "TLBEntries is negative: -1"},
		{"ATCTimeout -1", soft.Config{Memory: mem, ATCTimeout: -1}, "ATCTimeout is negative: -1ns"},
		{"IDR5 0", soft.Config{Memory: mem, IDs: ids(func(r *smmuv3.IDRegs) { r.IDR[5] = 0 })}, "no granule"},
		{"no granule", soft.Config{Memory: mem, IDs: ids(set(smmuv3.GRAN4K, 0), set(smmuv3.GRAN16K, 0), set(smmuv3.GRAN64K, 0))}, "no granule"},
		{"no stage", soft.Config{Memory: mem, IDs: ids(set(smmuv3.S1P, 0))}, "neither S1P nor S2P"},
		{"no tables", soft.Config{Memory: mem, IDs: ids(set(smmuv3.TTF, 0))}, "TTF"},
		{"AArch32 tables", soft.Config{Memory: mem, IDs: ids(set(smmuv3.TTF, 1))}, "TTF"},
		{"only AIDR", soft.Config{Memory: mem, IDs: smmuv3.IDRegs{AIDR: 2}}, "TTF"},
		{"DS without VAX", soft.Config{Memory: mem, IDs: ids(set(smmuv3.DS, 1))}, "DS requires VAX"},
		{"DS with 64 KiB alone", soft.Config{Memory: mem, IDs: ids(set(smmuv3.DS, 1), set(smmuv3.VAX, 1), set(smmuv3.GRAN4K, 0), set(smmuv3.GRAN16K, 0))}, "DS requires VAX, and GRAN4K or GRAN16K"},
		{"VAX without 64 KiB or DS", soft.Config{Memory: mem, IDs: ids(set(smmuv3.VAX, 1), set(smmuv3.GRAN64K, 0))}, "VAX requires"},
		{"52 bits without 64 KiB or DS", soft.Config{Memory: mem, IDs: ids(set(smmuv3.OAS, 6), set(smmuv3.GRAN64K, 0))}, "OAS of 52 bits requires"},
		{"STALL_MAX without stalls", soft.Config{Memory: mem, IDs: ids(set(smmuv3.StallMax, 1))}, "IDR5.STALL_MAX = 1 requires a STALL_MODEL that stalls"},
		{"stalls without STALL_MAX", soft.Config{Memory: mem, IDs: ids(set(smmuv3.StallModel, 0))}, "IDR0.STALL_MODEL = 0 requires STALL_MAX of 1 or more"},
		{"PRI without ATS", soft.Config{Memory: mem, IDs: ids(set(smmuv3.PRI, 1))}, "IDR0.PRI = 1 requires ATS = 1"},
		{"NS1ATS without ATS", soft.Config{Memory: mem, IDs: ids(set(smmuv3.NS1ATS, 1))}, "IDR0.NS1ATS = 1 requires ATS, S1P and S2P"},
		{"ATS and both stages without NS1ATS", soft.Config{Memory: mem, IDs: ids(set(smmuv3.ATS, 1), set(smmuv3.S2P, 1))}, "IDR0.ATS = 1 requires NS1ATS = 1 with both stages"},
		{"HTTU without a Swapper", soft.Config{Memory: struct{ guestmem.Memory }{mem}, IDs: ids()}, "HTTU"},
	} {
		h, err := soft.New(c.cfg)
		assert.ErrorContains(t, err, c.want, c.name)
		assert.Nil(t, h, c.name)
	}
	for name, cfg := range map[string]soft.Config{
		"zero TLBEntries": {Memory: mem}, "many": {Memory: mem, TLBEntries: 1 << 40}, "one": {Memory: mem, TLBEntries: 1},
	} {
		_, err := soft.New(cfg)
		assert.NoError(t, err, name)
	}
}

// The error of Attach names the endpoint or stream, and the cause.
func TestAttachRefuses(t *testing.T) {
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake)})
	require.NoError(t, err)
	ep := soft.NewEndpoint()
	_, err = host.Attach(1, ep)
	require.NoError(t, err)
	for _, c := range []struct {
		sid  smmuv3.StreamID
		ep   bridge.Endpoint
		is   error
		want string
	}{
		{1, soft.NewEndpoint(), bridge.ErrInUse, "StreamID in use"},
		{2, ep, bridge.ErrInUse, "endpoint in use"},
		{2, nil, bridge.ErrEndpoint, "not an endpoint of this host: <nil>"},
		{2, (*soft.Endpoint)(nil), bridge.ErrEndpoint, "not an endpoint of this host: nil *soft.Endpoint"},
		{2, soft.Endpoint{}, bridge.ErrEndpoint, "not an endpoint of this host: soft.Endpoint"},
		{2, "eth0", bridge.ErrEndpoint, "not an endpoint of this host: string"},
	} {
		_, err := host.Attach(c.sid, c.ep)
		assert.ErrorIs(t, err, c.is)
		assert.EqualError(t, err, c.want)
	}
	require.NoError(t, host.Close())
	_, err = host.Attach(2, soft.NewEndpoint())
	assert.EqualError(t, err, "host closed")
	assert.EqualError(t, host.Close(), "soft: close: host closed")
	assert.ErrorIs(t, host.Close(), bridge.ErrClosed, "a second Close")
}

// A host has one claimant at a time, for events and page requests each.
func TestSinksAreClaimedOnce(t *testing.T) {
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake), IDs: withATS()})
	require.NoError(t, err)
	events := func() error { return host.Events(func(smmuv3.Event) {}) }
	requests := func() error { return host.PageRequests(func(smmuv3.PageRequest) {}) }
	release := map[string]func() error{
		"Events":       func() error { return host.Events(nil) },
		"PageRequests": func() error { return host.PageRequests(nil) },
	}
	for name, claim := range map[string]func() error{"Events": events, "PageRequests": requests} {
		require.NoError(t, release[name](), "release of a host without a sink")
		var won atomic.Int32
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if err := claim(); err == nil {
					won.Add(1)
				} else {
					assert.ErrorIs(t, err, bridge.ErrInUse, name)
				}
			})
		}
		wg.Wait()
		assert.EqualValues(t, 1, won.Load(), name)
		require.NoError(t, release[name]())
		require.NoError(t, claim(), name)
		require.NoError(t, release[name]())
	}
	require.NoError(t, host.Close())
	assert.ErrorIs(t, events(), bridge.ErrClosed)
	assert.ErrorIs(t, requests(), bridge.ErrClosed)
	assert.NoError(t, host.Events(nil))
	assert.NoError(t, host.PageRequests(nil))
}

// Sinks are claimed and released while DMA faults and pages are requested. A released sink is never
// called.
func TestReleasedSinkIsNotCalled(t *testing.T) {
	host, err := soft.New(soft.Config{Memory: new(guestmem.Fake), IDs: withATS()})
	require.NoError(t, err)
	ep := soft.NewEndpoint()
	ep.EnableATS(soft.ATS{})
	s, err := host.Attach(sid, ep)
	require.NoError(t, err)
	require.NoError(t, s.Bind(bridge.GuestStage{Disposition: bridge.Abort, Cause: smmuv3.CBadSTE}))
	stop := repeat(2, func() bool {
		var f *soft.Fault
		ok := errors.As(ep.ReadAt(make([]byte, 1), 0), &f)
		_ = ep.RequestPage(smmuv3.PageRequest{})
		return ok
	})
	defer stop()
	for range 500 {
		var released atomic.Bool
		require.NoError(t, host.Events(func(smmuv3.Event) { assert.False(t, released.Load()) }))
		require.NoError(t, host.PageRequests(func(smmuv3.PageRequest) { assert.False(t, released.Load()) }))
		require.NoError(t, host.Events(nil))
		require.NoError(t, host.PageRequests(nil))
		released.Store(true)
	}
}

// AllowStalls without a context means that the device cannot wait.
func TestAllowStallsWithoutAContext(t *testing.T) {
	r := newRig(t, soft.Config{IDs: everything()})
	r.map4K(cd4K | 1<<44)
	r.bind(oneCD)
	r.ep.AllowStalls(t.Context())
	var none context.Context
	r.ep.AllowStalls(none)
	_, err := word(r.ep, 0)
	assert.ErrorIs(t, err, soft.ErrFault)
}

// TestFaultWithoutAnEventHasACause shows that the error of a DMA that aborts without an event names
// the reason, since the guest reads nothing.
func TestFaultWithoutAnEventHasACause(t *testing.T) {
	const prefix = "soft: read at 0x0, stream 0x42, after 0 bytes: terminated by the SMMU, without an event: "
	for want, c := range map[string]struct {
		stage bridge.GuestStage
		iova  uint64
	}{
		prefix + "the stage of the stream aborts (does the guest's firmware describe this StreamID?)": {bridge.GuestStage{}, 0},
		prefix + "the SMMU is disabled, and GBPA aborts":                                              {bridge.GuestStage{Disabled: true}, 0},
		strings.Replace(prefix, "0x0", "0x1000000000000", 1) + "the SMMU is disabled, and the address exceeds IDR5.OAS": {
			bridge.GuestStage{Disposition: bridge.Bypass, Disabled: true}, 1 << 48},
	} {
		r := newRig(t, soft.Config{})
		r.bind(c.stage)
		err := r.ep.ReadAt(make([]byte, 1), c.iova)
		assert.EqualError(t, err, want)
		assert.ErrorIs(t, err, soft.ErrFault)
		assert.Empty(t, r.taken())
	}
}
