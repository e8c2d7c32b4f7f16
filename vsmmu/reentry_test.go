package vsmmu

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// intruder calls a method of the device from callbacks, and keeps the panics.
type intruder struct {
	device *Device
	method func(*Device)
	panics map[any]bool
}

// call is the action of each callback.
func (i *intruder) call() {
	defer func() {
		if p := recover(); p != nil {
			i.panics[p] = true
		}
	}()
	if i.device != nil {
		i.method(i.device)
	}
}

// intrudingHost calls the device in each of a host's methods.
type intrudingHost struct {
	*record.Host
	*intruder
}

func (h intrudingHost) Capabilities() (bridge.Capabilities, error) {
	h.call()
	return h.Host.Capabilities()
}

func (h intrudingHost) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	h.call()
	s, err := h.Host.Attach(sid, ep)
	return intrudingStream{s, h.intruder}, err
}

func (h intrudingHost) Invalidate(c []smmuv3.Command) error {
	h.call()
	return h.Host.Invalidate(c)
}

func (h intrudingHost) Events(sink func(smmuv3.Event)) error {
	h.call()
	return h.Host.Events(sink)
}

func (h intrudingHost) SetGuestIDs(ids smmuv3.IDRegs) error {
	h.call()
	return h.Host.SetGuestIDs(ids)
}

func (h intrudingHost) PageRequests(sink func(smmuv3.PageRequest)) error {
	h.call()
	return h.Host.PageRequests(sink)
}

func (h intrudingHost) Respond(r bridge.PageResponse) error {
	h.call()
	return h.Host.Respond(r)
}

func (h intrudingHost) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) error {
	h.call()
	return h.Host.Resume(sid, stag, how)
}

func (h intrudingHost) TerminateStalled(sid smmuv3.StreamID) error {
	h.call()
	return h.Host.TerminateStalled(sid)
}

func (h intrudingHost) SetSTERefetch(func(smmuv3.StreamID) bool) { h.call() }

type intrudingStream struct {
	bridge.Stream
	*intruder
}

func (s intrudingStream) Bind(g bridge.GuestStage) error {
	s.call()
	return s.Stream.Bind(g)
}

func (s intrudingStream) Close() error {
	s.call()
	return s.Stream.Close()
}

type intrudingInterrupts struct{ *intruder }

func (i intrudingInterrupts) Pulse(Line) error                     { i.call(); return nil }
func (i intrudingInterrupts) SignalMSI(guestmem.GPA, uint32) error { i.call(); return nil }

func (i *intruder) Write(p []byte) (int, error) { i.call(); return len(p), nil }

// intrude makes a device call all of its callbacks, which call a method.
func intrude(t *testing.T, method func(*Device)) map[any]bool {
	i := &intruder{method: method, panics: map[any]bool{}}
	r := newRig(t, withPRI, withStalls, func(c *Config) {
		c.CheckReentry = true
		c.Interrupts = intrudingInterrupts{i}
		c.Watch = func([]guestmem.Range) { i.call() }
		c.Dirty = func(guestmem.Range) { i.call() }
		c.Log = slog.New(slog.NewTextHandler(i, nil))
		c.Trace = Trace{
			Command:     func(smmuv3.Command, smmuv3.CmdqErr) { i.call() },
			Bind:        func(smmuv3.StreamID, bridge.GuestStage, error) { i.call() },
			Event:       func(smmuv3.Event, Fate) { i.call() },
			PageRequest: func(smmuv3.PageRequest, Fate) { i.call() },
			Interrupt:   func(Line) { i.call() },
		}
	})
	r.doorbells()
	i.device = r.Device
	r.ste(3, 0xb|cdAt)
	require.NoError(t, r.Attach(3, intrudingHost{r.host, i}, "disk"))
	r.setup()
	r.host.Emit(stalled(3, 1))
	r.host.Emit(fault(1))
	r.host.Request(smmuv3.PageRequest{1<<62 | 3, 0}) // the PRI queue is disabled: the device answers
	r.host.FailWith(func(c record.Call) error {
		if c.Op == record.Invalidate {
			return errAgain
		}
		return nil
	})
	r.run(smmuv3.Command{0x44 | 1<<12 | 3<<32, 1}, smmuv3.Command{0x45 | 3<<32}, tlbi(1), smmuv3.Command{0x1046, 0x8080040})
	r.idle()
	require.NoError(t, r.Detach(3))
	return i.panics
}

// TestReentryFromEachCallbackPanics shows that with Config.CheckReentry a callback that calls a
// method of the device panics. The message names both.
func TestReentryFromEachCallbackPanics(t *testing.T) {
	panics := intrude(t, func(d *Device) { d.Stage(3) })
	for _, callback := range []string{
		"Config.Watch", "Config.Dirty", "Config.Log",
		"Interrupts.Pulse", "Interrupts.SignalMSI",
		"Trace.Command", "Trace.Bind", "Trace.Event", "Trace.PageRequest", "Trace.Interrupt",
		"Host.Capabilities", "Host.Events", "Host.SetGuestIDs", "Host.PageRequests", "Host.Attach", "Host.Invalidate",
		"Host.Respond", "Host.Resume", "Host.TerminateStalled", "Host.SetSTERefetch", "Stream.Bind", "Stream.Close",
	} {
		want := fmt.Sprintf("vsmmu: %s calls Device.Stage (a callback must not call the device that called it)", callback)
		assert.Contains(t, panics, want)
		delete(panics, want)
	}
	assert.Empty(t, panics)
}

// TestReentryIntoEachMethodPanics shows that a callback may call Load and IDs only. The
// panic names any other method.
func TestReentryIntoEachMethodPanics(t *testing.T) {
	for name, method := range map[string]func(*Device){
		"Attach":     func(d *Device) { _ = d.Attach(4, nil, nil) },
		"Detach":     func(d *Device) { _ = d.Detach(4) },
		"Stage":      func(d *Device) { d.Stage(3) },
		"Stats":      func(d *Device) { d.Stats() },
		"Reset":      func(d *Device) { _ = d.Reset() },
		"Close":      func(d *Device) { _ = d.Close() },
		"Save":       func(d *Device) { _, _ = d.Save() },
		"Restore":    func(d *Device) { _ = d.Restore(nil) },
		"GuestWrote": func(d *Device) { d.GuestWrote(everywhere) },
		"Store":      func(d *Device) { d.Store(smmuv3.RegGERRORN, 4, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			panics := intrude(t, method)
			assert.NotEmpty(t, panics)
			for p := range panics {
				assert.Contains(t, p, " calls Device."+name+" ")
			}
		})
	}
	assert.Empty(t, intrude(t, func(d *Device) {
		d.Load(0, 8)
		d.IDs()
	}))
}

// TestReentryIsNotCheckedByDefault shows that without Config.CheckReentry nothing is checked, and
// that a call of a method that waits for no lock does no harm.
func TestReentryIsNotCheckedByDefault(t *testing.T) {
	r := newRig(t)
	assert.Nil(t, r.reentry)
	assert.IsType(t, &irqs{}, r.irq.out)
}
