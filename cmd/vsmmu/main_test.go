package main

import (
	"strings"
	"testing"

	"github.com/go-vsmmu/vsmmuv3/internal/cli/clitest"
)

// line is the command line under test.
var line = clitest.Program{Program: program, Run: run}

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
			line.Refuses(t, tt.want, tt.args...)
		})
	}
}

func TestFailedOutputIsStatus2(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"replay", "-h"}, {"help", "decode"}, {"decode", "cmd", "46"}, {"replay"}} {
		line.ReportsFailedOutput(t, args...)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) { line.HelpGoesToStandardOutput(t) }
