package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// Tables has the boots of a guest by several ACPI tables.
type Tables struct {
	// OK is true if every check of every boot holds and there is no Error.
	OK bool `json:"ok"`
	// Error says why not all guests booted; empty if they did.
	Error    string             `json:"error,omitempty"`
	LastSeen *progress.LastSeen `json:"last_seen,omitempty"` // as in a Report
	Boots    []TableBoot        `json:"boots"`

	Accel   string           `json:"accel"` // as in a Report
	Phases  []progress.Phase `json:"phases"`
	Seconds float64          `json:"seconds"`
}

// TableBoot is the boot of a guest by one table.
type TableBoot struct {
	Name  string `json:"name"`
	About string `json:"about"` // what is particular about the table
	*Report
}

// Judge makes the checks of all boots.
func (t *Tables) Judge() {
	t.OK = t.Error == "" && len(t.Boots) > 0
	for _, b := range t.Boots {
		b.Judge()
		t.OK = t.OK && b.OK
	}
}

// Summary writes a text form of the report: a line for each table, and the checks that failed.
func (t *Tables) Summary(w io.Writer) error {
	var text strings.Builder
	rows := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	checks, held := 0, 0
	fmt.Fprint(rows, "\nTables\n")
	for _, b := range t.Boots {
		verdict, good := "FAILED", 0
		if b.OK {
			verdict = "ok"
		}
		for _, c := range b.Checks {
			if c.OK {
				good++
			}
		}
		checks, held = checks+len(b.Checks), held+good
		fmt.Fprintf(rows, "  %s\t%s\t%s\t%d of %d checks\n", verdict, b.Name, b.About, good, len(b.Checks))
		if b.Error != "" {
			fmt.Fprintf(rows, "  \t\t  %s\n", b.Error)
		}
		for _, c := range b.Checks {
			if !c.OK {
				fmt.Fprintf(rows, "  \t\t  FAILED: %s: %s\n", c.Name, c.Detail)
			}
		}
	}
	WriteError(rows, t.Error, t.LastSeen)
	verdict := "NOT OK"
	if t.OK {
		verdict = "OK"
	}
	fmt.Fprintf(rows, "\n%s: %d tables, %d of %d checks held, %.1f s\n", verdict, len(t.Boots), held, checks, t.Seconds)
	if err := rows.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(w, cli.Printable(text.String()))
	return err
}
