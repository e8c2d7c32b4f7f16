package transcript

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Difference is the error of a replay whose device differs from the recorded one.
type Difference struct {
	Entry int           // its number in the transcript
	At    time.Duration // the time of the entry
	Stage string        // the last Note: the stage of the boot
	Want  Body          // the recorded action; nil if the recorded device did nothing more
	Got   Body          // the device's action; nil if it did nothing
	// Command is the command that the device was executing, if any. STE is the last STE that the
	// device read, if the difference is in a bind.
	Command *smmuv3.Command
	STE     *smmuv3.STE
	ids     smmuv3.IDRegs
}

// Channel returns the channel in which the devices differ.
func (d *Difference) Channel() Channel {
	switch {
	case d.Want != nil:
		return d.Want.Channel()
	case d.Got != nil:
		return d.Got.Channel()
	}
	return Channel{}
}

// explain adds the command and the STE that the device acted on.
func (d *Difference) explain(reads *reads, executed uint64, ids smmuv3.IDRegs) {
	d.ids = ids
	at := d.Want
	if at == nil {
		at = d.Got
	}
	switch b := at.(type) {
	case *HostBind:
		if !b.Stage.Disabled {
			d.STE = reads.ste
		}
	case *HostInvalidate, *Command, *MemRead:
	default:
		return
	}
	if c, ok := reads.command(executed); ok {
		d.Command = &c
	}
}

// Error returns the text of String, after the name of the package and the operation.
func (d *Difference) Error() string { return "transcript: replay: " + d.String() }

// String describes the difference in several lines: the recorded action, the device's action, and
// the command and the STE that caused it.
func (d *Difference) String() string {
	where := fmt.Sprintf("entry %d, %.3f s after the start", d.Entry, d.At.Seconds())
	if d.Stage != "" {
		where += fmt.Sprintf(", stage: %s", d.Stage)
	}
	s := fmt.Sprintf("the device differs from the recording at %v (%s)\n", d.Channel(), where)
	s += "  recorded: " + inWords(d.Want, "nothing more") + "\n"
	s += "  now:      " + inWords(d.Got, "nothing")
	if d.Command != nil {
		s += "\n  current command: " + d.Command.String()
		if rule := d.Command.Illegal(&d.ids); rule != nil {
			s += ": illegal, " + rule.String()
		}
	}
	if d.STE != nil {
		s += "\n  last STE read:"
		for _, f := range d.STE.Fields() {
			if f.Value != 0 {
				s += fmt.Sprintf(" %s=%#x", f.Name, f.Value)
			}
		}
		if rule := d.STE.Illegal(&d.ids); rule != nil {
			s += ": illegal, " + rule.String()
		}
	}
	return s
}

func inWords(b Body, none string) string {
	if b == nil {
		return none
	}
	return b.String()
}
