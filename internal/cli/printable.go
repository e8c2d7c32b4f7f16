package cli

import "strings"

// Printable replaces control characters by dots, so that untrusted text (a console, a transcript, a
// guest's message) does not control the terminal. Newlines and tabs stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}
