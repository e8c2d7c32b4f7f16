package boottest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

// tooQuiet is how long no machine may say anything. It is there to end a hang: emulated kernels are slow, and on a starved machine
// much slower, and the one of the benchmark says nothing until its init runs.
const tooQuiet = 8 * time.Minute

// guestCPUs is how many the guest has.
const guestCPUs = 2

// ErrInterrupted is the cause by which the caller ends a boot's context to have everything dropped at once. A context
// that ends for another reason gives the machines the time to report how far they came.
var ErrInterrupted = errors.New("interrupted")

func interrupted(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ErrInterrupted) }

// Boot boots the guest, prints what happens, and leaves the report. The error is an *InputError if nothing was booted,
// the cause of ctx if that ended, and otherwise why no report could be left: what befell the guest is in the report.
func Boot(ctx context.Context, o Options) (*report.Report, error) {
	r, err := follow(ctx, &o, false)
	if err != nil {
		return nil, err
	}
	r.Judge()
	// The summary first: a full disk loses the report, but not what the run found.
	return r, errors.Join(r.Summary(o.Out), reportfile.Write(o.Report, r))
}

// Bench runs the benchmark, and is like Boot otherwise.
func Bench(ctx context.Context, o Options) (*report.Bench, error) {
	r, err := follow(ctx, &o, true)
	if err != nil {
		return nil, err
	}
	b := r.Bench
	if b == nil {
		b = new(report.Bench)
	}
	b.Error, b.Accel, b.Phases, b.Seconds = r.Error, r.Accel, r.Phases, r.Seconds
	return b, errors.Join(b.Summary(o.Out), reportfile.Write(o.Report, b))
}

// follow boots the machines, for a boot or the benchmark, and prints what happens. The errors are Boot's.
func follow(ctx context.Context, o *Options, bench bool) (*report.Report, error) {
	direct, err := o.complete(bench)
	if err != nil {
		return nil, &InputError{err}
	}
	if err := reportfile.Prepare(o.Report); err != nil {
		return nil, &InputError{err}
	}
	tr, err := createTranscript(o.Record)
	if err != nil {
		return nil, &InputError{err}
	}
	defer tr.Close()
	p := progress.New(o.Out)
	ctx, cancel := context.WithTimeoutCause(ctx, o.Timeout, fmt.Errorf("the boot did not end within %v (-timeout)", o.Timeout))
	defer cancel()
	go p.Beat(ctx)

	r, err := run(ctx, o, direct, bench, sink{p, tr})
	var input *InputError
	if errors.As(err, &input) || interrupted(ctx) {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	if r == nil {
		r = &report.Report{}
	}
	if err != nil {
		r.Error = fmt.Sprintf("%v, %s", err, p.LastSeen(vm.Guest, qemu.HostConsole, qemu.QEMUConsole))
	} else if r.Error != "" && !r.Guest.PoweredOff {
		r.Error = fmt.Sprintf("%s, %s", r.Error, p.LastSeen(vm.Guest))
	}
	phases, total := p.Finish()
	r.Phases, r.Seconds = phases, total.Seconds()
	r.Accel = map[bool]string{true: "kvm", false: "tcg"}[direct]
	return r, nil
}

// run takes the boot through its stages.
func run(ctx context.Context, o *Options, direct, bench bool, s sink) (*report.Report, error) {
	s.Stage("the kernels, their modules and the initramfs are read")
	job := vm.Job{
		Cmdline: o.Cmdline, Mem: o.Mem, CPUs: guestCPUs, PCI: o.pci(), PASIDBits: uint8(o.PASIDBits), Stage2: o.Stage == 2, Stalls: o.Stalls,
		Rebind: o.Rebind, Moves: int(o.Moves), Record: o.Record != "",
	}
	if bench {
		job.Peer, job.Rounds = o.Peer, int(o.Rounds)
	}
	type prepared struct {
		guest, host machine
		err         error
	}
	ready := make(chan prepared, 1)
	go func() {
		var m prepared
		m.guest, m.err = prepareGuest(o, job)
		job.Title = o.title(m.guest.kernel)
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
		return vm.Run(ctx, job, m.guest.image, m.guest.initrd, s), nil
	}
	s.Stage("the host's kernel boots")
	return emulate(ctx, o, m.host, s)
}
