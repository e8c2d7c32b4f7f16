// Command vsmmu shows the virtual SMMUv3 of this module at work: it boots arm64 Linux guests behind it, replays what a
// recorded guest did to it, and explains single structures of the SMMU. vsmmu help lists its commands.
//
// The same program is the runner on the machine at hand, the init of the arm64 host that the runner has QEMU emulate
// where there is none, the VMM in there, and the init of the guest.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/internal/lines"
)

// Exit codes, as the help lists them. A signal gives 128 plus its number.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	exitNoEnd  = 3
)

const usage = `vsmmu: an arm64 guest behind a virtual SMMUv3

Usage:
  vsmmu boot [flags]   boot a Linux guest whose disks' DMA goes through the SMMU
  vsmmu bench-boot [flags]
                       have it read its disk, here and in QEMU, and compare
  vsmmu lab [flags]    have a real kernel's iommufd carry out the guest's stage 1
  vsmmu replay [FILE]  show and check again what a guest did to the SMMU, here and now
  vsmmu decode KIND HEX...
                       explain words of the SMMU's structures
  vsmmu help COMMAND   the flags of a command; so does vsmmu COMMAND -h
  vsmmu help           this text

Exit status:
  0    every check held
  1    a check did not hold; for replay: the device does otherwise than was recorded; for decode: something is illegal
  2    nothing was done: a bad flag, a file that is no arm64 kernel or no transcript, something missing;
       or the output could not be written
  3    the guest did not come to its end: it panicked, hung, or ran out of time
  130  interrupted (128 plus the signal's number)
`

var commands = map[string]func(args []string, stdout, stderr io.Writer) int{
	"boot":       bootCommand,
	"bench-boot": benchBootCommand,
	"lab":        labCommand,
	"replay":     replayCommand,
	"decode":     decodeCommand,
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program. What nobody could read has not succeeded.
func run(args []string, stdout, stderr io.Writer) int {
	out := &output{Writer: stdout}
	code := dispatch(args, out, stderr)
	if err := out.failure(); code == exitOK && err != nil {
		return complain(stderr, err)
	}
	return code
}

func dispatch(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	name, rest := args[0], args[1:]
	switch {
	case name == "help" && len(rest) > 0:
		name, rest = rest[0], []string{"-h"}
	case slices.Contains([]string{"help", "-h", "-help", "--help"}, name):
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if command, ok := commands[name]; ok {
		return command(rest, stdout, stderr)
	}
	if isInit, err := runInit(args[0]); isInit {
		// An init that returns has failed even to power off: its kernel panics, and that ends the machine.
		return complain(stderr, err)
	}
	return complain(stderr, fmt.Errorf("unknown command %q: see vsmmu help", name))
}

// complain prints the one line that a failure deserves.
func complain(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "vsmmu:", lines.Printable(strings.ReplaceAll(err.Error(), "\n", "; ")))
	return exitUsage
}
