// Command bench measures this module by its Go benchmarks, and the command queue of QEMU's SMMUv3 by the same mixes of
// commands, and shows both side by side. Run it by make bench.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

const usage = `Usage: go run ./testbed/bench [flags] [PACKAGE...]

Runs the Go benchmarks of the packages, in nanoseconds per operation: of the command mixes an operation is one command
of the 2^19 that one store to CMDQ_PROD adds. Where qemu-system-aarch64 is installed, the command queue of its SMMUv3 is
measured by the same mixes, over its qtest protocol: with nothing in its TLB, and with the 256 translations that it can
hold. Ratios are QEMU's time by ours: above 1 ours is faster. Of several rounds the best counts, of either.

Packages: ./vsmmu ./bridge/soft ./guestmem ./smmuv3, unless others are given.

Flags:
`

// packages that have benchmarks.
var packages = []string{"./vsmmu", "./bridge/soft", "./guestmem", "./smmuv3"}

// options are what the command line says.
type options struct {
	goBench
	qemu   string
	report string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	o, err := parse(os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil:
		err = run(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string, stdout io.Writer) (options, error) {
	o := options{goBench: goBench{out: stdout, packages: packages}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.pattern, "bench", ".", "the benchmarks, as go test -bench takes `REGEXP`")
	f.IntVar(&o.rounds, "count", 3, "measure each `N` times, of which the best counts")
	f.StringVar(&o.time, "benchtime", "300ms", "for how long each Go benchmark runs, as go test -benchtime takes `TIME`")
	f.StringVar(&o.qemu, "qemu", "", "the peer, `FILE` (default: qemu-system-aarch64 on the PATH, if it is there)")
	f.StringVar(&o.report, "report", filepath.Join("build", "bench", "report.json"), "where the report goes, `FILE`")
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return o, err
	}
	if err == nil && o.rounds < 1 {
		err = fmt.Errorf("-count %d: measure at least once", o.rounds)
	}
	if f.NArg() > 0 {
		o.packages = f.Args()
	}
	return o, err
}

func run(ctx context.Context, o options, out io.Writer) error {
	if err := reportfile.Prepare(o.report); err != nil {
		return err
	}
	peer, err := findPeer(o.qemu)
	if err != nil {
		return err
	}
	results, err := o.goBench.run(ctx)
	if err != nil {
		return err
	}
	var peers map[string]float64
	if peer == "" {
		fmt.Fprintln(out, "\nqemu-system-aarch64 is not installed: nothing to compare with")
	} else if peers, err = measureQEMU(ctx, peer, o.rounds, out); err != nil {
		return err
	}
	entries := join(results, peers)
	if err := table(out, entries); err != nil {
		return err
	}
	if err := reportfile.Write(o.report, entries); err != nil {
		return err
	}
	fmt.Fprintln(out, "\nreport:", o.report)
	return nil
}

// findPeer returns the path of QEMU, or "" if none was asked for and none is installed.
func findPeer(path string) (string, error) {
	if path != "" {
		return exec.LookPath(path)
	}
	path, err := exec.LookPath("qemu-system-aarch64")
	if errors.Is(err, exec.ErrNotFound) {
		return "", nil
	}
	return path, err
}
