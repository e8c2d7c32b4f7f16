package cli

import "strings"

// Printable replaces control characters by dots, except newlines and tabs. Untrusted text, such as
// a guest's console or a transcript, then cannot control the terminal.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' && r != '\n' || r >= 0x7f && r < 0xa0 {
			return '.'
		}
		return r
	}, s)
}
