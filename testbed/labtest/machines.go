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
	// kernel has parameters of the guest's kernel.
	kernel string
	// refused, unless empty, is the only test: the kernel refuses the SMMU.
	refused string
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

// Patterns of tests: of bridge/iommufd, which need an SMMU with nested stages; those and the ones that use
// Linux's iommufd themselves; and the parts of the conformance suite that depend on the ID registers.
const (
	allTests = "^TestKernel"
	ownTests = "^Test(Kernel|Linux)"
	idTests  = "^TestKernelConformance$/^(Capabilities|Rejected|Granules|Permissions|Invalidate|Faults|Close)$"
	cdTests  = "^TestKernelConformance$/^(Capabilities|Rejected|Invalidate|Tables|Faults)$"
)

// noDMADomains keeps Linux with pages of 4 KiB from DMA domains, whose granule must not be larger:
// drivers/iommu/iova.c has a BUG_ON.
const noDMADomains = "iommu.passthrough=1"

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
	{name: machineOwn, what: "our SMMU", tests: ownTests, own: &own{}, alone: true},
	{
		name: "own-stalls", what: "our SMMU with stalls", alone: true,
		tests: idTests + "|^TestLinux(Forwards|Ends)",
		// Linux handles no stalls of an SMMU whose addresses are narrower than the CPU's, nor with
		// LPA2. It sets S2S and EATS for a device that has stalls and ATS, which is an illegal STE.
		own: &own{
			ids: IDs{"STALL_MODEL": 0, "STALL_MAX": 16, "OAS": 6, "VAX": 1, "DS": 1, "ATS": 0, "PRI": 0, "NS1ATS": 0},
			cpu: "lpa2=off",
		},
	},
	{
		name: "own-16k", what: "our SMMU with granules of 16 KiB alone",
		tests: "^" + testRefusesLargeGranules,
		own:   &own{ids: IDs{"GRAN4K": 0, "GRAN64K": 0}, kernel: noDMADomains, refused: testRefusesLargeGranules},
	},
	{
		name: "own-64k", what: "our SMMU with granules of 64 KiB alone",
		tests: "^" + testRefusesLargeGranules,
		own:   &own{ids: IDs{"GRAN4K": 0, "GRAN16K": 0}, kernel: noDMADomains, refused: testRefusesLargeGranules},
	},
	{
		name: "own-52", what: "our SMMU with addresses of 52 bits, DS and BBML 1", tests: idTests, alone: true,
		own: &own{ids: IDs{"OAS": 6, "VAX": 1, "DS": 1, "BBML": 1}},
	},
	{
		name: "own-lean", what: "our SMMU with one bit of SubstreamID, without RIL, BBML and HTTU", alone: true,
		tests: cdTests,
		own:   &own{ids: IDs{"SSIDSIZE": 1, "RIL": 0, "BBML": 0, "HTTU": 0, "TTENDIAN": 2}},
	},
	{
		name: "own-no-had", what: "our SMMU without HAD", tests: "^" + testRefusesWithoutCANWBS,
		own: &own{ids: IDs{"HAD": 0}, refused: testRefusesWithoutCANWBS},
	},
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
