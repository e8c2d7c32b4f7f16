package idr

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Errors that the errors of this package match. They say what has to change: the policy or the
// host.
var (
	// ErrPolicy means that the policy, or the register set, asks for something that is out of
	// range, beyond the hosts or the device, or in contradiction to another field.
	ErrPolicy = errors.New("idr: policy cannot be met")
	// ErrHost means that a host cannot serve the guest, whatever the policy.
	ErrHost = errors.New("idr: host does not fit")
)

// FieldError says what is wrong with one field. It matches ErrPolicy or ErrHost.
type FieldError struct {
	Field smmuv3.IDField
	// Asked is the value that the policy asks for, or that the guest reads; 0 if neither plays a
	// part.
	Asked uint32
	// Host is the value of the host, or what all hosts have in common.
	Host uint32
	// Reason is the cause, as text.
	Reason string
	// Err is ErrPolicy or ErrHost.
	Err error

	check bool // by Check: there is no policy
}

func (e *FieldError) Error() string {
	switch {
	case e.Err == ErrHost:
		return fmt.Sprintf("%v: %s", ErrHost, e.Reason)
	case e.check:
		return fmt.Sprintf("idr: %v is %d: %s", e.Field, e.Asked, e.Reason)
	case int(e.Field) < len(rules) && rules[e.Field].meet != nil:
		return fmt.Sprintf("idr: policy asks for %v %d, the host has %d: %s", e.Field, e.Asked, e.Host, e.Reason)
	}
	return fmt.Sprintf("idr: policy asks for %v %d: %s", e.Field, e.Asked, e.Reason)
}

// Unwrap returns Err.
func (e *FieldError) Unwrap() error { return e.Err }

// reservedError says that a register has bits set that no field has.
type reservedError struct {
	register string
	bits     uint32
}

func (e *reservedError) Error() string {
	return fmt.Sprintf("idr: %s has reserved bits %#x set", e.register, e.bits)
}

func (*reservedError) Unwrap() error { return ErrPolicy }
