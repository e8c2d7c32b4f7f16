// Command bench runs the library's Go benchmarks, measures the command queue of QEMU's SMMUv3 with
// the same mixes of commands, and shows both side by side. make bench runs it.
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
	"strings"
	"syscall"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

const usage = `Usage: go run ./testbed/bench [flags] [PACKAGE...]

Runs the Go benchmarks of the packages and prints nanoseconds per operation. In a command mix, an operation is one
command; one store to CMDQ_PROD adds 2^19 commands. If qemu-system-aarch64 is installed, measures the command queue of
QEMU's SMMUv3 with the same mixes over the qtest protocol: with an empty TLB, and with 256 translations, which fill it.
A ratio is QEMU's time divided by ours: above 1 ours is faster. Each figure is the best of several rounds.

Prints the table before it writes the report. An earlier report stays until the new one is complete.

Packages: ./vsmmu ./bridge/soft ./guestmem ./smmuv3 by default.

Exit status:
  0    everything was measured
  1    a benchmark or QEMU failed, or the report cannot be written
  2    nothing was measured (a bad flag, a file that is missing)
  130  interrupted (128 plus the signal's number)
(go run prints the status and itself exits with 1.)

Flags:
`

// packages are the packages with benchmarks.
var packages = []string{"./vsmmu", "./bridge/soft", "./guestmem", "./smmuv3"}

// options are the command line's.
type options struct {
	goBench
	qemu   string
	report string
}

func main() { os.Exit(status(os.Args[1:], os.Stdout, os.Stderr)) }

// status runs the command and returns its exit status.
func status(args []string, stdout, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	caught := make(chan syscall.Signal, 1)
	go func() {
		select {
		case s := <-signals:
			caught <- s.(syscall.Signal)
			cancel()
		case <-ctx.Done():
		}
	}()

	o, err := parse(args, stdout)
	if errors.Is(err, flag.ErrHelp) {
		return cli.OK
	}
	if err == nil {
		err = run(ctx, o, stdout)
	} else {
		err = &inputError{err}
	}
	var input *inputError
	switch {
	case err == nil:
		return cli.OK
	case len(caught) > 0:
		fmt.Fprintln(stderr, "bench: interrupted")
		return 128 + int(<-caught)
	}
	fmt.Fprintln(stderr, "bench:", cli.Printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	if errors.As(err, &input) {
		return cli.Usage
	}
	return cli.Failed
}

// inputError is an error before anything is measured.
type inputError struct{ error }

func parse(args []string, stdout io.Writer) (options, error) {
	o := options{goBench: goBench{out: stdout, packages: packages}}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.pattern, "bench", ".", "run the benchmarks that match `REGEXP`, as in go test -bench")
	f.IntVar(&o.rounds, "count", 3, "measure each benchmark `N` times and keep the best")
	f.StringVar(&o.time, "benchtime", "300ms", "run each Go benchmark for `TIME`, as in go test -benchtime")
	f.StringVar(&o.qemu, "qemu", "",
		"measure the QEMU `FILE` (default: qemu-system-aarch64 on the PATH, if there is one)")
	f.StringVar(&o.report, "report", filepath.Join("build", "bench", "report.json"), "write the report to `FILE`")
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
	peer, err := findPeer(o.qemu)
	if err != nil {
		return &inputError{fmt.Errorf("-qemu: %w", err)}
	}
	if err := reportfile.Prepare(o.report); err != nil {
		return &inputError{err}
	}
	results, err := o.goBench.run(ctx)
	if err != nil {
		return err
	}
	var peers map[string]float64
	var peerErr error
	if peer == "" {
		fmt.Fprintln(out, "\nqemu-system-aarch64 is not installed: nothing to compare with")
	} else {
		peers, peerErr = measureQEMU(ctx, peer, o.rounds, out)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// A failing peer or a full disk must not lose the results of the benchmarks.
	entries := join(results, peers)
	if err := errors.Join(table(out, entries), reportfile.Write(o.report, entries)); err != nil {
		return errors.Join(peerErr, err)
	}
	if _, err := fmt.Fprintln(out, "\nreport:", o.report); err != nil {
		return errors.Join(peerErr, err)
	}
	return peerErr
}

// findPeer returns the path of QEMU, or "" if the path is empty and QEMU is not installed.
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
