// Package verbs prints values that have a text and a number. Package fmt would print %x of such a
// value as the hexadecimal of its text.
package verbs

import (
	"fmt"
	"strings"
)

// Code prints the text for the verbs of strings (%v, %s, %q), and the code for the others and for
// %#v.
func Code(f fmt.State, verb rune, text string, code any) {
	format := fmt.FormatString(f, verb)
	if verb == 'v' && f.Flag('#') || verb != 'v' && verb != 's' && verb != 'q' {
		fmt.Fprintf(f, format, code)
		return
	}
	fmt.Fprintf(f, format, text)
}

// ID prints a number as %#x for %v and %s, with the same width and precision.
func ID(f fmt.State, verb rune, id uint64) {
	format := fmt.FormatString(f, verb)
	if verb == 'v' || verb == 's' {
		rest := strings.Trim(format, "%vs")
		format = "%#" + strings.NewReplacer("#", "", "+", "", " ", "").Replace(rest) + "x"
	}
	fmt.Fprintf(f, format, id)
}
