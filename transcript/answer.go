package transcript

import (
	"errors"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// sentinels are the errors that a device, or whoever reads a transcript, tells
// apart. A transcript has them as bits, so that their order is part of the
// format: new ones go to the end.
var sentinels = []error{
	guestmem.ErrUnmapped, guestmem.ErrReadOnly,
	bridge.ErrRejected, bridge.ErrGone, bridge.ErrInUse, bridge.ErrEndpoint, bridge.ErrClosed,
	bridge.ErrATCTimeout,
}

// maxText bounds the text of an error, a note or a reason, in bytes.
const maxText = 1 << 10

// Error is an error that a recorded call returned: its text, and which of the
// errors of packages guestmem and bridge it matched.
type Error struct {
	Text    string
	matches uint32 // bits, by sentinels
}

// newError is what is recorded of an error. nil stays nil.
func newError(err error) *Error {
	if err == nil {
		return nil
	}
	e := &Error{Text: short(err.Error())}
	for i, s := range sentinels {
		if errors.Is(err, s) {
			e.matches |= 1 << i
		}
	}
	return e
}

func short(s string) string { return s[:min(len(s), maxText)] }

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

// err is the error as an interface, which is nil where there was none.
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
	}
	num(c, &(*v).matches)
	c.text(&(*v).Text)
}
