package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

const bootUsage = `Usage: testbed boot [flags]

Boots an arm64 Linux guest with two disks and a misbehaving endpoint behind the virtual SMMUv3, and checks that every
byte went through the translation that the guest set up. An arm64 machine with /dev/kvm runs the guest itself; on any
other, QEMU emulates one that does. Kernels are an image (plain, gzip, or EFI zboot), a Debian package, or a
directory that holds either.

Flags:
`

func bootCommand(args []string, stdout, stderr io.Writer) int {
	o, err := parseBoot(args, stdout)
	if code, done := program.Parsed(err, "boot", stderr); done {
		return code
	}
	var r *report.Report
	code := follow(stdout, stderr, o.Report, func(ctx context.Context) (failure string, err error) {
		if r, err = boottest.Boot(ctx, o); err != nil {
			return "", err
		}
		return r.Error, nil
	})
	if code == cli.OK && !r.OK {
		return cli.Failed
	}
	return code
}

func parseBoot(args []string, stdout io.Writer) (boottest.Options, error) {
	o := boottest.Options{Out: stdout, Timeout: 30 * time.Minute}
	f := flag.NewFlagSet("boot", flag.ContinueOnError)
	machineFlags(f, &o, "boot")
	f.StringVar(&o.Transport, "transport", "mmio", "how the guest reaches the disks, `HOW`: "+strings.Join(boottest.Transports, ", ")+"\nas PCI functions they interrupt by messages, which the SMMU translates")
	f.UintVar(&o.PASIDBits, "pasid-bits", defaultPASIDBits, "pasid-num-bits of the endpoint that has it, `N` of 1 to 20;\nabove 10 Linux makes its table of context descriptors one of two levels")
	f.UintVar(&o.Stage, "stage", 1, "the stage that the SMMU has, `N` of 1 or 2: with stage 2 alone, Linux translates by that one")
	f.BoolVar(&o.Stalls, "stall", false, "the SMMU has stalls, and the misbehaving endpoint dma-can-stall: its DMA waits for\nwhat the guest's driver makes of the fault")
	f.StringVar(&o.Record, "record", "", "where a transcript of all that the guest does to the SMMU goes, `FILE`: see vsmmu replay")
	f.BoolVar(&o.Rebind, "rebind", false, "the guest takes each disk from its driver and gives it back, once past stage 1")
	f.UintVar(&o.Moves, "save-restore", 0, "save the SMMU `N` times while the disks are at work, throw it away, and restore it into a new one")
	return o, parse(f, &o, args, bootUsage, stdout)
}

const defaultPASIDBits = 6

// machineFlags are those of everything that boots a guest.
func machineFlags(f *flag.FlagSet, o *boottest.Options, name string) {
	o.Mem = 512 << 20
	f.StringVar(&o.Kernel, "kernel", "", "the guest's kernel, `FILE` or directory (default: the one fetched by make boot)")
	f.StringVar(&o.Modules, "modules", "", "the guest's modules, a `DIR` or .deb (default: where its kernel is from)")
	f.StringVar(&o.HostKernel, "host-kernel", "", "the emulated host's kernel, `FILE` or directory (default: as for -kernel)")
	f.StringVar(&o.HostModules, "host-modules", "", "the emulated host's modules, a `DIR` or .deb (default: as for -modules)")
	f.StringVar(&o.Cmdline, "cmdline", "", "`TEXT` appended to the guest's kernel command line")
	f.StringVar(&o.Accel, "accel", "auto", "what runs the guest, `HOW`: "+strings.Join(boottest.Accels, ", ")+"\nkvm is this machine's own, tcg that of an emulated host")
	f.Var((*size)(&o.Mem), "mem", "the guest's memory, `SIZE` with suffix M or G")
	f.StringVar(&o.Report, "report", filepath.Join("build", name, "report.json"), "where the report goes, `FILE`")
	f.DurationVar(&o.Timeout, "timeout", o.Timeout, "the `TIME` after which it is given up")
	f.StringVar(&o.Agent, "agent", "", "the build of this program for linux/arm64, `FILE` (default: testbed-linux-arm64 beside it)")
	f.StringVar(&o.QEMU, "qemu", "", "the emulator, `FILE` (default: qemu-system-aarch64 on the PATH)")
}

// parse reads the command line of what boots a guest, or prints the help.
func parse(f *flag.FlagSet, o *boottest.Options, args []string, usage string, stdout io.Writer) error {
	switch err := parseFlags(f, &o.Timeout, args, usage, stdout); {
	case err != nil:
		return err
	case strings.ContainsAny(o.Cmdline, "\n\x00"):
		return errors.New("-cmdline: more than one line")
	}
	return nil
}

// parseFlags reads the command line of what runs machines for no longer than timeout, or prints the help.
func parseFlags(f *flag.FlagSet, timeout *time.Duration, args []string, usage string, stdout io.Writer) error {
	err := cli.Parse(f, args, usage, stdout)
	switch {
	case err != nil:
		return err
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case *timeout <= 0:
		return fmt.Errorf("-timeout %v: not a time to wait", *timeout)
	}
	return nil
}

// follow runs what boots machines, until its end or a signal, and says how that went. What kept the guest from coming to its
// end is the failure.
func follow(stdout, stderr io.Writer, reportFile string, run func(context.Context) (failure string, err error)) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	// SIGPIPE: whoever read the output is gone.
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGPIPE)
	defer signal.Stop(signals)
	caught := make(chan os.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			caught <- s
			cancel(boottest.ErrInterrupted)
		case <-ctx.Done():
		}
	}()

	failure, err := run(ctx)
	var input *boottest.InputError
	switch {
	case errors.Is(err, boottest.ErrInterrupted):
		complain(stderr, boottest.ErrInterrupted)
		return 128 + int((<-caught).(syscall.Signal))
	case errors.As(err, &input):
		return complain(stderr, input)
	case errors.Is(err, reportfile.ErrWrite): // the summary has been printed
		return complain(stderr, err)
	case err != nil:
		complain(stderr, err)
		return cli.NoEnd
	}
	fmt.Fprintln(stdout, "report:", reportFile)
	if failure != "" {
		complain(stderr, errors.New(failure))
		return cli.NoEnd
	}
	return cli.OK
}

// size is a flag for an amount of memory.
type size uint64

func (b *size) String() string { return fmt.Sprintf("%dM", uint64(*b)>>20) }

func (b *size) Set(s string) error {
	shift, ok := map[string]uint{"M": 20, "G": 30}[strings.ToUpper(s[max(0, len(s)-1):])]
	if !ok {
		return errors.New("give a number with suffix M or G")
	}
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 64-int(shift))
	if err != nil {
		return errors.New("give a number with suffix M or G")
	}
	*b = size(n << shift)
	return nil
}
