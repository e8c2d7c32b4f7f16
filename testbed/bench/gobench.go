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

// goBench has the options of the Go benchmarks.
type goBench struct {
	packages []string
	pattern  string
	rounds   int
	time     string
	out      io.Writer // for the output of go test
}

// result is a Go benchmark's result.
type result struct {
	name   string // package.Name/sub
	ns     float64
	allocs uint64
	others map[string]float64 // the benchmark's other figures, by unit; may be nil
}

// run runs the benchmarks. go test runs one benchmark at a time, for any number of packages.
func (b *goBench) run(ctx context.Context) ([]result, error) {
	procs := runtime.GOMAXPROCS(0)
	args := []string{
		"test", "-run", "^$", "-bench", b.pattern, "-benchmem", "-timeout", "1h",
		"-count", strconv.Itoa(b.rounds), "-benchtime", b.time, "-cpu", strconv.Itoa(procs),
	}
	cmd := exec.CommandContext(ctx, "go", append(args, b.packages...)...)
	// The benchmarks are go's children, and a signal to the group ends them too.
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
	_, _ = io.Copy(b.out, stdout) // the rest of the output after an error
	if werr := cmd.Wait(); werr != nil {
		return nil, fmt.Errorf("go test: %w", werr)
	}
	return results, err
}

// parseBench parses the output of go test -bench. It keeps the order of the benchmarks, and the
// best result of each. Procs is the value of -cpu. The names have this value as a suffix unless it
// is 1.
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
		// A result is a name, the number of operations, and pairs of a value and its unit. Other
		// lines are a benchmark's output.
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
