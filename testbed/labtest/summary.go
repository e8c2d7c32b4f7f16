package labtest

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// Summary writes the report for people.
func (r *Report) Summary(w io.Writer) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	section := func(title string) { fmt.Fprintf(t, "\n%s\n", title) }

	for _, part := range []struct {
		title   string
		outcome Outcome
	}{{"Failed tests", Fail}, {"Skipped tests", Skip}} {
		if r.count(part.outcome) == 0 {
			continue
		}
		section(part.title)
		for _, test := range r.Tests {
			if test.Outcome == part.outcome {
				fmt.Fprintf(t, "  %s\t%s\n", test.Name, test.Reason)
			}
		}
	}
	r.Matrix.write(t, section)
	for _, own := range r.Own {
		section("Our SMMU as the hardware of " + own.Machine)
		fmt.Fprintf(
			t,
			"  IDR0 to IDR5 %08x; saved and restored %d times at %d kinds of moments, state of %d bytes; "+
				"%d moves not made, because DMA did not stop\n",
			own.IDs.IDR,
			own.moves(),
			len(own.Moves),
			own.StateBytes,
			own.Busy,
		)
	}
	if f := r.Figures; f.Hosts > 0 {
		section("Requests to the kernel")
		fmt.Fprintf(
			t,
			"  %d ioctls of %d hosts, of these %d invalidations with %d commands; "+
				"%d events, %d more lost by the kernel\n",
			f.Ioctls,
			f.Hosts,
			f.Invalidations,
			f.Commands,
			f.Events,
			f.EventsLost,
		)
	}
	report.WriteError(t, r.Error, r.LastSeen)
	report.WriteEnd(t, r.OK, r.Checks, r.Phases, r.Seconds, r.counts())
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, cli.Printable(text.String()))
	return err
}

// counts returns the numbers that the verdict shows besides the checks.
func (r *Report) counts() string {
	text := ""
	if n := len(r.NotReached); n > 0 && len(r.Checks) > 0 {
		text = fmt.Sprintf(", %d more not reached", n)
	}
	if len(r.Tests) > 0 {
		text += fmt.Sprintf("; %d tests passed, %d failed, %d skipped", r.count(Pass), r.count(Fail), r.count(Skip))
	}
	return text
}
