package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

func TestParseBenchKeepsTheBestOfEachBenchmark(t *testing.T) {
	const output = `goos: linux
pkg: github.com/go-vsmmu/vsmmuv3/vsmmu
BenchmarkCommands/SYNC-2         	 2811039	        86.60 ns/op	       0 B/op	       0 allocs/op
BenchmarkCommands/SYNC-2         	 2811039	        21.5 ns/op	         7.000 held	       0 B/op	       1 allocs/op
BenchmarkCommands/TLBI-32-2      	 2811039	        40 ns/op
Benchmark says something of its own
BenchmarkHeading
PASS
pkg: github.com/go-vsmmu/vsmmuv3/bridge/soft
BenchmarkRead-2   	     100	      1e+03 ns/op	4096.00 MB/s	       2 B/op	       0 allocs/op
`
	got, err := parseBench(strings.NewReader(output), 2)
	require.NoError(t, err)
	assert.Equal(t, []result{
		{"vsmmu.Commands/SYNC", 21.5, 1, map[string]float64{"held": 7}},
		{"vsmmu.Commands/TLBI-32", 40, 0, nil},
		{"soft.Read", 1000, 0, nil},
	}, got)

	got, err = parseBench(strings.NewReader("BenchmarkRead-2 1 5 ns/op\n"), 1)
	require.NoError(t, err)
	assert.Equal(t, []result{{".Read-2", 5, 0, nil}}, got, "on one processor names have no suffix")

	_, err = parseBench(strings.NewReader("BenchmarkX-2 100 fast ns/op\n"), 2)
	assert.ErrorContains(t, err, "BenchmarkX")
}

func TestReportHasNullsWithoutAPeer(t *testing.T) {
	entries := join([]result{{"vsmmu.Commands/SYNC", 10, 0, nil}, {"vsmmu.Load", 4, 1, map[string]float64{"x-one": 1.9, "held": 7}}}, map[string]float64{"vsmmu.Commands/SYNC": 36})
	out, err := json.Marshal(entries)
	require.NoError(t, err)
	assert.JSONEq(t, `[
		{"name": "vsmmu.Commands/SYNC", "ns_per_op": 10, "allocs_per_op": 0, "peer": "QEMU smmuv3", "peer_ns_per_op": 36, "ratio": 3.6},
		{"name": "vsmmu.Load", "ns_per_op": 4, "allocs_per_op": 1, "peer": null, "peer_ns_per_op": null, "ratio": null, "others": {"held": 7, "x-one": 1.9}}
	]`, string(out))

	out, err = json.Marshal(join(nil, nil))
	require.NoError(t, err)
	assert.Equal(t, "[]", string(out))

	var text bytes.Buffer
	require.NoError(t, table(&text, entries))
	assert.Contains(t, text.String(), "36.0   3.60  vsmmu.Commands/SYNC\n")
	assert.Contains(t, text.String(), "-      -  vsmmu.Load  7 held  1.9 x-one\n")
}

func TestCommandLine(t *testing.T) {
	o, err := parse(nil, nil)
	require.NoError(t, err)
	assert.Equal(t, packages, o.packages)
	o, err = parse([]string{"-count", "5", "-bench", "Load", "./vsmmu"}, nil)
	require.NoError(t, err)
	assert.Equal(t, []string{"./vsmmu"}, o.packages)
	assert.Equal(t, 5, o.rounds)

	_, err = parse([]string{"-count", "0"}, nil)
	assert.ErrorContains(t, err, "-count 0")
	_, err = parse([]string{"-nosuch"}, nil)
	assert.ErrorContains(t, err, "-nosuch")

	var help bytes.Buffer
	_, err = parse([]string{"-h"}, &help)
	assert.ErrorIs(t, err, flag.ErrHelp)
	assert.Contains(t, help.String(), "Usage:")
	assert.Contains(t, help.String(), "-benchtime")
}

// measuring returns options for a run. The go program of the run executes the shell script, then
// prints one benchmark. The peer fails.
func measuring(t *testing.T, script string) options {
	dir := t.TempDir()
	bin, peer := filepath.Join(dir, "go"), filepath.Join(dir, "qemu")
	require.NoError(t, os.WriteFile(bin, []byte("#!/bin/sh\n"+script+"\necho pkg: example/vsmmu\necho 'BenchmarkLoad 100 5 ns/op'\n"), 0o755))
	require.NoError(t, os.WriteFile(peer, []byte("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no such device >&2\n"), 0o755))
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return options{goBench: goBench{out: io.Discard, packages: packages, rounds: 1}, qemu: peer, report: filepath.Join(dir, "out", "report.json")}
}

func TestTableIsPrintedBeforeTheReportIsWritten(t *testing.T) {
	o := measuring(t, "rm -r "+"$(dirname $0)/out")
	var out bytes.Buffer
	err := run(t.Context(), o, &out)
	require.ErrorIs(t, err, reportfile.ErrWrite)
	assert.Contains(t, out.String(), "vsmmu.Load")
	assert.NotContains(t, out.String(), "report:")
}

func TestPeerThatFailsLeavesTheBenchmarks(t *testing.T) {
	o := measuring(t, "")
	var out bytes.Buffer
	assert.ErrorContains(t, run(t.Context(), o, &out), "no such device")
	assert.Contains(t, out.String(), "vsmmu.Load")
	data, err := os.ReadFile(o.report)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"ns_per_op": 5`)
}

func TestBenchmarksThatFailKeepTheEarlierReport(t *testing.T) {
	o := measuring(t, "exit 1")
	require.NoError(t, os.MkdirAll(filepath.Dir(o.report), 0o755))
	require.NoError(t, os.WriteFile(o.report, []byte("[]"), 0o644))
	assert.ErrorContains(t, run(t.Context(), o, io.Discard), "go test: exit status 1")
	data, err := os.ReadFile(o.report)
	require.NoError(t, err)
	assert.Equal(t, "[]", string(data))
}

func TestExitStatus(t *testing.T) {
	o := measuring(t, "")
	for _, tt := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"-h"}, 0, ""},
		{[]string{"-nosuch"}, 2, "-nosuch"},
		{[]string{"-count", "0"}, 2, "-count 0"},
		{[]string{"-qemu", "/nonexistent", "-report", o.report}, 2, "-qemu: "},
		{[]string{"-report", filepath.Dir(o.report) + "/../go/report.json"}, 2, "cannot write the report"},
		{[]string{"-qemu", o.qemu, "-report", o.report}, 1, "no such device"},
	} {
		var stderr bytes.Buffer
		assert.Equal(t, tt.status, status(tt.args, io.Discard, &stderr), tt.args)
		assert.Contains(t, stderr.String(), tt.says)
		assert.LessOrEqual(t, strings.Count(stderr.String(), "\n"), 1, "one line")
	}
}

func TestPeerThatCannotBeFoundOrStarted(t *testing.T) {
	_, err := findPeer("/nonexistent")
	require.Error(t, err, "a path that was given")

	t.Setenv("PATH", t.TempDir())
	path, err := findPeer("")
	require.NoError(t, err)
	assert.Empty(t, path)

	fake := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(fake, []byte("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no such device >&2\n"), 0o755))
	_, err = measureQEMU(context.Background(), fake, 1, new(bytes.Buffer))
	assert.Error(t, err, "in a write or in a read")
	assert.ErrorContains(t, err, "no such device")
}
