package labtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/ownsmmu"
)

// spec describes a machine of the lab.
type spec struct {
	name string // for -only and the report
	what string // completes "boot the host with"

	program program
	tests   string // pattern of the tests that run, for a program that has tests

	// The SMMU in front of the devices that the tests use. It is QEMU's if own is nil, and
	// otherwise this project's.
	stages string // of QEMU's SMMU
	iort   string // the archive that replaces the firmware's IORT: canWBS, incoherent, or none
	own    *own
	// alone makes the machine run only if -only names it.
	alone bool
}

// program is the user space of a machine.
type program int

const (
	kernelTests program = iota // package kerneltest
	vmmTests                   // the tests of package vmm
	theVMM                     // package vm
)

// own is this project's SMMU as the hardware.
type own struct {
	ids map[string]uint32 // fields of its ID registers that differ from the default
	cpu string            // properties of QEMU's processor, after those of every machine
}

// Values of the property stage of QEMU's SMMU.
const (
	stage1Only = "1"
	stage2Only = "2"
	bothStages = "nested"
)

// Replacements of the firmware's IORT. With canWBS the kernel nests stages. With incoherent the
// SMMU is not cache-coherent.
const (
	canWBS     = "CANWBS"
	incoherent = "not coherent"
)

// Names of machines.
const (
	machineIORT       = "qemu-iort"
	machineStage1     = "qemu-stage1"
	machineStage2     = "qemu-stage2"
	machineIncoherent = "qemu-incoherent"
	machineQEMU       = "qemu"
	machineVMM        = "vmm"
	machineGuest      = "guest"
	machineOwn        = "own"
)

// allTests matches the tests of bridge/iommufd that need an SMMU with nested stages.
const allTests = "^TestKernel"

// specs are the machines, in the order in which they run.
var specs = []spec{
	{
		name: machineIORT, what: "the firmware's IORT", stages: bothStages,
		tests: "^" + testRefusesWithoutCANWBS,
	},
	{
		name: machineStage1, what: "an SMMU with stage 1 alone", stages: stage1Only,
		tests: "^" + testRefusesStage1Alone,
	},
	{
		name: machineStage2, what: "an SMMU with stage 2 alone", stages: stage2Only,
		tests: "^" + testRefusesStage2Alone,
	},
	{
		name: machineIncoherent, what: "an SMMU that is not cache-coherent", stages: bothStages, iort: incoherent,
		tests: "^" + testRefusesIncoherentSMMU,
	},
	{name: machineQEMU, what: "QEMU's SMMU", stages: bothStages, iort: canWBS, tests: allTests},
	{name: machineOwn, what: "our SMMU", tests: allTests, own: &own{}, alone: true},
	{name: machineVMM, what: "KVM alone", program: vmmTests, stages: bothStages, tests: "^Test"},
	{name: machineGuest, what: "an NVMe disk", program: theVMM, stages: bothStages, iort: canWBS},
}

// runsAlone reports whether a machine runs only if -only names it.
func runsAlone(name string) bool {
	return slices.ContainsFunc(specs, func(s spec) bool { return s.alone && s.name == name })
}

// ownMachines returns the machines whose SMMU is this project's.
func ownMachines() []spec {
	return slices.DeleteFunc(slices.Clone(specs), func(s spec) bool { return s.own == nil })
}

// MachineNames returns the names of all machines, for people.
func MachineNames() string {
	var names []string
	for _, s := range specs {
		names = append(names, s.name)
	}
	return strings.Join(names, ", ")
}

// chosen returns the machines of a run: all but those that run alone, or the one that Options.Only
// names, with Options.IDs.
func (o *Options) chosen() ([]spec, error) {
	all := slices.Clone(specs)
	if o.Only == "" {
		all = slices.DeleteFunc(all, func(s spec) bool { return s.alone })
	} else {
		i := slices.IndexFunc(all, func(s spec) bool { return s.name == o.Only })
		if i < 0 {
			return nil, fmt.Errorf("no machine %q (-only takes one of %s)", o.Only, MachineNames())
		}
		all = all[i : i+1]
	}
	switch {
	case o.Run == "":
	case len(all) != 1 || all[0].program == theVMM:
		return nil, errors.New("-run needs -only with a machine that runs tests")
	case strings.ContainsFunc(o.Run, unicode.IsSpace):
		return nil, fmt.Errorf("-run %q: a kernel's command line takes no spaces", o.Run)
	default:
		all[0].tests = o.Run
	}
	if len(o.IDs) == 0 {
		return all, nil
	}
	if len(all) != 1 || all[0].own == nil {
		return nil, fmt.Errorf("-id needs -only with a machine whose SMMU is ours, such as -only %s", machineOwn)
	}
	s := all[0].with(o.IDs)
	if _, err := ownsmmu.Derive(s.own.ids); err != nil {
		return nil, fmt.Errorf("-id %v: %w", o.IDs, err)
	}
	return []spec{s}, nil
}

// cmdline returns the arguments of the program, after those of the kernel.
func (s *spec) cmdline() string {
	switch {
	case s.program == theVMM:
		return machine.VMRole
	case s.name == machineIORT:
		return machine.DumpIORT + " " + testFlags(s.tests)
	}
	return testFlags(s.tests)
}

// testFlags returns the flags that make a test binary run the tests of a pattern.
func testFlags(pattern string) string {
	return "-test.v=test2json -test.timeout=0 -test.run=" + pattern
}
