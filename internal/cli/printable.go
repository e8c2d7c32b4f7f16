package cli

import "strings"

// Printable replaces control characters by dots, so that text from a stranger (a console, a
// transcript, a guest's message) gives the terminal no orders. Newlines and tabs stay.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}
