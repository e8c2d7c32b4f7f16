package labtest

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// Report is the result of a run of the lab.
type Report struct {
	// OK is true only if every check held.
	OK bool `json:"ok"`
	// Error says why the lab ended early; empty if it did not.
	Error string `json:"error,omitempty"`
	// LastSeen has the last lines before the Error.
	LastSeen *progress.LastSeen `json:"last_seen,omitempty"`
	Checks   []report.Check     `json:"checks"`
	// NotReached names the checks that the lab did not reach.
	NotReached []string `json:"not_reached,omitempty"`

	Only   string `json:"only,omitempty"` // the one machine that was to run; empty for all
	Kernel string `json:"kernel"`         // the host's release, as uname -r prints it
	QEMU   string `json:"qemu"`           // the version
	// SMMU has the ID registers of the physical SMMU, as the host's kernel reports them.
	SMMU  SMMU   `json:"smmu"`
	Tests []Test `json:"tests"`
	// Matrix has the outcomes of tests by machine.
	Matrix Matrix `json:"matrix"`
	// Own has what this project's SMMU did, in the machines in which it is the hardware.
	Own   []Own `json:"own_smmu,omitempty"`
	Guest Guest `json:"guest"`
	Speed Speed `json:"nvme_speed"`
	// Figures are the sums over all hosts.
	Figures Figures `json:"figures"`
	// Warnings are the complaints in the logs of both kernels, at most maxWarnings.
	Warnings []string `json:"warnings"`

	Phases  []progress.Phase `json:"phases"`
	Seconds float64          `json:"seconds"` // wall time of all phases

	reached milestone
}

// Own is what this project's SMMU did as the hardware of a machine.
type Own struct {
	Machine string `json:"machine"`
	machine.Own
}

// milestone is the last point that a run reached.
type milestone int

const (
	testsEnded milestone = iota + 1 // in all machines
	guestEnded                      // the VMM has sent its last message
)

// SMMU has ID registers, in hexadecimal.
type SMMU struct {
	IDR  [6]string `json:"idr"`
	IIDR string    `json:"iidr"`
	AIDR string    `json:"aidr"`
}

func smmuOf(s *machine.SMMU) SMMU {
	hex := func(v uint32) string { return fmt.Sprintf("%08x", v) }
	out := SMMU{IIDR: hex(s.IIDR), AIDR: hex(s.AIDR)}
	for i, v := range s.IDR {
		out.IDR[i] = hex(v)
	}
	return out
}

// Figures are sums over several hosts.
type Figures struct {
	Hosts int `json:"hosts"`
	machine.Figures
}

func (f *Figures) add(of *machine.Figures) {
	f.Hosts++
	f.Ioctls += of.Ioctls
	f.Invalidations += of.Invalidations
	f.Commands += of.Commands
	f.Events += of.Events
	f.EventsLost += of.EventsLost
	f.EventsWithheld += of.EventsWithheld
	f.EventErrors += of.EventErrors
	f.Objects += of.Objects
}
