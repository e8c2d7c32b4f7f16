package labtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

// tooQuiet is how long no machine may say anything: on a busy one an emulated machine may need minutes for a test. A guest that
// hangs is to be given up before, by who can tell where it is.
const tooQuiet = 12 * time.Minute

// Run runs the lab, prints what happens, and writes the report. The error is an *boottest.InputError if nothing was
// run, boottest.ErrInterrupted, or that of writing the outputs. Why a run ended early is in the report.
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
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the lab did not end within %v (-timeout)", o.Timeout))
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

// lab is a run of it.
type lab struct {
	Options
	inputs
	progress *progress.Progress
	words    lastWords
	// Initramfs with tables that the kernel takes in place of the firmware's: one with which it nests, and one that takes away
	// what VFIO insists on.
	iort, incoherent []byte

	mu     sync.Mutex // guards what lines of consoles change
	report *Report
}

// Names of consoles beside those of package emulator: what the host's program prints, and the guest of the VMM.
const (
	programConsole = "tests"
	vmmConsole     = "vmm"
	guestConsole   = "guest"
)

func (l *lab) run(ctx context.Context) error {
	tests, err := initramfs(l.tests)
	if err != nil {
		return err
	}
	l.progress.Stage("the firmware's IORT is read")
	if err := l.readIORT(ctx, tests); err != nil {
		return fmt.Errorf("reading the IORT: %w", err)
	}
	if err := l.runUnfit(ctx, tests); err != nil {
		return err
	}
	l.progress.Stage("the host's kernel boots")
	err = l.runTests(ctx, l.eduMachine(bothStages, append(l.iort, tests...), testFlags("^TestKernel")), func(m machine.Message) {
		if m.Hello != nil {
			l.progress.Stage("bridge/iommufd's tests run on the host's kernel")
		}
	})
	if err != nil {
		return err
	}
	l.progress.Stage("the host's kernel boots for the VMM's own tests")
	vmmTests, err := initramfs(l.vmmTests)
	if err != nil {
		return err
	}
	if err := l.runTests(ctx, l.kvmMachine(vmmTests, testFlags("^Test")), func(machine.Message) {}); err != nil {
		return err
	}
	l.report.reached = testsEnded
	return l.runGuest(ctx)
}

// initramfs has the program as its init, and more files.
func initramfs(program []byte, more ...kernel.File) ([]byte, error) {
	var b bytes.Buffer
	err := kernel.WriteInitramfs(&b, append([]kernel.File{{Name: "init", Mode: 0o755, Data: program}}, more...))
	return b.Bytes(), err
}

// readIORT boots the machine as its firmware leaves it, to see the table, which depends on the machine, and makes the one to
// replace it. The tests of what is refused there run by the way.
func (l *lab) readIORT(ctx context.Context, tests []byte) error {
	var table []byte
	err := l.runTests(ctx, l.eduMachine(bothStages, tests, machine.DumpIORT+" "+testFlags("^"+testUnnestedKernel)), func(m machine.Message) {
		if m.IORT != nil {
			table = m.IORT
		}
	})
	if err != nil {
		return err
	}
	if l.incoherent, err = acpiOverride(table, Incoherent); err != nil {
		return err
	}
	l.iort, err = acpiOverride(table, CanWBS)
	return err
}

// runUnfit boots machines whose SMMU cannot be passed on to a guest, for the tests of what is said there.
func (l *lab) runUnfit(ctx context.Context, tests []byte) error {
	for _, unfit := range []struct {
		what, stages string
		iort         []byte
		names        string
	}{
		{"an SMMU with stage 1 alone", stage1Only, nil, "^" + testStage1Kernel},
		{"an SMMU with stage 2 alone", stage2Only, nil, "^" + testStage2Kernel},
		{"an SMMU whose accesses are not coherent", bothStages, l.incoherent, "^" + testIncoherentKernel},
	} {
		l.progress.Stage("the host's kernel boots with " + unfit.what)
		err := l.runTests(ctx, l.eduMachine(unfit.stages, slices.Concat(unfit.iort, tests), testFlags(unfit.names)), func(machine.Message) {})
		if err != nil {
			return fmt.Errorf("with %s: %w", unfit.what, err)
		}
	}
	return nil
}

// acpiOverride is an archive that Linux takes the patched table from. It has to come first, and not be compressed.
func acpiOverride(iort []byte, change IORTChange) ([]byte, error) {
	patched, err := PatchIORT(iort, change)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := cpio.Newc.Writer(&b)
	err = cpio.WriteRecords(w, []cpio.Record{
		cpio.StaticRecord(patched, cpio.Info{Name: "kernel/firmware/acpi/iort.aml", Mode: cpio.S_IFREG | 0o644}),
	})
	if err != nil {
		return nil, err
	}
	if err := cpio.WriteTrailer(w); err != nil {
		return nil, err
	}
	// An archive ends at a multiple of 4, and the next may begin there.
	return append(b.Bytes(), make([]byte, -b.Len()&3)...), nil
}

// testFlags are those of a program of tests: the ones whose names match are run.
func testFlags(names string) string { return "-test.v=test2json -test.timeout=0 -test.run=" + names }

// runTests runs a machine whose program is a test binary. It passes the messages that are not about tests to hear.
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

// maxDepth is the depth of subtests from which on those that pass get no line of their own.
const maxDepth = 3

// errNoExit is the error of a machine that ends without the exit of its program.
var errNoExit = errors.New("the machine ended before its program")

// maxMessage bounds a message from a machine.
const maxMessage = 1 << 20

// follow runs a machine and passes its messages to hear.
func (l *lab) follow(ctx context.Context, m *qemu.Machine, hear func(machine.Message)) error {
	l.words.reset()
	return m.Run(ctx, l.line, func(channel io.ReadWriter) error {
		messages := bufio.NewScanner(channel)
		messages.Buffer(make([]byte, 64<<10), maxMessage)
		for messages.Scan() {
			var m machine.Message
			if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
				return fmt.Errorf("the machine sent a malformed message: %w", err)
			}
			hear(m)
			if m.Exit == nil {
				continue
			}
			if m.Exit.Error != "" {
				return errors.New(m.Exit.Error)
			}
			return nil
		}
		return errors.Join(errNoExit, messages.Err())
	})
}

// say prints a line of a console and keeps it as the console's last.
func (l *lab) say(console, text string) {
	l.words.add(console, text)
	l.progress.Line(console, text)
}

// line prints a line of a console and looks for a kernel's complaint in it.
func (l *lab) line(console, text string) {
	l.say(console, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if complains(text) && len(l.report.Warnings) < maxWarnings {
		l.report.Warnings = append(l.report.Warnings, console+": "+text)
	}
}
