package labtest

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// readIORT boots a machine with the firmware's own IORT, reads the table, and patches it. It also
// runs the test of a host that refuses devices without CANWBS.
func (l *lab) readIORT(ctx context.Context, tests []byte) error {
	var table []byte
	cmdline := machine.DumpIORT + " " + testFlags("^"+testRefusesWithoutCANWBS)
	err := l.runTests(ctx, l.eduMachine(bothStages, tests, cmdline), func(m machine.Message) {
		if m.IORT != nil {
			table = m.IORT
		}
	})
	if err != nil {
		return err
	}
	if l.incoherent, err = iortArchive(table, Incoherent); err != nil {
		return err
	}
	l.iort, err = iortArchive(table, CanWBS)
	return err
}

// runRefusing runs the tests of hosts that refuse a device, on machines whose SMMU cannot nest.
func (l *lab) runRefusing(ctx context.Context, tests []byte) error {
	for _, unfit := range []struct {
		what, stages string
		iort         []byte
		test         string
	}{
		{"an SMMU with stage 1 alone", stage1Only, nil, testRefusesStage1Alone},
		{"an SMMU with stage 2 alone", stage2Only, nil, testRefusesStage2Alone},
		{"an SMMU that is not cache-coherent", bothStages, l.incoherent, testRefusesIncoherentSMMU},
	} {
		l.progress.Stage("boot the host with " + unfit.what)
		err := l.runTests(
			ctx,
			l.eduMachine(unfit.stages, slices.Concat(unfit.iort, tests), testFlags("^"+unfit.test)),
			ignore,
		)
		if err != nil {
			return fmt.Errorf("with %s: %w", unfit.what, err)
		}
	}
	return nil
}

// testFlags returns the flags with which a test binary runs the tests that match a pattern.
func testFlags(pattern string) string {
	return "-test.v=test2json -test.timeout=0 -test.run=" + pattern
}

// maxDepth is the depth of subtests from which on a test that passes is not printed.
const maxDepth = 3

// runTests runs a machine whose program is a test binary. It passes the messages that are not about
// tests to hear.
func (l *lab) runTests(ctx context.Context, m *qemu.Machine, hear func(machine.Message)) error {
	results := newTestLog(func(t Test) {
		if t.Outcome != Pass || t.depth() < maxDepth {
			l.say(programConsole, t.String())
		}
	})
	err := l.follow(ctx, m, func(m machine.Message) {
		switch {
		case m.Hello != nil:
			l.report.Kernel = m.Hello.Release
			hear(m)
		case m.Line != nil:
			results.line(*m.Line)
		case m.SMMU != nil:
			l.report.SMMU = smmuOf(m.SMMU)
		case m.Figures != nil:
			l.report.Figures.add(m.Figures)
		case m.Exit != nil:
			results.exit = m.Exit
		default:
			hear(m)
		}
	})
	l.report.Tests = append(l.report.Tests, results.tests...)
	if err != nil {
		return results.during(err)
	}
	return results.exitError()
}
