package idr

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// common is what all hosts have: any of them may come to carry out what the
// guest was shown.
func common(hosts []bridge.Capabilities) (smmuv3.IDRegs, error) {
	if len(hosts) == 0 {
		return smmuv3.IDRegs{}, fmt.Errorf("idr: %w: there is none", ErrHost)
	}
	all := hosts[0].IDs
	for i, h := range hosts {
		for _, f := range smmuv3.IDFields() {
			r, v := &rules[f], h.IDs.Get(f)
			if r.meet != nil && r.isReserved(v) {
				return all, &FieldError{Field: f, Host: v, Err: ErrHost,
					Reason: fmt.Sprintf("that of host %d is reserved", i)}
			}
			m, ok := r.meetOrLeast(all.Get(f), v)
			if !ok {
				return all, &FieldError{Field: f, Host: v, Err: ErrHost,
					Reason: fmt.Sprintf("that of host %d has nothing in common with those before it", i)}
			}
			all.Set(f, m)
		}
	}
	return all, nil
}

// usable is what of an SMMU can be shown. FWB is the device's own to show, and
// controls stage 2: a host whose stage 2 lacks it is one without.
func usable(host smmuv3.IDRegs) smmuv3.IDRegs {
	if !host.Has(smmuv3.FWB) {
		host.Set(smmuv3.S2P, 0)
	}
	return host
}

// offer is the most that a guest may be shown, before dependencies: what the
// hosts and the device carry out, and the defaults of what is the device's own.
func offer(host smmuv3.IDRegs) (guest smmuv3.IDRegs, err error) {
	for _, f := range smmuv3.IDFields() {
		r := &rules[f]
		v, ok := r.offered(usable(host).Get(f))
		if !ok {
			return guest, &FieldError{Field: f, Host: host.Get(f), Err: ErrHost, Reason: r.why}
		}
		guest.Set(f, v)
	}
	if f, why, ok := unmet(guest); !ok {
		return guest, &FieldError{Field: f, Host: host.Get(f), Err: ErrHost, Reason: why}
	}
	return guest, nil
}

// Satisfies reports whether a host can carry out all that a guest has already
// been shown, as a host must that joins later. The error matches ErrHost and
// wraps a *FieldError for each field in which the host falls short.
func Satisfies(host bridge.Capabilities, guest smmuv3.IDRegs) error {
	var short []error
	ids := usable(host.IDs)
	for _, f := range smmuv3.IDFields() {
		r, has, shown := &rules[f], ids.Get(f), guest.Get(f)
		if r.meet == nil {
			continue
		}
		offered, ok := r.offered(has)
		if !ok || r.isReserved(has) || !r.within(shown, offered) {
			short = append(short, &FieldError{Field: f, Asked: shown, Host: has, Err: ErrHost,
				Reason: fmt.Sprintf("the guest has been shown %d", shown)})
		}
	}
	return errors.Join(short...)
}
