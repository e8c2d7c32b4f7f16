package main

import (
	"bytes"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestBadCommandLinesGetOneLineAndStatus2(t *testing.T) {
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

// fullDisk takes no output.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWrittenIsStatus2(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"replay", "-h"}, {"help", "decode"}, {"decode", "cmd", "46"}, {"replay"}} {
		var stderr bytes.Buffer
		assert.Equal(t, 2, run(args, fullDisk{}, &stderr), args)
		assert.Equal(t, "vsmmu: no space left on device\n", stderr.String(), args)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"-h"}, {"--help"}, {"replay", "-h"}, {"replay", "--help"}} {
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
	assert.Equal(t, 2, run(nil, &stdout, &stderr), "no command is a mistake")
	assert.Contains(t, stderr.String(), "Usage:")
}

// No word too many is taken, and none that is too wide or no number.
func TestDecodeOfWordsThatCannotBe(t *testing.T) {
	words := func(kind string, n int) []string {
		return append([]string{"decode", kind}, slices.Repeat([]string{"0"}, n)...)
	}
	for _, tt := range []struct {
		args []string
		says string
	}{
		{words("ste", 9), "9 words, where there are 8 at most"},
		{words("cd", 9), "9 words, where there are 8 at most"},
		{words("cmd", 3), "3 words, where there are 2 at most"},
		{words("event", 5), "5 words, where there are 4 at most"},
		{words("idr", 9), "9 words, where there are 8 at most"},
		{[]string{"decode", "ste", "1_0000_0000_0000_0000"}, "no word of 64 bits"},
		{[]string{"decode", "idr", "1_0000_0000"}, "no word of 32 bits"},
		{[]string{"decode", "cmd", "-1"}, "no word of 64 bits"},
		{[]string{"decode", "cmd", "0x"}, "no word of 64 bits"},
		{[]string{"decode", "cmd", "\x1b[2J"}, "no word of 64 bits"},
		{[]string{"decode", "-ids", "0,0,0,0,0,0,0,0,0", "cmd", "46"}, "-ids: 9 words"},
		{[]string{"decode", "-ids", "1_0000_0000", "cmd", "46"}, "-ids: \"1_0000_0000\" is no word of 32 bits"},
	} {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, 2, run(tt.args, &stdout, &stderr), tt.args)
		assert.Contains(t, stderr.String(), tt.says, tt.args)
		assert.NotContains(t, stderr.String(), "\x1b", tt.args)
		assert.Empty(t, stdout.String(), tt.args)
	}
}

func TestDecodeOfAllIDRegisters(t *testing.T) {
	var stdout, stderr bytes.Buffer
	run([]string{"decode", "idr", "0", "0", "0", "0", "0", "0", "1234543b", "3"}, &stdout, &stderr)
	for _, line := range []string{
		`(?m)^Implementer +IIDR \[11:0\] +0x43b$`, `(?m)^Revision +IIDR \[15:12\] +0x5$`,
		`(?m)^Variant +IIDR \[19:16\] +0x4$`, `(?m)^ProductID +IIDR \[31:20\] +0x123$`, `(?m)^ArchMinor +AIDR \[3:0\] +0x3 +SMMUv3\.3$`,
	} {
		assert.Regexp(t, line, stdout.String())
	}
}
