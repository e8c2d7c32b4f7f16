package transcript

import (
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Difference says what a device did otherwise than the recorded one.
type Difference struct {
	Entry int           // its number in the transcript
	At    time.Duration // when it was recorded
	Stage string        // what the embedder last noted: where in its boot the guest was
	Want  Body          // nil if there was nothing more
	Got   Body          // nil if nothing came
	// Command is the command that the device was to carry out, if it was at one,
	// and STE the stream's entry, if the difference is in a stream.
	Command *smmuv3.Command
	STE     *smmuv3.STE
	ids     smmuv3.IDRegs
}

// Channel is where it is.
func (d *Difference) Channel() Channel {
	if d.Want != nil {
		return d.Want.Channel()
	}
	return d.Got.Channel()
}

// explain adds what the device had before it.
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

func (d *Difference) Error() string {
	where := fmt.Sprintf("entry %d, %.3f s after the beginning", d.Entry, d.At.Seconds())
	if d.Stage != "" {
		where += fmt.Sprintf(", while: %s", d.Stage)
	}
	s := fmt.Sprintf("the device does otherwise than was recorded, at %v (%s)\n", d.Channel(), where)
	s += "  recorded: " + inWords(d.Want, "nothing more") + "\n"
	s += "  now:      " + inWords(d.Got, "nothing came")
	if d.Command != nil {
		s += "\n  the command it was at: " + d.Command.String()
		if rule := d.Command.IllegalBy(&d.ids); rule != nil {
			s += ": illegal, " + rule.String()
		}
	}
	if d.STE != nil {
		s += "\n  the STE it had read:"
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
