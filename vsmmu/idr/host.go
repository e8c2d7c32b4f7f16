package idr

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// errZeroHost is the error of Capabilities that no host has.
var errZeroHost = fmt.Errorf("%w: its ID registers are zero (use the Capabilities that the host returns)", ErrHost)

// common returns the features that all hosts have, since any host may execute the guest's commands.
// lost has the reason for each feature that a host reports but the device cannot use.
func common(hosts []bridge.Capabilities) (all smmuv3.IDRegs, lost map[smmuv3.IDField]string, err error) {
	if len(hosts) == 0 {
		return all, nil, fmt.Errorf("%w: there is no host", ErrHost)
	}
	lost = make(map[smmuv3.IDField]string)
	for i, h := range hosts {
		if h.IDs == (smmuv3.IDRegs{}) {
			return all, nil, errZeroHost
		}
		for _, f := range smmuv3.IDFields() {
			r, v := &rules[f], h.IDs.Get(f)
			if r.meet != nil && hostReserved(f, h.IDs) {
				reason := fmt.Sprintf("host %d reports %v %d, a reserved value", i, f, v)
				if !r.optional {
					return all, nil, &FieldError{Field: f, Host: v, Err: ErrHost, Reason: reason}
				}
				if _, ok := lost[f]; !ok {
					lost[f] = reason
				}
				v = r.without
			}
			if i == 0 {
				all.Set(f, v)
				continue
			}
			m, ok := r.meetOrLeast(all.Get(f), v)
			if !ok {
				return all, nil, &FieldError{Field: f, Host: v, Err: ErrHost,
					Reason: fmt.Sprintf(
						"host %d reports %v %d, which is incompatible with %d, the value of the earlier hosts",
						i, f, v, all.Get(f))}
			}
			all.Set(f, m)
		}
	}
	if all.Has(smmuv3.S2P) && !usable(all).Has(smmuv3.S2P) {
		lost[smmuv3.S2P] = "a guest's stage 2 needs FWB, which not all hosts have"
	}
	return all, lost, nil
}

// hostReserved reports whether a host's value of a field is reserved.
func hostReserved(f smmuv3.IDField, host smmuv3.IDRegs) bool {
	const oas56, withOAS56 = 7, 4
	if f == smmuv3.OAS {
		return host.Get(f) == oas56 && host.Version() < withOAS56 // §6.3.6
	}
	return rules[f].isReserved(host.Get(f))
}

// usable returns the host's features that the device can use. The guest reads FWB together with
// stage 2, so the device cannot use a stage 2 without FWB.
func usable(host smmuv3.IDRegs) smmuv3.IDRegs {
	if !host.Has(smmuv3.FWB) {
		host.Set(smmuv3.S2P, 0)
	}
	return host
}

// offer returns the largest values that a guest may read, before dependencies: the features that
// the hosts and the device share, and the defaults of the device's own fields.
func offer(host smmuv3.IDRegs) (guest smmuv3.IDRegs, err error) {
	refuse := func(f smmuv3.IDField, why string) error {
		v := host.Get(f)
		return &FieldError{Field: f, Host: v, Err: ErrHost, Reason: fmt.Sprintf("%v is %d: %s", f, v, why)}
	}
	for _, f := range smmuv3.IDFields() {
		r := &rules[f]
		v, ok := r.offered(usable(host).Get(f))
		if !ok {
			return guest, refuse(f, r.whyRefused(usable(host).Get(f)))
		}
		guest.Set(f, v)
	}
	// The guest reads stalls only if the policy asks for them. If the hosts cannot stall, this is
	// no error.
	noStalls := guest
	noStalls.Set(smmuv3.StallModel, smmuv3.StallTerminate)
	if f, why, ok := unmet(noStalls); !ok {
		return guest, refuse(f, why)
	}
	return guest, nil
}

// Satisfies returns an error unless a host can execute all features that the guest reads. A host
// that is attached later must satisfy this. The error matches ErrHost and joins a *FieldError for
// each field that the host lacks.
func Satisfies(host bridge.Capabilities, guest smmuv3.IDRegs) error {
	if host.IDs == (smmuv3.IDRegs{}) {
		return errZeroHost
	}
	var short []error
	ids := usable(host.IDs)
	for _, f := range smmuv3.IDFields() {
		r, has, shown := &rules[f], ids.Get(f), guest.Get(f)
		if r.meet == nil {
			continue
		}
		reserved, note := hostReserved(f, ids), ""
		if reserved {
			note = ", a reserved value"
			has = r.without
		}
		offered, ok := r.offered(has)
		if reserved && !r.optional || !ok || !r.within(shown, offered) {
			short = append(short, &FieldError{Field: f, Asked: shown, Host: host.IDs.Get(f), Err: ErrHost,
				Reason: fmt.Sprintf("%v is %d%s, and the guest reads %d", f, host.IDs.Get(f), note, shown)})
		}
	}
	return errors.Join(short...)
}
