package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestParseBench(t *testing.T) {
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
	assert.Equal(t, []result{{".Read-2", 5, 0, nil}}, got, "with one processor names have no suffix")

	_, err = parseBench(strings.NewReader("BenchmarkX-2 100 fast ns/op\n"), 2)
	assert.ErrorContains(t, err, "BenchmarkX")
}

func TestReportHasNullsWhereThereIsNoPeer(t *testing.T) {
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

func TestPeerThatCannotBeFoundOrStarted(t *testing.T) {
	_, err := findPeer("/nonexistent")
	require.Error(t, err, "one that was asked for")

	t.Setenv("PATH", t.TempDir())
	path, err := findPeer("")
	require.NoError(t, err)
	assert.Empty(t, path)

	fake := filepath.Join(t.TempDir(), "qemu")
	require.NoError(t, os.WriteFile(fake, []byte("#!/bin/sh\n[ $1 = --version ] && exit 0\necho no such device >&2\n"), 0o755))
	_, err = measureQEMU(context.Background(), fake, 1, new(bytes.Buffer))
	assert.Error(t, err, "whether it is noticed in a write or in the answer that does not come")
	assert.ErrorContains(t, err, "no such device")
}
