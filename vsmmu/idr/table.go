package idr

import (
	"fmt"
	"strings"
)

// Table returns Fields as aligned text, with a heading and a line for each field.
func (r Result) Table() string {
	const row = "%-4s  %-14v  %5v  %5v  %s\n"
	var b strings.Builder
	fmt.Fprintf(&b, row, "", "field", "host", "guest", "reason")
	for _, f := range r.Fields {
		fmt.Fprintf(&b, row, f.Field.Register(), f.Field, f.Host, f.Guest, f.Reason)
	}
	return b.String()
}
