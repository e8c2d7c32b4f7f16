package iommulab

import (
	"fmt"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/internal/report"
)

// limits are the beginnings of reasons for which tests may be skipped: what the emulated hardware does not have. A test that
// is skipped for another has not been looked at by anyone, and is a failure.
var limits = []string{
	"QEMU: ",
	"the host has no IDR0.CD2L",
	"the host does not have it",
	"the devices have no SubstreamIDs",
}

// checks is all that has to hold. Each says what it saw, and whether that is how it should be.
var checks = []struct {
	name  string
	judge func(*Report) (detail string, ok bool)
}{
	{"the host's kernel lets a guest have its SMMU", func(r *Report) (string, bool) {
		return fmt.Sprintf("Linux %s, IDR0 to IDR5 %s", r.Kernel, strings.Join(r.SMMU.IDR[:], " ")), r.SMMU.IDR[0] != ""
	}},
	{"every state of the thread, from each to each", passed("TestKernelConformance/Capabilities", "TestKernelConformance/States", "TestKernelConformance/Identity")},
	{"every layout of a CD table that the host has; the others refused by name", passed("TestKernelConformance/Tables", "TestKernelTakesWhatTheHostOffers", "TestKernelConformance/Rejected")},
	{"DMA lands where the guest's tables say", passed("TestKernelConformance/Granules", "TestKernelConformance/Permissions", "TestKernelConformance/TwoStreams", "TestKernelMemoryFollowsSlots")},
	{"what is withdrawn is out of reach after SYNC", passed("TestKernelConformance/Invalidate", "TestKernelConformance/UnderWay", "TestKernelConformance/Close")},
	{"faults arrive with the guest's StreamID", passed("TestKernelConformance/Faults", "TestKernelCDOutsideMemory", "TestKernelCountsLostEvents")},
	{"a batch of commands is one request", passed("TestKernelOneRequestABatch", "TestKernelTakesCommandsOfAnyGuest")},
	{"the whole device, from the guest's registers to DMA and back", passed("TestKernelWholeDevice")},
	{"what cannot be passed through is refused, with what to do", passed("TestKernelRefusals", "TestKernelSharedGroup")},
	{"no test failed", func(r *Report) (string, bool) {
		n := r.count(Fail)
		return fmt.Sprintf("%d passed, %d failed, %d not run", r.count(Pass), n, r.count(Skip)), n == 0 && r.count(Pass) > 0
	}},
	{"what was not run is beyond the emulated hardware", func(r *Report) (string, bool) {
		for _, t := range r.Tests {
			if t.Outcome == Skip && !t.limited() {
				return t.String(), false
			}
		}
		return fmt.Sprintf("%d tests: listed above", r.count(Skip)), true
	}},
	{"every iommufd object is gone", func(r *Report) (string, bool) {
		return fmt.Sprintf("%d left by %d hosts, after %d ioctls", r.Figures.Objects, r.Figures.Hosts, r.Figures.Ioctls),
			r.Figures.Objects == 0 && r.Figures.Hosts > 0
	}},
	{"the host's kernel has nothing to complain of", func(r *Report) (string, bool) {
		if len(r.Warnings) > 0 {
			return fmt.Sprintf("%d lines, the first: %s", len(r.Warnings), r.Warnings[0]), false
		}
		return "its log shows no warning", true
	}},
}

// Judge makes the checks. A run with an error is not OK, whatever the checks say.
func (r *Report) Judge() {
	r.Checks = nil
	r.OK = r.Error == ""
	for _, c := range checks {
		detail, ok := c.judge(r)
		r.Checks = append(r.Checks, report.Check{Name: c.name, OK: ok, Detail: detail})
		r.OK = r.OK && ok
	}
}

// passed is a check that tests passed, and all of what they consist of that was run.
func passed(names ...string) func(*Report) (string, bool) {
	return func(r *Report) (string, bool) {
		parts := 0
		for _, name := range names {
			outcome := Outcome("not run")
			for _, t := range r.Tests {
				switch {
				case t.Name == name:
					outcome = t.Outcome
				case strings.HasPrefix(t.Name, name+"/") && t.Outcome == Pass:
					parts++
				}
			}
			if outcome != Pass {
				return fmt.Sprintf("%s: %s", name, outcome), false
			}
		}
		return fmt.Sprintf("%d tests, of %d parts", len(names), parts), true
	}
}

func (r *Report) count(o Outcome) (n int) {
	for _, t := range r.Tests {
		if t.Outcome == o {
			n++
		}
	}
	return n
}

// limited tells whether a test was skipped for what the emulated hardware does not have.
func (t Test) limited() bool {
	for _, limit := range limits {
		if strings.HasPrefix(t.Reason, limit) {
			return true
		}
	}
	return false
}
