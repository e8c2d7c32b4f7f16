package transcript

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// sentinels are the errors that devices and readers of a transcript distinguish. A transcript
// stores them as bits in this order, so new ones go to the end.
var sentinels = []error{
	guestmem.ErrUnmapped, guestmem.ErrReadOnly,
	bridge.ErrRejected, bridge.ErrGone, bridge.ErrInUse, bridge.ErrEndpoint, bridge.ErrClosed,
	bridge.ErrATCTimeout,
}

// maxText bounds the text of an error, a note or a title, in bytes.
const maxText = 1 << 10

// Error is the error of a recorded call: its text, and which errors of packages guestmem and bridge
// it matched.
type Error struct {
	Text    string
	matches uint32 // bits, by sentinels
}

// newError returns err as it is recorded, nil for nil.
func newError(err error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Text: textOf(err)}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			e.matches |= 1 << i
		}
	}
	return e
}

// textOf returns the text of an error. It does not panic if the error is a nil pointer.
func textOf(err error) string { return short(fmt.Sprint(err)) }

// short cuts s at maxText bytes.
func short(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") // without half a rune at the end
}

func (e *Error) Error() string { return e.Text }

// Is reports whether the recorded error matched the target.
func (e *Error) Is(target error) bool {
	for i, s := range sentinels {
		if s == target {
			return e.matches>>i&1 != 0
		}
	}
	return false
}

// err returns e as an error, nil for nil.
func (e *Error) err() error {
	if e == nil {
		return nil
	}
	return e
}

func (c *coder) error(v **Error) {
	failed := *v != nil
	c.bool(&failed)
	if !failed {
		*v = nil
		return
	}
	if c.decode {
		*v = new(Error)
		c.kept += uint64(unsafe.Sizeof(Error{}))
	}
	num(c, &(*v).matches)
	c.text(&(*v).Text)
}
