package boottest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

// tooQuiet is the time after which a boot without output counts as a hang. Emulated kernels are
// slow, slower still on a busy machine, and the benchmark's guest prints nothing until its init
// runs.
const tooQuiet = 8 * time.Minute

// guestCPUs is the number of the guest's vCPUs.
const guestCPUs = 2

// ErrInterrupted is the cause that ends a boot at once, when a caller cancels its context. After
// any other cause, the machines get time to report their progress.
var ErrInterrupted = errors.New("interrupted")

func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrInterrupted) }

// Boot boots the guest, prints what happens, and writes the report. The error is an *InputError if
// nothing was booted, ErrInterrupted, or an error of writing the outputs. The report says why a
// guest did not reach its end.
func Boot(ctx context.Context, o Options) (*report.Report, error) {
	r, tr, err := follow(ctx, &o, boots)
	if err != nil {
		return nil, err
	}
	r.Judge()
	// The summary comes first, since a full disk loses the report.
	return r, errors.Join(r.Summary(o.Out), tr.keep(r.Error == "", o.Out), reportfile.Write(o.Report, r))
}

// Bench runs the benchmark. Its errors are those of Boot.
func Bench(ctx context.Context, o Options) (*report.Bench, error) {
	r, _, err := follow(ctx, &o, benchmark)
	if err != nil {
		return nil, err
	}
	b := r.Bench
	if b == nil {
		b = new(report.Bench)
	}
	b.Error, b.LastSeen, b.Accel, b.Phases, b.Seconds = r.Error, r.LastSeen, r.Accel, r.Phases, r.Seconds
	return b, errors.Join(b.Summary(o.Out), reportfile.Write(o.Report, b))
}

// Tables boots the guest with each of vm.Tables, or with the tables that the options name. Its
// errors are those of Boot.
func Tables(ctx context.Context, o Options) (*report.Tables, error) {
	r, _, err := follow(ctx, &o, byTables)
	if err != nil {
		return nil, err
	}
	t := r.Tables
	if t == nil {
		t = new(report.Tables)
	}
	t.Error, t.LastSeen, t.Accel, t.Phases, t.Seconds = r.Error, r.LastSeen, r.Accel, r.Phases, r.Seconds
	t.Judge()
	return t, errors.Join(t.Summary(o.Out), reportfile.Write(o.Report, t))
}

// purpose is the purpose of a run of the machines.
type purpose uint8

const (
	boots purpose = iota
	benchmark
	byTables
)

// follow boots the machines and prints what happens. It returns the report without verdicts, and
// the transcript. The caller must call the transcript's keep.
func follow(ctx context.Context, o *Options, why purpose) (_ *report.Report, tr *transcript, err error) {
	direct, err := o.complete(ctx, why)
	switch {
	case interrupted(ctx):
		return nil, nil, ErrInterrupted
	case err != nil:
		return nil, nil, &InputError{err}
	}
	if err := reportfile.Prepare(o.Report); err != nil {
		return nil, nil, &InputError{err}
	}
	if tr, err = createTranscript(o.Record); err != nil {
		return nil, nil, &InputError{err}
	}
	p := progress.New(o.Out)
	late := fmt.Errorf("the boot did not end within %v (-timeout)", o.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, late)
	defer cancel()
	go p.Beat(ctx)

	r, err := run(ctx, o, direct, why, sink{p, tr})
	var input *InputError
	if errors.As(err, &input) || interrupted(ctx) {
		return nil, nil, errors.Join(err, context.Cause(ctx), tr.discard())
	}
	if r == nil {
		r = &report.Report{}
	}
	explain(r, err, p)
	phases, total := p.Finish()
	r.Phases, r.Seconds = phases, total.Seconds()
	r.Accel = map[bool]string{true: "kvm", false: "tcg"}[direct]
	return r, tr, nil
}

// explain completes the report of a boot that did not reach its end: with the stage, the exit
// status of the emulator, and the last lines of a console. err is the error of a boot that sent no
// report.
func explain(r *report.Report, err error, p *progress.Progress) {
	// The consoles that may show the cause, the most likely first.
	consoles := []string{vm.Guest, qemu.HostConsole, qemu.QEMUConsole}
	status := ""
	var exit *qemu.ExitError
	switch {
	case errors.As(err, &exit):
		status = exit.Status.String()
		consoles = []string{qemu.HostConsole, qemu.QEMUConsole}
		if !exit.Status.Success() {
			consoles = []string{qemu.QEMUConsole, qemu.HostConsole}
		}
	case err == nil && (r.Error == "" || r.Guest.PoweredOff):
		return
	}
	if err != nil {
		r.Error = err.Error()
	}
	r.LastSeen = p.Last(consoles...)
	r.LastSeen.ExitStatus = status
	r.Error += ", " + r.LastSeen.String()
}

// run takes the boot through its stages. The report may be nil if there is an error.
func run(ctx context.Context, o *Options, direct bool, why purpose, s sink) (*report.Report, error) {
	s.StageQuietly("the kernels, their modules and the initramfs are read")
	job := vm.Job{
		Layout:  vm.Layout{PCI: o.pci(), Mixed: o.mixed(), ACPI: o.Firmware == "acpi", UEFI: o.uefi()},
		Cmdline: o.Cmdline, Mem: o.Mem, CPUs: guestCPUs, PASIDBits: uint8(o.PASIDBits),
		Stage2: o.Stage == 2, Stalls: o.Stalls,
		Rebind: o.Rebind, Moves: int(o.Moves), Record: o.Record != "",
	}
	switch why {
	case benchmark:
		job.Peer, job.Rounds = o.Peer, int(o.Rounds)
	case byTables:
		job.Tables = o.tables()
	}
	type prepared struct {
		guest, host machine
		err         error
	}
	ready := make(chan prepared, 1)
	go func() {
		var m prepared
		m.guest, m.err = prepareGuest(o, job)
		job.Title, job.Loaded = o.title(m.guest.kernel), m.guest.loaded
		if m.err == nil && !direct {
			m.host, m.err = prepareHost(o, job, m.guest)
		}
		ready <- m
	}()
	var m prepared
	select {
	case m = <-ready:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if m.err != nil {
		return nil, &InputError{m.err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go s.Watch(ctx, tooQuiet, cancel)
	if direct {
		if err := cli.CheckSpace(os.TempDir(), vm.DiskSpace); err != nil {
			return nil, &InputError{fmt.Errorf("the disks: %w (set TMPDIR to use another directory)", err)}
		}
		return vm.Run(ctx, job, m.guest.image, m.guest.initrd, s), nil
	}
	return emulate(ctx, o, m.host, s)
}
