package idr

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Every error of this package matches ErrPolicy or ErrHost: an invalid policy, or an unsuitable
// host.
var (
	// ErrPolicy means that a value of the policy, or of the register set, is out of range, exceeds
	// the hosts or the device, or contradicts another field.
	ErrPolicy = errors.New("idr: policy cannot be met")
	// ErrHost means that a host cannot serve the guest with any policy.
	ErrHost = errors.New("idr: host does not fit")
)

// FieldError is the error of one field. It matches ErrPolicy or ErrHost.
type FieldError struct {
	Field smmuv3.IDField
	// Asked is the value that the policy asks for, or that the guest reads. It is 0 if neither
	// applies.
	Asked uint32
	// Host is the value of the host, or the common value of all hosts.
	Host uint32
	// Reason is the cause, as text.
	Reason string
	// Err is ErrPolicy or ErrHost.
	Err error

	check bool // set by Check, which has no policy
}

func (e *FieldError) Error() string {
	switch {
	case errors.Is(e.Err, ErrHost):
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

// reservedError means that a register has reserved bits set.
type reservedError struct {
	register string
	bits     uint32
}

func (e *reservedError) Error() string {
	return fmt.Sprintf("idr: %s has reserved bits %#x set", e.register, e.bits)
}

func (*reservedError) Unwrap() error { return ErrPolicy }
