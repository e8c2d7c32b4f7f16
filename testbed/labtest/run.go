package labtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
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
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/arm64image"
)

// tooQuiet is how long no machine may say anything: on a busy one an emulated machine may need minutes for a test. A guest that
// hangs is to be given up before, by who can tell where it is.
const tooQuiet = 12 * time.Minute

// Run takes the lab through its parts, prints what happens, and leaves the report. The error is a *lab.InputError if nothing
// was run, the cause of ctx if that ended, and otherwise why no report could be left: what went wrong is in the report.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.complete(); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	if err := reportfile.Prepare(o.Report); err != nil {
		return nil, &boottest.InputError{Err: err}
	}
	l := &lab{Options: o, progress: progress.New(o.Out), report: &Report{}}
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the lab did not end within %v (-timeout)", o.Timeout))
	defer cancel()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go l.progress.Beat(ctx)
	go l.progress.Watch(ctx, tooQuiet, giveUp)

	err := l.run(ctx)
	var input *boottest.InputError
	if errors.As(err, &input) || errors.Is(err, boottest.ErrInterrupted) {
		return nil, err
	}
	if err != nil {
		l.report.Error = fmt.Sprintf("%v, %s", err, l.progress.LastSeen(guestConsole, vmmConsole, programConsole, qemu.HostConsole, qemu.QEMUConsole))
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
	progress *progress.Progress
	image    []byte
	agent    []byte
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
	l.progress.Stage("the kernel and the programs are read")
	tests, vmmTests, err := l.read(ctx)
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case err != nil:
		return &boottest.InputError{Err: err}
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
	if err := l.runTests(ctx, l.kvmMachine(vmmTests, testFlags("^Test")), func(machine.Message) {}); err != nil {
		return err
	}
	return l.runGuest(ctx)
}

// read takes in what was given, and makes an initramfs of each program of tests.
func (l *lab) read(ctx context.Context) (tests, vmmTests []byte, err error) {
	if l.report.QEMU, err = qemuVersion(ctx, l.QEMU); err != nil {
		return nil, nil, err
	}
	file, raw, err := kernel.Image(l.Kernel)
	if err != nil {
		return nil, nil, fmt.Errorf("the kernel: %w", err)
	}
	image, err := arm64image.Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("the kernel: %s: %w", file, err)
	}
	l.image = image.Data
	if _, err := os.Stat(l.Firmware); err != nil {
		return nil, nil, fmt.Errorf("the firmware: %w", err)
	}
	if l.agent, err = os.ReadFile(l.Agent); err != nil {
		return nil, nil, fmt.Errorf("the VMM: %w", err)
	}
	if tests, err = testInitramfs(l.Tests); err != nil {
		return nil, nil, err
	}
	vmmTests, err = testInitramfs(l.VMMTests)
	return tests, vmmTests, err
}

// testInitramfs has a program of tests as its init.
func testInitramfs(file string) ([]byte, error) {
	program, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("the tests: %w", err)
	}
	return initramfs(program)
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

// runTests runs the tests that a machine is for, on its kernel. Messages of the machine that are not
// about them are heard.
func (l *lab) runTests(ctx context.Context, m *qemu.Machine, hear func(machine.Message)) error {
	results := newTestLog(func(t Test) {
		if t.Outcome != Pass || t.depth() < maxDepth {
			l.progress.Line(programConsole, t.String())
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
		default:
			hear(m)
		}
	})
	l.report.Tests = append(l.report.Tests, results.tests...)
	return err
}

// maxDepth is how deep in others a test is that is no longer worth a line of its own if it passes.
const maxDepth = 3

// errProgram is why a program's end was none.
var errProgram = errors.New("the machine went down before the program ended")

// maxMessage bounds a message from a machine.
const maxMessage = 1 << 20

// follow runs a machine, has its messages heard, and looks for complaints among what it prints.
func (l *lab) follow(ctx context.Context, m *qemu.Machine, hear func(machine.Message)) error {
	err := m.Run(ctx, l.line, func(channel io.ReadWriter) error {
		messages := bufio.NewScanner(channel)
		messages.Buffer(make([]byte, 64<<10), maxMessage)
		for messages.Scan() {
			var m machine.Message
			if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
				return fmt.Errorf("the machine sent what is no message: %w", err)
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
		return errors.Join(errProgram, messages.Err())
	})
	if errors.Is(err, qemu.ErrStart) {
		return &boottest.InputError{Err: err}
	}
	return err
}

// line takes one of a console.
func (l *lab) line(console, text string) {
	l.progress.Line(console, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if complains(text) && len(l.report.Warnings) < maxWarnings {
		l.report.Warnings = append(l.report.Warnings, console+": "+text)
	}
}
