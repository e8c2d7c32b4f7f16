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

	"github.com/go-vsmmu/vsmmuv3/internal/replay"
)

func command(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestReplayShowsTheBootThatComesWithIt(t *testing.T) {
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

func TestReplayForPrograms(t *testing.T) {
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
	assert.Contains(t, out, "the device, saved, thrown away and restored at every step, did the same")
}

func TestReplayOfFilesThatAreNone(t *testing.T) {
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
	assert.Equal(t, 0, status, "what is there is as good as ever")
	assert.Contains(t, out, "cut off: the file ends")
	assert.Contains(t, out, "did the same as far as the transcript goes")
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		args   string
		status int
		want   string
	}{
		{"ste 0x5000000000400_02b 0xb6", 0, "S1ContextPtr  [55:6]     0x400000"},
		{"ste 0x5000000000400_02b 0xb6", 0, "S1Fmt         [5:4]      0x2       two-level/64KiB"},
		{"ste 0", 1, "ILLEGAL: V is 0 (§5.2.2), reported as C_BAD_STE"},
		{"ste f", 1, "ILLEGAL: Config needs a stage 2 that the SMMU does not have (§5.2.2)"},
		{"cd 0007_6205_c080_3510 43210000", 0, "ASID   [63:48]    0x7"},
		{"cd 0", 1, "C_BAD_CD"},
		{"cmd 0x1000000003 1", 0, "StreamID  [63:32]  0x10"},
		{"cmd 0x3046", 1, "ILLEGAL: CS is reserved (§4.7.3), reported as CERROR_ILL"},
		{"-ids 400 cmd 40 34", 0, "Size         [69:64]   0x34  everything"},
		{"event 3200000010 20800000000 5bad00000000", 0, "F_TRANSLATION: the address is not mapped"},
		{"idr 081810df", 0, "ST_LEVEL     IDR0 [28:27]  0x1  linear and two-level"},
		{"idr 081810df 0 0 0 0 0", 1, "no guest is shown these"},
		{"", 2, "nothing to decode"},
		{"foo 1", 2, `"foo" is none of ste, cd, cmd, event, idr`},
		{"ste", 2, "no words of the ste"},
		{"ste xyz", 2, `"xyz" is no word of 64 bits in hexadecimal`},
		{"idr 123456789", 2, "no word of 32 bits"},
		{"cmd 1 2 3", 2, "3 words, where there are 2 at most"},
		{"-ids z cmd 1", 2, "-ids"},
	} {
		status, out, errs := command(append([]string{"decode"}, strings.Fields(c.args)...)...)
		assert.Equal(t, c.status, status, c.args)
		assert.Contains(t, out+errs, c.want, c.args)
		if status == 2 {
			assert.Empty(t, out)
		}
	}
	_, out, _ := command("decode", "idr", "081810df")
	assert.NotContains(t, out, "IDR1", "only what was given")
}

func TestHelpOfReplayAndDecode(t *testing.T) {
	for _, c := range []string{"replay", "decode"} {
		status, out, errs := command(c, "-h")
		assert.Equal(t, 0, status)
		assert.Contains(t, out, "Usage: vsmmu "+c)
		assert.Empty(t, errs)
	}
}
