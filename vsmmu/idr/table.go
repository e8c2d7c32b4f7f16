package idr

import (
	"fmt"
	"strings"
)

// Table is Fields as text for people, aligned, a line each under a heading.
func (r Result) Table() string {
	const row = "%-4s  %-14v  %5v  %5v  %s\n"
	var b strings.Builder
	fmt.Fprintf(&b, row, "", "field", "host", "guest", "reason")
	for _, f := range r.Fields {
		fmt.Fprintf(&b, row, f.Field.Register(), f.Field, f.Host, f.Guest, f.Reason)
	}
	return b.String()
}
