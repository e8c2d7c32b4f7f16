package smmuv3

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/internal/verbs"
)

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// code.
func (o Opcode) Format(f fmt.State, verb rune) { verbs.Code(f, verb, o.String(), uint8(o)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// code.
func (t EventType) Format(f fmt.State, verb rune) { verbs.Code(f, verb, t.String(), uint8(t)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// code.
func (e CmdqErr) Format(f fmt.State, verb rune) { verbs.Code(f, verb, e.String(), uint32(e)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// two words.
func (c Command) Format(f fmt.State, verb rune) { verbs.Code(f, verb, c.String(), [2]uint64(c)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// four words.
func (e Event) Format(f fmt.State, verb rune) { verbs.Code(f, verb, e.String(), [4]uint64(e)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// two words.
func (r PageRequest) Format(f fmt.State, verb rune) { verbs.Code(f, verb, r.String(), [2]uint64(r)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (c Class) Format(f fmt.State, verb rune) { verbs.Code(f, verb, c.String(), uint8(c)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (c CompletionSignal) Format(f fmt.State, verb rune) { verbs.Code(f, verb, c.String(), uint8(c)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (e EATS) Format(f fmt.State, verb rune) { verbs.Code(f, verb, e.String(), uint8(e)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (i IDField) Format(f fmt.State, verb rune) { verbs.Code(f, verb, i.String(), uint8(i)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (r PRGResponse) Format(f fmt.State, verb rune) { verbs.Code(f, verb, r.String(), uint8(r)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (l S1Fmt) Format(f fmt.State, verb rune) { verbs.Code(f, verb, l.String(), uint8(l)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (d S1DSS) Format(f fmt.State, verb rune) { verbs.Code(f, verb, d.String(), uint8(d)) }

// Format implements fmt.Formatter: %v, %s and %q print the text of String, other verbs print the
// number.
func (c STEConfig) Format(f fmt.State, verb rune) { verbs.Code(f, verb, c.String(), uint8(c)) }
