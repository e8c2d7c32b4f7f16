// Package cli has the common parts of this project's commands: dispatch, exit codes, flags,
// one-line errors, output that records write errors, and text that is safe to print.
package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Exit codes. A signal gives 128 plus its number.
const (
	OK     = 0
	Failed = 1 // a check does not hold
	Usage  = 2 // nothing was done, or the output could not be written
	NoEnd  = 3 // a guest or a machine did not reach its end
)

// Program is a command line with commands.
type Program struct {
	Name     string
	Help     string // the text of help
	Commands map[string]func(args []string, stdout, stderr io.Writer) int
	// Role runs the program in a role, if args[0] names one. Roles are not commands for users. A
	// role returns only if it fails.
	Role func(role string) (ok bool, err error)
}

// Run runs the command that args name and returns the exit code. Output that cannot be written is a
// failure.
func (p *Program) Run(args []string, stdout, stderr io.Writer) int {
	out := &Output{Writer: stdout}
	code := p.dispatch(args, out, stderr)
	if err := out.Err(); code == OK && err != nil {
		return p.Complain(stderr, err)
	}
	return code
}

func (p *Program) dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, p.Help)
		return Usage
	}
	name, rest := args[0], args[1:]
	switch {
	case name == "help" && len(rest) > 0 && !isHelp(rest[0]):
		name, rest = rest[0], []string{"-h"}
	case isHelp(name):
		fmt.Fprint(stdout, p.Help)
		return OK
	}
	if command, ok := p.Commands[name]; ok {
		return command(rest, stdout, stderr)
	}
	if p.Role != nil {
		if ok, err := p.Role(args[0]); ok {
			return p.Complain(stderr, err)
		}
	}
	return p.Complain(stderr, fmt.Errorf("unknown command %q: see %s help", name, p.Name))
}

func isHelp(word string) bool {
	return slices.Contains([]string{"help", "-h", "-help", "--help"}, word)
}

// Complain prints an error on one line and returns Usage.
func (p *Program) Complain(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "%s: %s\n", p.Name, Printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	return Usage
}

// Parsed handles the error of a command's flags. done is true if the command must end, because it
// printed its help or the command line is invalid.
func (p *Program) Parsed(err error, command string, stderr io.Writer) (code int, done bool) {
	switch {
	case errors.Is(err, flag.ErrHelp):
		return OK, true
	case err != nil:
		return p.Complain(stderr, fmt.Errorf("%w: see %s %s -h", err, p.Name, command)), true
	}
	return OK, false
}

// Parse reads a command's flags, or prints its help to stdout and returns flag.ErrHelp.
func Parse(f *flag.FlagSet, args []string, help string, stdout io.Writer) error {
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, help)
		f.SetOutput(stdout)
		f.PrintDefaults()
	}
	return err
}
