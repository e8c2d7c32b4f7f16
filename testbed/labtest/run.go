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
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

// tooQuiet is the time without output after which the lab is a hang. On a busy machine a single
// test may take minutes. The VMM has a shorter limit for a boot of its guest, since it can tell
// where the guest hangs.
const tooQuiet = 12 * time.Minute

// Run runs the lab, prints what happens, and writes the report. The error is an
// *boottest.InputError if nothing was run, boottest.ErrInterrupted, or that of writing the outputs.
// Why a run ended early is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(false); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	in, err := o.read(ctx)
	if err != nil {
		return nil, errors.Join(&boottest.InputError{Err: err}, context.Cause(ctx))
	}
	if err := reportfile.Prepare(o.Report); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	l := &lab{Options: o, inputs: in, progress: progress.New(o.Out), report: &Report{QEMU: in.qemu}}
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
	l.report.Judge()
	// The summary first: a full disk loses the report, but not what the run found.
	return l.report, errors.Join(l.report.Summary(o.Out), reportfile.Write(o.Report, l.report))
}

// lab is one run of the lab.
type lab struct {
	Options
	inputs
	progress *progress.Progress
	words    lastWords

	// Archives that replace the firmware's IORT: with one the kernel nests, with the other the SMMU
	// is not cache-coherent.
	iort, incoherent []byte

	mu     sync.Mutex // guards report.Warnings
	report *Report
}

// run runs the machines.
func (l *lab) run(ctx context.Context) error {
	tests, err := initramfs(l.tests)
	if err != nil {
		return err
	}
	vmmTests, err := initramfs(l.vmmTests)
	if err != nil {
		return err
	}
	l.progress.Stage("read the firmware's IORT")
	if err := l.readIORT(ctx, tests); err != nil {
		return fmt.Errorf("reading the IORT: %w", err)
	}
	if err := l.runRefusing(ctx, tests); err != nil {
		return err
	}
	l.progress.Stage("boot the host for the tests of bridge/iommufd")
	err = l.runTests(
		ctx,
		l.eduMachine(bothStages, append(l.iort, tests...), testFlags("^TestKernel")),
		func(m machine.Message) {
			if m.Hello != nil {
				l.progress.Stage("test bridge/iommufd on the host's kernel")
			}
		},
	)
	if err != nil {
		return err
	}
	l.progress.Stage("boot the host and run the VMM's own tests")
	if err := l.runTests(ctx, l.kvmMachine(vmmTests, testFlags("^Test")), ignore); err != nil {
		return err
	}
	l.report.reached = testsEnded
	return l.runGuest(ctx)
}
