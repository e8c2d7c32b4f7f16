// Command vsmmu is the tool for users of this module. It replays transcripts of guests, and decodes
// the structures and ID registers of an SMMU. vsmmu help lists its commands.
package main

import (
	"io"
	"os"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

const usage = `vsmmu: a virtual SMMUv3 for arm64 guests

Usage:
  vsmmu replay [FILE]  replay a recorded guest against a new device and check that it behaves the same
  vsmmu decode KIND [WORD...]
                       explain words of the SMMU's structures and registers
  dmesg | vsmmu decode
                       explain the lines of SMMUs in a log
  vsmmu version        print the version of this program
  vsmmu help COMMAND   show a command's flags; so does vsmmu COMMAND -h
  vsmmu help           show this text

To record a transcript, use package transcript or make boot BOOT_FLAGS='-record FILE'.

Exit status:
  0    every check holds
  1    a check does not hold: a replay differs from its recording, or decoded words are illegal
  2    nothing was done (a bad flag, a file that is not a transcript), or output cannot be written
  130  interrupted (128 plus the signal's number)
`

var program = &cli.Program{Name: "vsmmu", Help: usage}

func init() {
	program.Commands = map[string]func(args []string, stdout, stderr io.Writer) int{
		"replay":  replayCommand,
		"decode":  decodeCommand,
		"version": versionCommand,
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && (args[0] == "-version" || args[0] == "--version") {
		args = append([]string{"version"}, args[1:]...)
	}
	return program.Run(args, stdout, stderr)
}

func complain(stderr io.Writer, err error) int { return program.Complain(stderr, err) }
