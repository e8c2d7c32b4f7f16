package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Trace is a set of functions that are told what the device does. Any of them may be
// nil. They are called on the goroutine that does it, at the same time as others,
// with locks held: they must be quick, and must not call back into the device.
type Trace struct {
	// Command: a command was carried out, or found illegal.
	Command func(smmuv3.Command, smmuv3.CmdqErr)
	// Bind: a host was asked to bind a stage, and answered.
	Bind func(smmuv3.StreamID, bridge.GuestStage, error)
	// Event: an event was met; Fate says what became of it.
	Event func(smmuv3.Event, Fate)
	// PageRequest: an endpoint made a page request; Fate says what became of it.
	PageRequest func(smmuv3.PageRequest, Fate)
	// Interrupt: an interrupt was signalled, by wire or MSI or both.
	Interrupt func(Line)
}

func (t *Trace) command(c *smmuv3.Command, code smmuv3.CmdqErr) {
	if t.Command != nil {
		t.Command(*c, code)
	}
}

func (t *Trace) event(ev smmuv3.Event, f Fate) {
	if t.Event != nil {
		t.Event(ev, f)
	}
}

func (t *Trace) pageRequest(r smmuv3.PageRequest, f Fate) {
	if t.PageRequest != nil {
		t.PageRequest(r, f)
	}
}

func (t *Trace) interrupt(l Line) {
	if t.Interrupt != nil {
		t.Interrupt(l)
	}
}
