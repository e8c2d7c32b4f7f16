package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// Summary writes a text form of the report.
func (r *Report) Summary(w io.Writer) error {
	var text strings.Builder
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	section := func(title string) { fmt.Fprintf(t, "\n%s\n", title) }

	if len(r.Probe) > 0 {
		section("The guest's driver")
		for _, line := range r.Probe {
			fmt.Fprintf(t, "  %s\n", line)
		}
	}
	if len(r.Streams) > 0 {
		section("Bind-guest-stage calls")
		for _, s := range r.Streams {
			for i, b := range s.Binds {
				who := ""
				if i == 0 {
					who = fmt.Sprintf("stream %#x (%s)", s.StreamID, s.Endpoint)
				}
				fmt.Fprintf(t, "  %s\t%d.\t%s\n", who, i+1, b.Text)
			}
			if more := s.BindCalls - len(s.Binds); more > 0 {
				fmt.Fprintf(t, "  \t\tand %d more\n", more)
			}
		}
	}
	if len(r.Disks) > 0 {
		section("Disks")
		for _, d := range r.Disks {
			fmt.Fprintf(t, "  %s\tstream %#x\t%s written\t%s read\t%s verified\t%s in the backing file\n",
				d.Serial, d.StreamID, size(d.Written), size(d.Read), size(d.Verified), size(d.Backing))
		}
	}
	for _, c := range []struct {
		title  string
		counts map[string]uint64
	}{{"Commands", r.Commands}, {"Events", r.Events}, {"Interrupts", r.Interrupts}} {
		if len(c.counts) > 0 {
			section(c.title)
			fmt.Fprintf(t, "  %s\n", counts(c.counts))
		}
	}
	WriteError(t, r.Error, r.LastSeen)
	WriteEnd(t, r.OK, r.Checks, r.Phases, r.Seconds, "")
	if err := t.Flush(); err != nil {
		return err
	}
	// Much of the text comes from the guest.
	_, err := io.WriteString(w, cli.Printable(text.String()))
	return err
}

// WriteError writes why a run did not reach its end, and the last lines before that. It writes
// nothing for an empty error.
func WriteError(w io.Writer, cause string, seen *progress.LastSeen) {
	if cause == "" {
		return
	}
	fmt.Fprintf(w, "\nError\n  %s\n", cause)
	if seen != nil {
		seen.Write(w)
	}
}

// WriteEnd writes the end of a report, in columns for a tabwriter: the phases, the checks, and the
// verdict followed by more. A run without checks has reached none.
func WriteEnd(w io.Writer, ok bool, checks []Check, phases []progress.Phase, seconds float64, more string) {
	if len(phases) > 0 {
		fmt.Fprint(w, "\nTime\n")
		for _, p := range phases {
			fmt.Fprintf(w, "  %6.1f s\t%s\n", p.Seconds, p.Name)
		}
		fmt.Fprintf(w, "  %6.1f s\tin all\n", seconds)
	}
	if len(checks) == 0 {
		fmt.Fprintf(w, "\nNOT OK: no check was reached%s\n", more)
		return
	}
	fmt.Fprint(w, "\nChecks\n")
	held := 0
	for _, c := range checks {
		verdict := "FAILED"
		if c.OK {
			verdict = "ok"
			held++
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", verdict, c.Name, c.Detail)
	}
	verdict := "NOT OK"
	if ok {
		verdict = "OK"
	}
	fmt.Fprintf(w, "\n%s: %d of %d checks held%s\n", verdict, held, len(checks), more)
}

// counts lists counters, the largest first.
func counts(m map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return int(max(-1, min(1, int64(m[b])-int64(m[a]))))
		}
		return strings.Compare(a, b)
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, m[name])
	}
	return strings.Join(names, ", ")
}
