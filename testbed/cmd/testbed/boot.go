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

Boots an arm64 Linux guest with two disks and a misbehaving endpoint behind the virtual SMMUv3, and checks that the
guest's own stages translated every byte of the disks. An arm64 machine with /dev/kvm runs the guest itself. On any
other machine, QEMU emulates an arm64 host that runs the guest.

A kernel is an image (plain, gzip, or EFI zboot), a Debian package, or a directory that contains either. All files are
checked before anything boots. A report or a transcript replaces an earlier one only when it is complete.

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
	f.StringVar(&o.Transport, "transport", "mmio",
		"attach the disks by `HOW`: "+strings.Join(boottest.Transports, ", ")+
			"\n(pci: their interrupts are messages, which the SMMU translates; mixed: the first on PCI)")
	f.StringVar(&o.Firmware, "firmware", "dt",
		"describe the hardware to the guest by `HOW`: "+strings.Join(boottest.Firmwares, ", ")+
			"\n(dt: a device tree; acpi: ACPI tables, without firmware;\n"+
			"uefi: EDK2 boots from a disk behind the SMMU)")
	f.StringVar(&o.EFI, "efi", "",
		"with -firmware uefi, take QEMU_EFI.fd and systemd-bootaa64.efi from `DIR`\n"+
			"(default: what make boot fetched)")
	f.UintVar(&o.PASIDBits, "pasid-bits", defaultPASIDBits,
		"set pasid-num-bits of the endpoint pasid to `N`, from 1 to 20;\n"+
			"above 10, Linux makes a two-level table of Context Descriptors")
	f.UintVar(&o.Stage, "stage", 1, "give the SMMU only stage `N`, 1 or 2")
	f.BoolVar(&o.Stalls, "stall", false,
		"give the SMMU stalls, and the misbehaving endpoint dma-can-stall: its DMA waits\n"+
			"until the guest's driver answers the fault")
	f.StringVar(&o.Record, "record", "",
		"record the guest's use of the SMMU in the transcript `FILE`, for vsmmu replay\n"+
			"(FILE.part until the boot has reached its end)")
	f.BoolVar(&o.Rebind, "rebind", false,
		"let the guest unbind each disk from its driver and bind it again, bypassing stage 1 once")
	f.UintVar(&o.Moves, "save-restore", 0,
		"save the SMMU `N` times while the disks are in use, discard it, and restore it into a new one")
	return o, parse(f, &o, args, bootUsage, stdout)
}

const defaultPASIDBits = 6

// machineFlags defines the flags of every command that boots a guest.
func machineFlags(f *flag.FlagSet, o *boottest.Options, name string) {
	o.Mem = 512 << 20
	f.StringVar(&o.Kernel, "kernel", "",
		"boot the guest with the kernel in `FILE` or a directory (default: what make boot fetched)")
	f.StringVar(&o.Modules, "modules", "",
		"take the guest's modules from `DIR` or a .deb (default: from the source of -kernel)")
	f.StringVar(&o.HostKernel, "host-kernel", "",
		"boot the emulated host with the kernel in `FILE` or a directory (default: what make boot fetched)")
	f.StringVar(&o.HostModules, "host-modules", "",
		"take the emulated host's modules from `DIR` or a .deb (default: from the source of -host-kernel)")
	f.StringVar(&o.Cmdline, "cmdline", "", "append `TEXT` to the guest's kernel command line")
	f.StringVar(&o.Accel, "accel", "auto",
		"run the guest by `HOW`: "+strings.Join(boottest.Accels, ", ")+
			"\n(kvm: this machine's own KVM; tcg: that of an emulated host)")
	f.Var((*size)(&o.Mem), "mem", "give the guest memory of `SIZE`, with suffix M or G")
	f.StringVar(&o.Report, "report", filepath.Join("build", name, "report.json"), "write the report to `FILE`")
	f.DurationVar(&o.Timeout, "timeout", o.Timeout, "give up after `TIME`")
	f.StringVar(&o.Agent, "agent", "",
		"use `FILE`, the build of this program for linux/arm64 (default: testbed-linux-arm64 beside it)")
	f.StringVar(&o.QEMU, "qemu", "", "use the emulator `FILE` (default: qemu-system-aarch64 on the PATH)")
}

// parse parses the command line of a command that boots a guest, or prints the help.
func parse(f *flag.FlagSet, o *boottest.Options, args []string, usage string, stdout io.Writer) error {
	switch err := parseFlags(f, &o.Timeout, args, usage, stdout); {
	case err != nil:
		return err
	case strings.ContainsAny(o.Cmdline, "\n\x00"):
		return errors.New("-cmdline has more than one line")
	}
	return nil
}

// parseFlags parses the command line of a command that runs machines, or prints the help.
func parseFlags(f *flag.FlagSet, timeout *time.Duration, args []string, usage string, stdout io.Writer) error {
	err := cli.Parse(f, args, usage, stdout)
	switch {
	case err != nil:
		return err
	case f.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	case *timeout <= 0:
		return fmt.Errorf("-timeout %v: not a time to wait (give one above 0)", *timeout)
	}
	return nil
}

// follow calls run, cancels its context with ErrInterrupted on a signal, and returns the exit
// status. failure says why a guest did not reach its end.
func follow(stdout, stderr io.Writer, reportFile string, run func(context.Context) (failure string, err error)) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	// SIGPIPE: the reader of the output is gone.
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

// size is the value of a flag for an amount of memory.
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
