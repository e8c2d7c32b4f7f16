package iommulab

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/lines"
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
	if len(r.Phases) > 0 {
		section("Time")
		for _, p := range r.Phases {
			fmt.Fprintf(t, "  %6.1f s\t%s\n", p.Seconds, p.Name)
		}
		fmt.Fprintf(t, "  %6.1f s\tin all\n", r.Seconds)
	}
	section("Checks")
	held := 0
	for _, c := range r.Checks {
		verdict := "FAILED"
		if c.OK {
			verdict = "ok"
			held++
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\n", verdict, c.Name, c.Detail)
	}
	verdict := "NOT OK"
	if r.OK {
		verdict = "OK"
	}
	fmt.Fprintf(t, "\n%s: %d of %d checks held; %d tests passed, %d failed, %d not run\n",
		verdict, held, len(r.Checks), r.count(Pass), r.count(Fail), r.count(Skip))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, lines.Printable(text.String()))
	return err
}
