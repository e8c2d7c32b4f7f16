package labtest

import (
	"context"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// runTests runs a machine whose program is a test binary.
func (l *lab) runTests(ctx context.Context, s *spec, m *qemu.Machine) error {
	results := l.newTestLog(s)
	err := l.follow(ctx, m, started, func(m machine.Message) { l.hearTests(s, results, m) })
	l.report.Tests = append(l.report.Tests, results.tests...)
	if err != nil {
		return results.during(err)
	}
	return results.exitError()
}

// maxDepth limits the tests that are printed when they pass: subtests of this depth or deeper are
// not.
const maxDepth = 3

// newTestLog returns the log of a machine's tests, which prints them.
func (l *lab) newTestLog(s *spec) *testLog {
	return newTestLog(s.name, func(t Test) {
		if t.Outcome != Pass || t.depth() < maxDepth {
			l.say(programConsole, t.String())
		}
	})
}

// hearTests handles a message of a test binary.
func (l *lab) hearTests(s *spec, results *testLog, m machine.Message) {
	switch {
	case m.Hello != nil:
		l.report.Kernel = m.Hello.Release
		l.progress.Stage("run the tests with " + s.what)
	case m.Line != nil:
		results.line(*m.Line)
	case m.Log != nil:
		l.line(guestConsole, *m.Log)
	case m.IORT != nil:
		l.table = m.IORT
	case m.SMMU != nil && s.own == nil:
		l.report.SMMU = smmuOf(m.SMMU)
	case m.Figures != nil:
		l.report.Figures.add(m.Figures)
	case m.Exit != nil:
		results.exit = m.Exit
	}
}
