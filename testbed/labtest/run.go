package labtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

// tooQuiet is the time without output after which the lab counts as hung. On a busy machine a
// single test may take minutes. The VMM has a shorter limit for a boot of its guest, since it can
// report where the guest hangs.
const tooQuiet = 12 * time.Minute

// Run runs the lab, prints its progress, and writes the report. The error is a *boottest.InputError
// if nothing was run, boottest.ErrInterrupted, or an error of writing the outputs. The report has
// the reason if a run ended early.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(false); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	machines, err := o.chosen()
	if err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	in, err := o.read(ctx)
	if err != nil {
		return nil, errors.Join(&boottest.InputError{Err: err}, context.Cause(ctx))
	}
	if err := reportfile.Prepare(o.Report); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	l := &lab{
		Options: o, inputs: in, chosen: machines, progress: progress.New(o.Out),
		report: &Report{QEMU: in.qemu, Only: o.Only},
	}
	ctx, cancel := context.WithTimeoutCause(
		ctx,
		o.Timeout,
		fmt.Errorf("the lab did not end within %v (-timeout)", o.Timeout),
	)
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go l.progress.Beat(ctx)
	go l.progress.Watch(ctx, tooQuiet, giveUp)

	err = l.run(ctx)
	switch {
	case errors.Is(err, boottest.ErrInterrupted):
		return nil, err
	case errors.Is(err, qemu.ErrStart) && l.report.Kernel == "":
		return nil, &boottest.InputError{Err: err}
	case err != nil:
		l.explain(err)
	}
	phases, total := l.progress.Finish()
	l.report.Phases, l.report.Seconds = phases, total.Seconds()
	l.report.Matrix = matrixOf(l.report.Tests)
	l.report.Judge()
	// Print the summary first: a full disk then loses only the report.
	return l.report, errors.Join(l.report.Summary(o.Out), reportfile.Write(o.Report, l.report))
}

// lab is one run of the lab.
type lab struct {
	Options
	inputs
	chosen   []spec
	progress *progress.Progress
	words    lastWords

	table []byte // the firmware's IORT
	// iorts has the archives that replace the firmware's IORT, by spec.iort.
	iorts map[string][]byte

	mu      sync.Mutex // guards excuses and report.Warnings
	excuses excuses
	report  *Report
}

// run runs the machines.
func (l *lab) run(ctx context.Context) error {
	for i := range l.chosen {
		if err := l.runMachine(ctx, &l.chosen[i]); err != nil {
			return err
		}
	}
	l.report.reached = max(l.report.reached, testsEnded)
	return nil
}

// runMachine runs a machine. If the machine needs the IORT, runMachine first runs the machine that
// reads the IORT.
func (l *lab) runMachine(ctx context.Context, s *spec) error {
	if s.iort != "" && l.iorts == nil {
		if err := l.runMachine(ctx, &specs[0]); err != nil {
			return err
		}
	}
	l.progress.Stage("boot the host with " + s.what)
	switch {
	case s.own != nil:
		return l.runOwn(ctx, s)
	case s.program == theVMM:
		l.report.reached = testsEnded
		return l.runGuest(ctx, s)
	case s.program == vmmTests:
		initrd, err := initramfs(l.vmmTests)
		if err != nil {
			return err
		}
		return l.runTests(ctx, s, l.kvmMachine(s, initrd))
	}
	initrd, err := initramfs(l.tests)
	if err != nil {
		return err
	}
	if err := l.runTests(ctx, s, l.eduMachine(s, initrd)); err != nil || s.name != machineIORT {
		return err
	}
	if err := l.patchIORT(); err != nil {
		return fmt.Errorf("reading the IORT: %w", err)
	}
	return nil
}

// patchIORT makes the archives that replace the firmware's IORT.
func (l *lab) patchIORT() error {
	l.iorts = map[string][]byte{}
	for name, patch := range map[string]IORTChange{canWBS: CanWBS, incoherent: Incoherent} {
		archive, err := iortArchive(l.table, patch)
		if err != nil {
			return err
		}
		l.iorts[name] = archive
	}
	return nil
}
