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
	}{{"Tests that failed", Fail}, {"Tests that were not run", Skip}} {
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
	if f := r.Figures; f.Hosts > 0 {
		section("Requests to the kernel")
		fmt.Fprintf(t, "  %d ioctls of %d hosts, of them %d invalidations with %d commands; %d events, and %d lost by the kernel\n",
			f.Ioctls, f.Hosts, f.Invalidations, f.Commands, f.Events, f.EventsLost)
	}
	report.WriteEnd(t, r.OK, r.Checks, r.Phases, r.Seconds, fmt.Sprintf("; %d tests passed, %d failed, %d not run",
		r.count(Pass), r.count(Fail), r.count(Skip)))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, cli.Printable(text.String()))
	return err
}
