// Package idr derives what a guest reads in the identification registers of
// its SMMUv3, IDR0 to IDR5, IIDR and AIDR (IHI 0070 §6.3.1 to §6.3.8), from
// what the hosts behind it can carry out and from what the embedder asks for.
//
// A field is one of two things. Either hosts carry it out, and the guest is
// shown what all of them and the device itself have in common; or it is the
// device's own affair, with a default. The embedder's Policy may choose less of
// the former, and anything legal of the latter. Dependencies between fields are
// kept, AIDR's promise about IDR3 among them. The table of rules, one row for
// each field, is in rules.go; the dependencies are in depend.go.
//
// Everything here is a pure function of its arguments.
package idr

import (
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Policy holds the fields that the embedder decides, each with exactly the
// value that the guest shall read, in the field's own encoding. A field without
// an entry takes its default, and so nil is a policy. Most worth a decision:
//
//	field              values       default  unit and meaning
//	SIDSIZE            0 to 32      16       bits of a StreamID; with PCI at least 16
//	STLevel            0, 1         1        two-level stream tables
//	CMDQS, EVENTQS     0 to 19      8        log2 of the most entries; Linux wants CMDQS of 7 or more
//	PRIQS              0 to 19      8        the same for page requests, with PRI
//	MSI                0, 1         0        the device's own interrupts may be messages; FreeBSD wants them
//	Implementer, Revision, Variant, ProductID  0: nobody's; what drivers choose errata by
//	OAS                0 to 6       hosts'   encoding of the output address size, the guest's physical one
//	SSIDSIZE           0 to 20      hosts'   bits of a SubstreamID
//	ATS                0, 1         hosts'   devices may ask for translations
//	PRI                0, 1         hosts'   devices may ask for pages
//	StallModel         0, 1         1        0: faults may stall, where all hosts can resume them
//	S2P                0, 1         0        1: a stage 2 for guests that are hypervisors themselves
//	S1P                0, 1         hosts'   0: with S2P, an SMMU that has no stage 1
//	TTENDIAN           0, 2, 3      hosts'   endianness of translation tables
//	HTTU, RIL, BBML …  up to the hosts'      features that hosts carry out
//	ArchMinor          0 to 4       hosts'   the version, 1 for SMMUv3.1, as far as IDR3 keeps its promise
//
// What goes beyond the hosts or the device, or against another field, is an
// error, as is anything but 0 for what a guest is never shown.
type Policy map[smmuv3.IDField]uint32

// Field is what became of one field of the identification registers.
type Field struct {
	Field smmuv3.IDField
	// Host is what all hosts have in common. For a field that hosts are not
	// asked about it is the least of their values, for information.
	Host uint32
	// Guest is what the guest reads.
	Guest uint32
	// Reason says in words why.
	Reason string
}

// Result is what Derive made.
type Result struct {
	// IDs are the registers for the guest.
	IDs smmuv3.IDRegs
	// Fields explain them, one for each of smmuv3.IDFields and in that order.
	Fields []Field
}

// Derive makes the guest's identification registers. There must be a host: one
// for emulated endpoints is a host too.
//
// An error matches ErrPolicy or ErrHost, and is a *FieldError where there is a
// field to blame.
func Derive(p Policy, hosts ...bridge.Capabilities) (Result, error) {
	host, err := common(hosts)
	if err != nil {
		return Result{}, err
	}
	guest, err := offer(host)
	if err != nil {
		return Result{}, err
	}
	if err := p.apply(&guest, host); err != nil {
		return Result{}, err
	}
	lowered, err := p.settle(&guest, host)
	if err != nil {
		return Result{}, err
	}
	return Result{IDs: guest, Fields: p.explain(host, guest, lowered)}, nil
}

// apply puts the policy's values in place of those that the hosts and the
// device offer.
func (p Policy) apply(guest *smmuv3.IDRegs, host smmuv3.IDRegs) error {
	for _, f := range slices.Sorted(maps.Keys(p)) {
		if int(f) >= len(rules) {
			return &FieldError{Field: f, Asked: p[f], Err: ErrPolicy, Reason: "there is no such field"}
		}
		asked, r := p[f], &rules[f]
		refuse := func(reason string) error {
			return &FieldError{Field: f, Asked: asked, Host: host.Get(f), Err: ErrPolicy, Reason: reason}
		}
		switch {
		case asked > f.Max() || r.isReserved(asked):
			return refuse(r.notAValue(f))
		case !r.within(asked, guest.Get(f)):
			return refuse(r.why)
		}
		guest.Set(f, asked)
	}
	for f := range rules {
		f := smmuv3.IDField(f)
		if _, asked := p[f]; !asked && rules[f].opt {
			guest.Set(f, rules[f].unasked)
		}
	}
	if f, why, ok := unmet(*guest); !ok {
		return &FieldError{Field: f, Asked: guest.Get(f), Host: host.Get(f), Err: ErrPolicy, Reason: why}
	}
	return nil
}

// settle lowers the fields that depend on others, and returns why for each that
// it lowered. What the policy asked for is never lowered.
func (p Policy) settle(guest *smmuv3.IDRegs, host smmuv3.IDRegs) (map[smmuv3.IDField]string, error) {
	lowered := make(map[smmuv3.IDField]string)
	for _, d := range dependencies {
		limit := d.limit(*guest)
		if guest.Get(d.field) <= limit {
			continue
		}
		if asked, ok := p[d.field]; ok {
			return nil, &FieldError{Field: d.field, Asked: asked, Host: host.Get(d.field), Err: ErrPolicy, Reason: d.reason()}
		}
		guest.Set(d.field, limit)
		lowered[d.field] = d.reason()
	}
	return lowered, nil
}

func (p Policy) explain(host, guest smmuv3.IDRegs, lowered map[smmuv3.IDField]string) []Field {
	fields := make([]Field, 0, len(rules))
	for _, f := range smmuv3.IDFields() {
		reason, ok := lowered[f]
		if !ok {
			reason = rules[f].why
		}
		if _, ok := p[f]; ok {
			reason = "as the policy asks; " + reason
		}
		fields = append(fields, Field{Field: f, Host: host.Get(f), Guest: guest.Get(f), Reason: reason})
	}
	return fields
}
