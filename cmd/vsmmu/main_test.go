package main

import (
	"bytes"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBadCommandLineIsOneLineAndStatus2(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"bot"}, `unknown command "bot": see vsmmu help`},
		{[]string{"help", "bot"}, `unknown command "bot": see vsmmu help`},
		{[]string{"replay", "-nosuch"}, "-nosuch: see vsmmu replay -h"},
		{[]string{"decode", "-nosuch"}, "-nosuch: see vsmmu decode -h"},
		{[]string{"replay", "a", "b"}, `unexpected argument "b" after FILE`},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			args := tt.args
			var stdout, stderr bytes.Buffer
			assert.Equal(t, 2, run(args, &stdout, &stderr))
			assert.Contains(t, stderr.String(), tt.want)
			assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "one line, not %q", stderr.String())
			assert.Empty(t, stdout.String())
		})
	}
}

// fullDisk is an output on a full disk.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestFailedOutputIsStatus2(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"replay", "-h"}, {"help", "decode"}, {"decode", "cmd", "46"}, {"replay"}} {
		var stderr bytes.Buffer
		assert.Equal(t, 2, run(args, fullDisk{}, &stderr), args)
		assert.Equal(t, "vsmmu: no space left on device\n", stderr.String(), args)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range [][]string{
		{"help"}, {"-h"}, {"--help"}, {"help", "help"}, {"help", "-h"}, {"replay", "-h"}, {"replay", "--help"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 0, run(args, &stdout, &stderr), args)
		assert.Contains(t, stdout.String(), "Usage:")
		assert.Empty(t, stderr.String())
	}
	for name := range program.Commands {
		var asked, flagged, stderr bytes.Buffer
		assert.Equal(t, 0, run([]string{"help", name}, &asked, &stderr), name)
		assert.Equal(t, 0, run([]string{name, "-h"}, &flagged, &stderr), name)
		assert.Contains(t, asked.String(), "Usage: vsmmu "+name)
		assert.Equal(t, flagged.String(), asked.String())
		assert.Contains(t, usage, "\n  vsmmu "+name+" ")
		assert.Empty(t, stderr.String())
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, 2, run(nil, &stdout, &stderr), "a command is required")
	assert.Contains(t, stderr.String(), "Usage:")
}
