package vsmmu

import (
	"bytes"
	"fmt"
	"log/slog"
	"runtime"
	"strconv"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// reentry finds callbacks that call the device. A device has one only with Config.CheckReentry.
type reentry struct {
	inside sync.Map // goroutine number → name of the callback that it runs
}

// in runs f as a callback of the given name.
func (r *reentry) in(callback string, f func()) {
	id := goroutine()
	outer, nested := r.inside.Swap(id, callback)
	defer func() {
		if nested {
			r.inside.Store(id, outer)
		} else {
			r.inside.Delete(id)
		}
	}()
	f()
}

// check panics if the calling goroutine runs a callback.
func (r *reentry) check(method string) {
	if callback, ok := r.inside.Load(goroutine()); ok {
		panic(
			fmt.Sprintf(
				"vsmmu: %s calls Device.%s (a callback must not call the device that called it)",
				callback,
				method,
			),
		)
	}
}

// goroutine returns the number of the calling goroutine. Only stack traces have it.
func goroutine() uint64 {
	var buf [64]byte
	text := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	text, _, _ = bytes.Cut(text, []byte(" "))
	id, _ := strconv.ParseUint(string(text), 10, 64)
	return id
}

// enter checks that no callback calls the method.
func (d *Device) enter(method string) {
	if d.reentry != nil {
		d.reentry.check(method)
	}
}

// watchCallbacks wraps the callbacks of cfg, so that r records each call.
func (r *reentry) watchCallbacks(cfg *Config) {
	cfg.Interrupts = checkedInterrupts{cfg.Interrupts, r}
	if f := cfg.Watch; f != nil {
		cfg.Watch = func(w []guestmem.Range) { r.in("Config.Watch", func() { f(w) }) }
	}
	if f := cfg.Dirty; f != nil {
		cfg.Dirty = func(w guestmem.Range) { r.in("Config.Dirty", func() { f(w) }) }
	}
	t := &cfg.Trace
	if f := t.Command; f != nil {
		t.Command = func(c smmuv3.Command, code smmuv3.CmdqErr) { r.in("Trace.Command", func() { f(c, code) }) }
	}
	if f := t.Bind; f != nil {
		t.Bind = func(sid smmuv3.StreamID, g bridge.GuestStage, err error) {
			r.in("Trace.Bind", func() { f(sid, g, err) })
		}
	}
	if f := t.Event; f != nil {
		t.Event = func(ev smmuv3.Event, fate Fate) { r.in("Trace.Event", func() { f(ev, fate) }) }
	}
	if f := t.PageRequest; f != nil {
		t.PageRequest = func(q smmuv3.PageRequest, fate Fate) { r.in("Trace.PageRequest", func() { f(q, fate) }) }
	}
	if f := t.Interrupt; f != nil {
		t.Interrupt = func(l Line) { r.in("Trace.Interrupt", func() { f(l) }) }
	}
}

// warn is log.Warn as a callback.
func (r *reentry) warn(log *slog.Logger, msg string, err error) {
	r.in("Config.Log", func() { log.Warn(msg, slog.Any("err", err)) })
}

type checkedInterrupts struct {
	Interrupts
	*reentry
}

func (i checkedInterrupts) Pulse(l Line) (err error) {
	i.in("Interrupts.Pulse", func() { err = i.Interrupts.Pulse(l) })
	return err
}

func (i checkedInterrupts) SignalMSI(addr guestmem.GPA, data uint32) (err error) {
	i.in("Interrupts.SignalMSI", func() { err = i.Interrupts.SignalMSI(addr, data) })
	return err
}

// checkedHost is a host whose methods run as callbacks. The device calls an optional method only if
// the host has it.
type checkedHost struct {
	bridge.Host
	*reentry
}

func (h checkedHost) Capabilities() (c bridge.Capabilities, err error) {
	h.in("Host.Capabilities", func() { c, err = h.Host.Capabilities() })
	return c, err
}

func (h checkedHost) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (s bridge.Stream, err error) {
	h.in("Host.Attach", func() { s, err = h.Host.Attach(sid, ep) })
	if err != nil {
		return nil, err
	}
	return checkedStream{s, h.reentry}, nil
}

func (h checkedHost) Invalidate(c []smmuv3.Command) (err error) {
	h.in("Host.Invalidate", func() { err = h.Host.Invalidate(c) })
	return err
}

func (h checkedHost) Events(sink func(smmuv3.Event)) (err error) {
	h.in("Host.Events", func() { err = h.Host.Events(sink) })
	return err
}

func (h checkedHost) SetGuestIDs(ids smmuv3.IDRegs) (err error) {
	h.in("Host.SetGuestIDs", func() { err = h.Host.SetGuestIDs(ids) })
	return err
}

func (h checkedHost) PageRequests(sink func(smmuv3.PageRequest)) (err error) {
	h.in("Host.PageRequests", func() { err = h.Host.(bridge.PageRequester).PageRequests(sink) })
	return err
}

func (h checkedHost) Respond(r bridge.PageResponse) (err error) {
	h.in("Host.Respond", func() { err = h.Host.(bridge.PageRequester).Respond(r) })
	return err
}

func (h checkedHost) Resume(sid smmuv3.StreamID, stag uint16, how bridge.Resumption) (err error) {
	h.in("Host.Resume", func() { err = h.Host.(bridge.Staller).Resume(sid, stag, how) })
	return err
}

func (h checkedHost) TerminateStalled(sid smmuv3.StreamID) (err error) {
	h.in("Host.TerminateStalled", func() { err = h.Host.(bridge.Staller).TerminateStalled(sid) })
	return err
}

func (h checkedHost) SetSTERefetch(refetch func(smmuv3.StreamID) bool) {
	h.in("Host.SetSTERefetch", func() { h.Host.(bridge.STERefetcher).SetSTERefetch(refetch) })
}

type checkedStream struct {
	bridge.Stream
	*reentry
}

func (s checkedStream) Bind(g bridge.GuestStage) (err error) {
	s.in("Stream.Bind", func() { err = s.Stream.Bind(g) })
	return err
}

func (s checkedStream) Close() (err error) {
	s.in("Stream.Close", func() { err = s.Stream.Close() })
	return err
}
