package labtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/kerneltest"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/acpi"
)

// kernelChecks judge the tests of bridge/iommufd on QEMU's SMMU.
var kernelChecks = []check{
	{"the kernel shows a guest the physical SMMU's ID registers", ended(testKernelAcceptsOfferedStages),
		func(r *Report) (string, bool) {
			idr := r.SMMU.IDR
			return fmt.Sprintf("Linux %s, IDR0 to IDR5 %s", r.Kernel, strings.Join(idr[:], " ")), idr[0] != ""
		}},
	passed("any stage can replace any other",
		conformance+bridgetest.PartCapabilities, conformance+bridgetest.PartClaim,
		conformance+bridgetest.PartGuestIDs,
		conformance+bridgetest.PartStates, conformance+bridgetest.PartIdentity),
	passed("every CD table layout that the host offers works, and the others are rejected",
		conformance+bridgetest.PartTables, testKernelAcceptsOfferedStages, conformance+bridgetest.PartRejected),
	passed("DMA goes where the guest's tables map it",
		conformance+bridgetest.PartGranules, conformance+bridgetest.PartPermissions,
		conformance+bridgetest.PartTwoStreams, testKernelMemoryFollowsSlots),
	passed("no DMA uses invalidated configuration or translations after SYNC",
		conformance+bridgetest.PartInvalidate, conformance+bridgetest.PartInFlight, conformance+bridgetest.PartClose,
		testKernelInvalidatesBeforeStage1Translates),
	passed("faults carry the guest's StreamID",
		conformance+bridgetest.PartFaults, testKernelCDFetchOutsideMemoryAborts, testKernelCountsLostEvents),
	passed("a batch of commands takes one ioctl",
		testKernelBatchIsOneIoctl, testKernelAcceptsCommandsWithReservedBits),
	passed("a device does what a guest's driver writes to registers, queues and tables",
		testKernelDriverConfiguresDevice),
	passed("a saved SMMU continues on another host", testKernelSavedSMMUContinuesOnAnotherHost),
	passed("a device is not lost if the kernel refuses to destroy its vDEVICE", testKernelKeepsBusyVDevice),
	passed("a closed host leaves no object in the kernel", testKernelCloseLeavesNoObject),
	passed("the removal of a device during DMA affects no other device", testKernelDeviceRemovedDuringDMA),
}

// refusalChecks judge the tests of devices that bridge/iommufd refuses.
var refusalChecks = []check{
	passed("devices that cannot be passed through are refused with advice",
		testKernelRefusesWithAdvice, testKernelRefusesSharedGroup, testKernelRefusesUserWithoutPermission,
		testRefusesWithoutCANWBS, testRefusesStage1Alone, testRefusesStage2Alone, testRefusesIncoherentSMMU),
}

// vmmChecks judge the VMM's own tests.
var vmmChecks = []check{
	passed("the test VMM runs, reboots and ends guests",
		testMachineEndsAsTheGuestAsks, testMachineEndsWithItsContext, testMachineBootsAgainAfterAReset,
		testMachineInterrupts, testAccessThatCannotBeEmulatedEndsTheMachine),
}

// testChecks judge the tests of all machines.
var testChecks = []check{
	{"no test failed", func(r *Report) bool { return r.count(Fail) > 0 || r.reached >= testsEnded },
		func(r *Report) (string, bool) {
			n := r.count(Fail)
			return fmt.Sprintf("%d passed, %d failed, %d skipped", r.count(Pass), n, r.count(Skip)),
				n == 0 && r.count(Pass) > 0
		}},
	{"skipped tests need something that the machine lacks", func(r *Report) bool {
		return r.reached >= testsEnded || slices.ContainsFunc(r.Tests, unexplained)
	}, func(r *Report) (string, bool) {
		if i := slices.IndexFunc(r.Tests, unexplained); i >= 0 {
			return r.Tests[i].String(), false
		}
		return fmt.Sprintf("%d tests, listed above", r.count(Skip)), true
	}},
	{"no iommufd object leaked", func(r *Report) bool { return atEnd(r) || r.Figures.Objects > 0 },
		func(r *Report) (string, bool) {
			f := r.Figures
			return fmt.Sprintf("%d objects left by %d hosts after %d ioctls", f.Objects, f.Hosts, f.Ioctls),
				f.Objects == 0 && (f.Hosts > 0 || r.Only != "")
		}},
}

// passed returns the check that tests passed on QEMU's machines, were not skipped, and had no
// subtest that failed.
func passed(name string, tests ...string) check {
	return check{name, ended(tests...), func(r *Report) (string, bool) {
		parts := 0
		for _, test := range tests {
			outcome, subtests := r.outcome(test)
			if outcome != Pass {
				return fmt.Sprintf("%s: %s", test, outcome), false
			}
			parts += subtests
		}
		return fmt.Sprintf("passed: tests %d, subtests %d", len(tests), parts), true
	}}
}

// ended reports whether all of the tests have ended, or one of them has failed or was skipped.
func ended(tests ...string) func(*Report) bool {
	return func(r *Report) bool {
		all := true
		for _, test := range tests {
			switch outcome, _ := r.outcome(test); outcome {
			case Pass:
			case notRun:
				all = false
			default:
				return true
			}
		}
		return all
	}
}

// notRun is the outcome of a test that has not ended.
const notRun Outcome = "not run"

// outcome returns a test's outcome on QEMU's machines and the number of its subtests that passed. It
// is Fail as soon as a subtest fails.
func (r *Report) outcome(name string) (outcome Outcome, subtests int) {
	return outcomeOf(r.Tests, name, func(machine string) bool { return !isOwn(machine) })
}

// outcomeOf is outcome for some machines.
func outcomeOf(tests []Test, name string, on func(machine string) bool) (outcome Outcome, subtests int) {
	outcome = notRun
	for _, t := range tests {
		switch {
		case !on(t.Machine):
		case t.Name == name && outcome != Fail:
			outcome = t.Outcome
		case !strings.HasPrefix(t.Name, name+"/"):
		case t.Outcome == Pass:
			subtests++
		case t.Outcome == Fail:
			outcome = Fail
		}
	}
	return outcome, subtests
}

func (r *Report) count(o Outcome) (n int) {
	for _, t := range r.Tests {
		if t.Outcome == o {
			n++
		}
	}
	return n
}

// limits are prefixes of the reasons to skip a test if the emulated hardware lacks a feature.
var limits = []string{
	kerneltest.SkipQEMU,
	kerneltest.SkipLinux,
	bridgetest.SkipNoIDR0,
	bridgetest.SkipNoIDR3,
	bridgetest.SkipNoCallback,
	bridgetest.SkipNoRoom,
	bridgetest.SkipNoFeature,
	bridgetest.SkipHardware,
	bridgetest.SkipNoStage2,
	bridgetest.SkipNoStalls,
	bridgetest.SkipNoSubstreams,
	bridgetest.SkipNoRefetch,
	acpi.SkipNoIASL,
}

// unexplained reports whether a test was skipped for a reason that has none of the prefixes in
// limits.
func unexplained(t Test) bool {
	return t.Outcome == Skip &&
		!slices.ContainsFunc(limits, func(limit string) bool { return strings.HasPrefix(t.Reason, limit) })
}
