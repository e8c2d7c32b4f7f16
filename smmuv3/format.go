package smmuv3

import "fmt"

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// code.
func (o Opcode) Format(f fmt.State, verb rune) { formatCode(f, verb, o.String(), uint8(o)) }

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// code.
func (t EventType) Format(f fmt.State, verb rune) { formatCode(f, verb, t.String(), uint8(t)) }

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// code.
func (e CmdqErr) Format(f fmt.State, verb rune) { formatCode(f, verb, e.String(), uint32(e)) }

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// two words.
func (c Command) Format(f fmt.State, verb rune) { formatCode(f, verb, c.String(), [2]uint64(c)) }

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// four words.
func (e Event) Format(f fmt.State, verb rune) { formatCode(f, verb, e.String(), [4]uint64(e)) }

// Format implements fmt.Formatter: %v, %s and %q print what String returns, other verbs print the
// two words.
func (r PageRequest) Format(f fmt.State, verb rune) { formatCode(f, verb, r.String(), [2]uint64(r)) }

// formatCode prints text for the verbs of strings, and code for others and for %#v. Package fmt
// would print %x of a type with a String method as the hexadecimal of its text.
func formatCode(f fmt.State, verb rune, text string, code any) {
	format := fmt.FormatString(f, verb)
	if verb == 'v' && f.Flag('#') || verb != 'v' && verb != 's' && verb != 'q' {
		fmt.Fprintf(f, format, code)
		return
	}
	fmt.Fprintf(f, format, text)
}
