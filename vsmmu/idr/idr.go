// Package idr derives the identification registers that a guest reads: IDR0 to IDR5, IIDR and AIDR
// (IHI 0070 §6.3.1 to §6.3.8).
//
// A field is of one of two kinds:
//
//   - Hosts execute it. The guest reads the common value of all hosts and the device.
//   - The device decides it alone. The guest reads a default.
//
// A Policy overrides fields. It can lower a field of the first kind, and set a field of the second
// kind to any legal value. Derive then applies the architecture's rules between fields. AIDR and
// the features limit each other: a version promises its mandatory features (§6.3.4), and has no
// feature of the version after the next (§2.9). Result explains the value of every field.
//
// The rules are tables: rules.go has a row for each field, and depend.go has the dependencies
// between fields.
//
// All functions are pure: they depend on their arguments alone.
package idr

import (
	"maps"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Policy holds the fields that the embedder decides, each with the exact value that the guest
// reads, in the field's own encoding. A field without an entry takes its default; nil is a valid
// policy. The fields that embedders usually decide:
//
//	field              values       default  unit and meaning
//	SIDSIZE            0 to 32      16       bits of a StreamID; 16 or more with PCI
//	STLevel            0, 1         1        two-level stream tables
//	CMDQS, EVENTQS     0 to 19      8        log2 of the most entries; Linux needs 7 or more
//	PRIQS              0 to 19      8        the same for page requests, with PRI
//	MSI                0, 1         0        the device's interrupts may be messages, for FreeBSD
//	Implementer, Revision, Variant, ProductID  0: no implementer; drivers choose errata by them
//	OAS                0 to 6       hosts'   encoding of the output address size
//	SSIDSIZE           0 to 20      hosts'   bits of a SubstreamID
//	ATS                0, 1         hosts'   functions may request translations
//	PRI                0, 1         hosts'   functions may request pages
//	StallModel         0, 1         1        0: faults may stall, if all hosts can resume them
//	S2P                0, 1         0        1: a stage 2, for guests that are hypervisors
//	S1P                0, 1         hosts'   0: no stage 1, with S2P
//	NS1ATS             0, 1         hosts'   1: no split-stage ATS; must be 1 with ATS, S1P and S2P
//	TTENDIAN           0, 2, 3      hosts'   endianness of translation tables
//	HTTU, RIL, BBML …  up to the hosts'      features that hosts execute
//	ArchMinor          0 to 4       hosts'   1 for SMMUv3.1; at most 1 with both stages
//
// Derive refuses a value that exceeds the hosts or the device, or that contradicts another field.
// It also refuses a value other than 0 for a feature that no guest may read.
type Policy map[smmuv3.IDField]uint32

// Field explains the value of one field.
type Field struct {
	Field smmuv3.IDField
	// Host is the common value of all hosts. For a field that the device decides alone, it is the
	// least of the hosts' values, for information.
	Host uint32
	// Guest is the value that the guest reads.
	Guest uint32
	// Reason explains the guest's value.
	Reason string
}

// Result is the result of Derive.
type Result struct {
	// IDs are the registers for the guest.
	IDs smmuv3.IDRegs
	// Fields explains the registers: it has an entry for each of smmuv3.IDFields, in that order.
	Fields []Field
}

// Derive returns the registers for a guest with these hosts. There must be one host or more;
// emulated endpoints need a host, too. If a host reports a reserved value of an optional feature,
// Derive treats the host as one without the feature. The registers always pass Check.
//
// An error matches ErrPolicy or ErrHost. It is a *FieldError if a field is the cause.
func Derive(p Policy, hosts ...bridge.Capabilities) (Result, error) {
	host, lost, err := common(hosts)
	if err != nil {
		return Result{}, err
	}
	guest, err := offer(host)
	if err != nil {
		return Result{}, err
	}
	if err := p.apply(&guest, host, lost); err != nil {
		return Result{}, err
	}
	lowered, err := p.resolve(&guest, host)
	if err != nil {
		return Result{}, err
	}
	maps.Copy(lowered, lost)
	return Result{IDs: guest, Fields: p.explain(host, guest, lowered)}, nil
}

// apply replaces the values that hosts and device offer by the values of the policy.
func (p Policy) apply(guest *smmuv3.IDRegs, host smmuv3.IDRegs, lost map[smmuv3.IDField]string) error {
	for _, f := range slices.Sorted(maps.Keys(p)) {
		if int(f) >= len(rules) {
			return &FieldError{Field: f, Asked: p[f], Err: ErrPolicy, Reason: "no such field"}
		}
		asked, r := p[f], &rules[f]
		refuse := func(reason string) error {
			return &FieldError{Field: f, Asked: asked, Host: host.Get(f), Err: ErrPolicy, Reason: reason}
		}
		switch {
		case asked > f.Max() || r.isReserved(asked):
			return refuse(r.notAValue(f))
		case !r.within(asked, guest.Get(f)):
			if why, ok := lost[f]; ok {
				return refuse(why)
			}
			return refuse(r.whyRefused(asked))
		}
		guest.Set(f, asked)
	}
	for f := range rules {
		f := smmuv3.IDField(f)
		if _, asked := p[f]; !asked && rules[f].onRequest {
			guest.Set(f, rules[f].unasked)
		}
	}
	if f, why, ok := unmet(*guest); !ok {
		if _, asked := p[smmuv3.StallMax]; f == smmuv3.StallModel && asked {
			f = smmuv3.StallMax
		}
		return &FieldError{Field: f, Asked: guest.Get(f), Host: host.Get(f), Err: ErrPolicy, Reason: why}
	}
	return nil
}

// resolve lowers the fields that depend on others, and returns the reason for each. It never lowers
// a value that the policy asks for.
func (p Policy) resolve(guest *smmuv3.IDRegs, host smmuv3.IDRegs) (lowered map[smmuv3.IDField]string, err error) {
	lowered = make(map[smmuv3.IDField]string)
	for _, table := range [][]dependency{dependencies, preferences} {
		for i := range table {
			d := &table[i]
			limit := d.limit(*guest)
			if guest.Get(d.field) <= limit {
				continue
			}
			f := d.field
			if asked, ok := p[f]; ok {
				return nil, &FieldError{Field: f, Asked: asked, Host: host.Get(f), Err: ErrPolicy, Reason: d.reason()}
			}
			guest.Set(f, limit)
			lowered[f] = d.reason()
		}
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
			reason = "the policy asks for it; " + reason
		}
		fields = append(fields, Field{Field: f, Host: host.Get(f), Guest: guest.Get(f), Reason: reason})
	}
	return fields
}
