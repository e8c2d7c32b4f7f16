// Package clitest tests the common behaviour of this project's command lines.
package clitest

import (
	"bytes"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

// Program is a command line under test.
type Program struct {
	*cli.Program
	// Run is the program's main function, without its exit.
	Run func(args []string, stdout, stderr io.Writer) int
}

// FullDisk is an output on a full disk.
type FullDisk struct{}

func (FullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// Refuses asserts that a command line is refused with one line that contains want.
func (p Program) Refuses(t *testing.T, want string, args ...string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	assert.Equal(t, cli.Usage, p.Run(args, &stdout, &stderr))
	assert.Contains(t, stderr.String(), want)
	assert.Equal(t, 1, strings.Count(stderr.String(), "\n"), "lines of %q", stderr.String())
	assert.Empty(t, stdout.String())
}

// ReportsFailedOutput asserts that a command line fails if its output cannot be written.
func (p Program) ReportsFailedOutput(t *testing.T, args ...string) {
	t.Helper()
	var stderr bytes.Buffer
	assert.Equal(t, cli.Usage, p.Run(args, FullDisk{}, &stderr), args)
	assert.Equal(t, p.Name+": no space left on device\n", stderr.String(), args)
}

// HelpGoesToStandardOutput asserts that each form of help prints to the standard output and
// succeeds. It also asserts that each command has help, and that a missing command fails.
func (p Program) HelpGoesToStandardOutput(t *testing.T) {
	t.Helper()
	help := func(args ...string) string {
		var stdout, stderr bytes.Buffer
		assert.Equal(t, cli.OK, p.Run(args, &stdout, &stderr), args)
		assert.Empty(t, stderr.String(), args)
		return stdout.String()
	}
	for _, args := range [][]string{
		{"help"}, {"-h"}, {"-help"}, {"--help"}, {"help", "help"}, {"help", "-h"},
	} {
		assert.Equal(t, p.Help, help(args...), args)
	}
	for name := range p.Commands {
		text := help("help", name)
		assert.Contains(t, text, "Usage: "+p.Name+" "+name)
		for _, flag := range []string{"-h", "--help"} {
			assert.Equal(t, text, help(name, flag))
		}
		assert.Contains(t, p.Help, "\n  "+p.Name+" "+name+" ")
	}
	var stdout, stderr bytes.Buffer
	assert.Equal(t, cli.Usage, p.Run(nil, &stdout, &stderr), "a command is missing")
	assert.Equal(t, p.Help, stderr.String())
}
