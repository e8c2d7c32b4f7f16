package main

import (
	"context"
	"flag"
	"io"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

const tablesUsage = `Usage: testbed tables [flags]

Boots an arm64 Linux guest by many ACPI tables, one after the other. They differ in what the IORT describes: the
interrupts of the SMMU, the ITS, ATS, reserved ranges, several SMMUs, named components, overrides. Checks for each
that the kernel blames no firmware, that interrupts are where the table says, and that the disks work.

Runs on the same machines as testbed boot. A small kernel boots in seconds.

Flags:
`

func tablesCommand(args []string, stdout, stderr io.Writer) int {
	o, err := parseTables(args, stdout)
	if code, done := program.Parsed(err, "tables", stderr); done {
		return code
	}
	var t *report.Tables
	code := follow(stdout, stderr, o.Report, func(ctx context.Context) (failure string, err error) {
		if t, err = boottest.Tables(ctx, o); err != nil {
			return "", err
		}
		return t.Error, nil
	})
	if code == cli.OK && !t.OK {
		return cli.Failed
	}
	return code
}

func parseTables(args []string, stdout io.Writer) (boottest.Options, error) {
	o := boottest.Options{
		Out: stdout, Transport: "mmio", Firmware: "acpi", PASIDBits: defaultPASIDBits, Stage: 1,
		Timeout: 30 * time.Minute,
	}
	f := flag.NewFlagSet("tables", flag.ContinueOnError)
	machineFlags(f, &o, "tables")
	f.StringVar(&o.Tables, "only", "",
		"boot by the tables `NAMES`, with commas between them, of:\n"+strings.Join(vm.TableNames(), ", "))
	return o, parse(f, &o, args, tablesUsage, stdout)
}
