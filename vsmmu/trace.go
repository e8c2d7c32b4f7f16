package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Trace is a set of functions that observe the device. Any of them may be nil. The device calls
// them on the goroutine that does the work, several at a time, with locks held. They return
// quickly, and call no method of the device (see Duties of the embedder).
type Trace struct {
	// Command gets each command that the device has executed or found illegal, and its error code.
	Command func(smmuv3.Command, smmuv3.CmdqErr)
	// Bind gets each stage that a host has bound or refused, and the host's error.
	Bind func(smmuv3.StreamID, bridge.GuestStage, error)
	// Event gets each event and its outcome.
	Event func(smmuv3.Event, Fate)
	// PageRequest gets each page request of an endpoint and its outcome.
	PageRequest func(smmuv3.PageRequest, Fate)
	// Interrupt gets each interrupt that the device has signalled, by wire, MSI or both.
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
