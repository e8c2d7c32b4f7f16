package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// goBench says which Go benchmarks to run.
type goBench struct {
	packages []string
	pattern  string
	rounds   int
	time     string
	out      io.Writer // gets what go test prints
}

// result is what was measured of a Go benchmark.
type result struct {
	name   string // package.Name/sub
	ns     float64
	allocs uint64
	others map[string]float64 // what else the benchmark says of itself, by unit; nil for nothing
}

// run runs the benchmarks. go test runs one at a time, whatever the number of packages.
func (b *goBench) run(ctx context.Context) ([]result, error) {
	procs := runtime.GOMAXPROCS(0)
	args := []string{
		"test", "-run", "^$", "-bench", b.pattern, "-benchmem", "-timeout", "1h",
		"-count", strconv.Itoa(b.rounds), "-benchtime", b.time, "-cpu", strconv.Itoa(procs),
	}
	cmd := exec.CommandContext(ctx, "go", append(args, b.packages...)...)
	// The benchmarks are go's children: a group, so that they end with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = 5 * time.Second
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = b.out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	results, err := parseBench(io.TeeReader(stdout, b.out), procs)
	_, _ = io.Copy(b.out, stdout) // what follows a line that could not be read
	if werr := cmd.Wait(); werr != nil {
		return nil, fmt.Errorf("go test: %w", werr)
	}
	return results, err
}

// parseBench reads the output of go test -bench, in order, and of benchmarks that are there more than once the best.
// Procs is what -cpu was: the suffix of the names unless it is 1.
func parseBench(r io.Reader, procs int) (results []result, err error) {
	suffix := ""
	if procs != 1 {
		suffix = fmt.Sprintf("-%d", procs)
	}
	at := map[string]int{}
	pkg := ""
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if p, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = path.Base(p)
			continue
		}
		name, ok := strings.CutPrefix(line, "Benchmark")
		// Name, number of operations, then pairs of a value and its unit. A benchmark's own output may stand between.
		fields := strings.Fields(name)
		if !ok || len(fields) < 4 || len(fields)%2 != 0 {
			continue
		}
		res := result{name: pkg + "." + strings.TrimSuffix(fields[0], suffix)}
		for i := 2; i < len(fields); i += 2 {
			v, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("go test: %q: %w", line, err)
			}
			switch fields[i+1] {
			case "ns/op":
				res.ns = v
			case "allocs/op":
				res.allocs = uint64(v)
			case "B/op", "MB/s":
			default:
				if res.others == nil {
					res.others = map[string]float64{}
				}
				res.others[fields[i+1]] = v
			}
		}
		i, seen := at[res.name]
		switch {
		case !seen:
			at[res.name] = len(results)
			results = append(results, res)
		case res.ns < results[i].ns:
			results[i] = res
		}
	}
	return results, lines.Err()
}
