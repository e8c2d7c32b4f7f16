// Command testbed tests the library on real kernels. It boots arm64 Linux guests behind the virtual
// SMMUv3, runs the lab for bridge/iommufd, and measures a guest's disk. testbed help lists its
// commands.
//
// The same program is the runner on this machine, the init of the emulated arm64 host, the VMM on
// that host, and the init of the guest.
package main

import (
	"io"
	"os"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

const usage = `testbed: tests the virtual SMMUv3 on real kernels

Usage:
  testbed boot [flags]        boot a Linux guest whose disks' DMA goes through the SMMU
  testbed bench-boot [flags]  measure a guest's disk through the SMMU, here and in QEMU
  testbed tables [flags]      boot a Linux guest by many ACPI tables
  testbed lab [flags]         test bridge/iommufd on a real kernel
  testbed help COMMAND        show a command's flags; so does testbed COMMAND -h
  testbed help                show this text

Exit status:
  0    every check holds
  1    a check does not hold
  2    nothing was done (a bad flag, a file that is no arm64 kernel, something missing), or an output cannot be written
  3    the guest did not reach its end: the emulator or a kernel failed, the guest hung, or time ran out
  130  interrupted (128 plus the signal's number); no file and no process is left
`

var program = &cli.Program{Name: "testbed", Help: usage, Role: runInit}

func init() {
	program.Commands = map[string]func(args []string, stdout, stderr io.Writer) int{
		"boot":       bootCommand,
		"bench-boot": benchBootCommand,
		"lab":        labCommand,
		"tables":     tablesCommand,
	}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int { return program.Run(args, stdout, stderr) }

func complain(stderr io.Writer, err error) int { return program.Complain(stderr, err) }
