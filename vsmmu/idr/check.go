package idr

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// Check reports whether the device can be an SMMU with these registers, however
// they came about: every value has a meaning, is one that the device can carry
// out or pass on, and agrees with the others. The error matches ErrPolicy and is
// a *FieldError.
func Check(guest smmuv3.IDRegs) error {
	refuse := func(f smmuv3.IDField, why string) error {
		return &FieldError{Field: f, Asked: guest.Get(f), Reason: why, Err: ErrPolicy}
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
	for _, d := range dependencies {
		if guest.Get(d.field) > d.limit(guest) {
			return refuse(d.field, d.reason())
		}
	}
	return nil
}
