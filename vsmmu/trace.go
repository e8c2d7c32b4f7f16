package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Trace is a set of functions that get what the device does. Any of them may be nil. The device
// calls them on the goroutine that does it, several at a time, with locks held. They are quick, and
// call no method of the device (see Duties of the embedder).
type Trace struct {
	// Command is called when a command was executed, or found illegal.
	Command func(smmuv3.Command, smmuv3.CmdqErr)
	// Bind is called when a host has bound a stage, or failed to.
	Bind func(smmuv3.StreamID, bridge.GuestStage, error)
	// Event is called for each event, with its outcome.
	Event func(smmuv3.Event, Fate)
	// PageRequest is called for each page request of an endpoint, with its outcome.
	PageRequest func(smmuv3.PageRequest, Fate)
	// Interrupt is called when an interrupt was signalled, by wire, MSI or both.
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
