package idr

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Check returns an error unless a guest may read these registers: no reserved bit is set, the
// device or its hosts implement every value, and no field contradicts another. IDR4 may have any
// value: it is IMPLEMENTATION DEFINED.
//
// An error matches ErrPolicy. It is a *FieldError, except for reserved bits.
func Check(guest smmuv3.IDRegs) error { return check(guest, true) }

// CheckDevice checks registers as Check does, except for two rules. It allows features of the
// version after the next (§2.9), and SMMUv3.2 with both stages and without Hyp (§6.3.1). A device
// works without these rules, and transcripts and saved states may hold registers that break them.
func CheckDevice(guest smmuv3.IDRegs) error { return check(guest, false) }

func check(guest smmuv3.IDRegs, versions bool) error {
	if err := checkReservedBits(guest); err != nil {
		return err
	}
	refuse := func(f smmuv3.IDField, why string) error {
		return &FieldError{Field: f, Asked: guest.Get(f), Reason: why, Err: ErrPolicy, check: true}
	}
	for _, f := range smmuv3.IDFields() {
		r, v := &rules[f], guest.Get(f)
		switch {
		case r.isReserved(v):
			return refuse(f, r.notAValue(f))
		case r.meet != nil && !r.within(v, r.offer):
			return refuse(f, r.why)
		}
	}
	if f, why, ok := unmet(guest); !ok {
		return refuse(f, why)
	}
	for i := range dependencies {
		d := &dependencies[i]
		if d.version && !versions {
			continue
		}
		if guest.Get(d.field) > d.limit(guest) {
			return refuse(d.field, d.reason())
		}
	}
	return nil
}

func checkReservedBits(guest smmuv3.IDRegs) error {
	var defined smmuv3.IDRegs
	for _, f := range smmuv3.IDFields() {
		defined.Set(f, f.Max())
	}
	defined.IDR[4] = ^uint32(0) // §6.3.5
	for i, v := range guest.IDR {
		if bits := v &^ defined.IDR[i]; bits != 0 {
			return &reservedError{fmt.Sprintf("IDR%d", i), bits}
		}
	}
	if bits := guest.AIDR &^ defined.AIDR; bits != 0 {
		return &reservedError{"AIDR", bits}
	}
	return nil // IIDR has no reserved bits
}
