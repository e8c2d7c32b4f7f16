package labtest

import (
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// check is a statement that must be true.
type check struct {
	name string // the statement
	// reached reports whether a run that ended early has seen enough for a verdict: all that the
	// check needs, or an error.
	reached func(*Report) bool
	// judge returns the observation, and whether it is right.
	judge func(*Report) (detail string, ok bool)
}

// section is a list of checks that needs certain machines.
type section struct {
	machines []string // all of them; none means that any machine will do
	checks   []check
}

// sections are all checks.
var sections = slices.Concat(
	[]section{
		{[]string{machineQEMU}, kernelChecks},
		{[]string{machineQEMU, machineIORT, machineStage1, machineStage2, machineIncoherent}, refusalChecks},
		{[]string{machineVMM}, vmmChecks},
	},
	ownSections(),
	[]section{
		{nil, testChecks},
		{[]string{machineGuest}, slices.Concat(guestChecks, readChecks)},
		{nil, logChecks},
	},
)

// checks returns the checks of the machines that were to run.
func (r *Report) checks() (all []check) {
	missing := func(name string) bool { return name != r.Only }
	if r.Only == "" {
		missing = runsAlone
	}
	for _, s := range sections {
		if !slices.ContainsFunc(s.machines, missing) {
			all = append(all, s.checks...)
		}
	}
	return all
}

// Judge makes the checks. A run that ended early is not OK. Judge makes only the checks that such a
// run reached: all others would fail for the reason in Error.
func (r *Report) Judge() {
	r.Checks, r.NotReached = nil, nil
	r.Speed = speedOf(r.Guest.fastest(guest.ReadStrict), r.Guest.fastest(guest.ReadBypass))
	r.OK = r.Error == ""
	for _, c := range r.checks() {
		if r.Error != "" && !c.reached(r) {
			r.NotReached = append(r.NotReached, c.name)
			continue
		}
		detail, ok := c.judge(r)
		r.Checks = append(r.Checks, report.Check{Name: c.name, OK: ok, Detail: detail})
		r.OK = r.OK && ok
	}
}

// atEnd is the reached function of a check that needs all messages of the VMM.
func atEnd(r *Report) bool { return r.reached == guestEnded }
