package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/cmd/vsmmu/internal/replay"
)

func command(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestReplayWithoutFileShowsDebian(t *testing.T) {
	status, out, errs := command("replay")
	assert.Equal(t, 0, status, errs)
	assert.Empty(t, errs)
	for _, want := range []string{
		"IDR0  S1P ", "Stream 0x10 (plain): bind-guest-stage calls", "s1dss=substream 0 s1cdmax=6", "SYNC ",
		"F_TRANSLATION stream 0x32 read at 0x5bad00000000: the address is not mapped", "OK: replayed",
	} {
		assert.Contains(t, out, want)
	}
	assert.NotContains(t, out, "\x1b", "colours are for terminals")
}

func TestReplayPrintsJSON(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace.json")
	status, out, errs := command("replay", "-json", "-trace", trace)
	require.Equal(t, 0, status, errs)
	var s replay.Summary
	require.NoError(t, json.Unmarshal([]byte(out), &s))
	assert.True(t, s.OK)
	assert.Len(t, s.Streams, 3)
	b, err := os.ReadFile(trace)
	require.NoError(t, err)
	assert.True(t, json.Valid(b))
}

func TestReplayOnRestoredDevices(t *testing.T) {
	status, out, errs := command("replay", "-restored")
	assert.Equal(t, 0, status, errs)
	assert.Contains(t, out, "the device, restored into a new one at every step, behaved the same")
}

func TestReplayRefusesInvalidFiles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, b, 0o600))
		return path
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{filepath.Join(dir, "nosuch")}, "no such file"},
		{[]string{file("foreign", []byte("#!/bin/sh\n"))}, "not a transcript"},
		{[]string{file("newer", []byte("vsmmu-tr\x03\x00"))}, "newer version"},
		{[]string{file("corrupt", []byte("vsmmu-tr\x01\x00junk"))}, "corrupt"},
		{[]string{"-nosuch"}, "see vsmmu replay -h"},
		{[]string{"a", "b"}, `unexpected argument "b"`},
		{[]string{"-trace", filepath.Join(dir, "no", "such", "directory")}, "the trace"},
	} {
		status, out, errs := command(append([]string{"replay"}, c.args...)...)
		assert.Equal(t, 2, status)
		assert.Empty(t, out)
		assert.Contains(t, errs, c.want)
		assert.Equal(t, 1, strings.Count(errs, "\n"))
	}
	status, out, _ := command("replay", file("cut", replay.Debian[:len(replay.Debian)/2]))
	assert.Equal(t, 0, status, "the entries before the cut are valid")
	assert.Contains(t, out, "cut off: the file ends")
	assert.Contains(t, out, "behaved the same up to the cut")
}

func TestHelpOfReplayAndDecode(t *testing.T) {
	for _, c := range []string{"replay", "decode"} {
		status, out, errs := command(c, "-h")
		assert.Equal(t, 0, status)
		assert.Contains(t, out, "Usage: vsmmu "+c)
		assert.Empty(t, errs)
	}
}
