package idr

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Errors that those of this package match, with errors.Is. They say what has to change:
// the policy, or the host.
var (
	// ErrPolicy: the policy asks for something beyond the hosts or the device,
	// out of range, or in contradiction to another field.
	ErrPolicy = errors.New("the policy cannot be met")
	// ErrHost: a host cannot serve the guest, whatever the policy.
	ErrHost = errors.New("no fitting host")
)

// FieldError is what is wrong with one field. It matches ErrPolicy or ErrHost.
type FieldError struct {
	Field smmuv3.IDField
	// Asked is the value that the policy asks for, or that the guest has been
	// shown; 0 if neither comes into it.
	Asked uint32
	// Host is the value of the host, or what all hosts have in common.
	Host uint32
	// Reason says in words what stands against it.
	Reason string
	// Err is ErrPolicy or ErrHost.
	Err error
}

func (e *FieldError) Error() string {
	if e.Err == ErrHost {
		return fmt.Sprintf("idr: %v: %v is %d: %s", e.Err, e.Field, e.Host, e.Reason)
	}
	host := ""
	if int(e.Field) < len(rules) && rules[e.Field].meet != nil {
		host = fmt.Sprintf(", the host has %d", e.Host)
	}
	return fmt.Sprintf("idr: %v: it asks for %v %d%s: %s", e.Err, e.Field, e.Asked, host, e.Reason)
}

func (e *FieldError) Unwrap() error { return e.Err }
